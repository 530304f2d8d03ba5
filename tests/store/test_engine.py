"""Connections and transactions: retries, reported errors, and the state of the pool."""

from __future__ import annotations

import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Connection, Engine, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.store.engine import connection, fetch, run, transaction
from otpqueue.store.schema import clients
from otpqueue.store.sessions import TimeLimits
from tests.store.conftest import NOW, MakeEngine, Store


def raise_in_postgres(conn: Connection, sqlstate: str) -> None:
    """Have Postgres report an error of its own choosing."""
    conn.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'as asked' USING ERRCODE = '{sqlstate}'; END $$"))


def add_client(conn: Connection, name: str) -> None:
    """Store a client."""
    conn.execute(insert(clients).values(id=uuid4(), name=name, created_at=NOW))


def names(engine: Engine) -> list[str]:
    """Return the names of the clients."""
    with connection(engine) as conn:
        return list(conn.execute(select(clients.c.name).order_by(clients.c.name)).scalars())


def test_statements_outside_a_transaction_commit_at_once(engine: Engine) -> None:
    """Without a transaction each statement commits on its own, also on a reused connection."""
    transaction(engine, lambda conn: add_client(conn, "a"))

    with connection(engine) as conn:
        add_client(conn, "b")
        assert names(engine) == ["a", "b"]


def test_transaction_is_whole_or_nothing(engine: Engine) -> None:
    """`work` is committed when it returns and rolled back when it raises; its result is returned."""

    def fails(conn: Connection) -> None:
        add_client(conn, "b")
        raise LookupError("as asked")

    result = transaction(engine, lambda conn: (add_client(conn, "a"), 7)[1])
    with pytest.raises(LookupError, match="as asked"):
        transaction(engine, fails)

    assert result == 7
    assert names(engine) == ["a"]


@pytest.mark.parametrize("sqlstate", ["40001", "40P01", "23505"])
def test_passing_conflict_is_tried_again(engine: Engine, sqlstate: str) -> None:
    """A deadlock, a serialization failure and a row made by another session first: the work is run again."""
    runs = 0

    def work(conn: Connection) -> str:
        nonlocal runs
        runs += 1
        add_client(conn, "a")
        if runs < 4:
            raise_in_postgres(conn, sqlstate)
        return "done"

    assert transaction(engine, work) == "done"
    assert runs == 4
    assert names(engine) == ["a"]


@pytest.mark.parametrize("sqlstate", ["23503", "22012", "42P01"])
def test_lasting_error_is_not_tried_again(engine: Engine, sqlstate: str) -> None:
    """What would fail again fails at once."""
    runs = 0

    def work(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        raise_in_postgres(conn, sqlstate)

    with pytest.raises(DBAPIError, match="as asked"):
        transaction(engine, work)

    assert runs == 1


def test_lasting_conflict_is_reported(engine: Engine) -> None:
    """After the last retry the error is raised."""
    transaction(engine, lambda conn: add_client(conn, "a"))

    with pytest.raises(IntegrityError, match="clients_name_key"):
        transaction(engine, lambda conn: add_client(conn, "a"))


def test_sessions_that_deadlock_both_get_done(engine: Engine) -> None:
    """Two transactions that lock the same rows in opposite order: one is run again, and both commit."""
    for name in ("a", "b"):
        transaction(engine, lambda conn, name=name: add_client(conn, name))
    meet = Barrier(2)
    runs: list[str] = []

    def work(order: str) -> None:
        first_time = True

        def lock(conn: Connection) -> None:
            nonlocal first_time
            runs.append(order)
            for name in order:
                query = select(clients.c.id).where(clients.c.name == name).with_for_update()
                conn.execute(query)
                if first_time:
                    first_time = False
                    meet.wait(10)

        transaction(engine, lock)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work, order) for order in ("ab", "ba")]:
            done.result(timeout=30)

    assert len(runs) >= 3


def test_unreachable_postgres_is_unavailable(other_engine: MakeEngine) -> None:
    """Without a server, DatabaseUnavailable is raised."""
    engine = other_engine("postgresql://user@127.0.0.1:1/none")

    with pytest.raises(DatabaseUnavailable) as caught, connection(engine):
        pass
    with pytest.raises(DatabaseUnavailable):
        transaction(engine, lambda _: None)

    assert caught.value.retry_after_s


@pytest.mark.parametrize("url", ["postgres://", "postgresql://", "postgresql+psycopg://"])
def test_every_usual_form_of_url_works(store_url: str, other_engine: MakeEngine, url: str) -> None:
    """What hosters write in DATABASE_URL is understood."""
    with connection(other_engine(url + store_url.partition("://")[2])) as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1


def test_wrong_password_or_name_is_unavailable(store_url: str, other_engine: MakeEngine) -> None:
    """A database that does not exist is unavailable, and the error hides the password."""
    engine = other_engine(store_url.rpartition("/")[0] + "/does_not_exist")

    with pytest.raises(DatabaseUnavailable) as caught, connection(engine):
        pass

    assert "does_not_exist" not in str(caught.value)


@pytest.fixture
def small_pool(store_url: str, other_engine: MakeEngine) -> Engine:
    """Return an engine with one connection and little patience."""
    return other_engine(store_url, pool_size=1, limits=TimeLimits(wait_s=0.1))


def test_exhausted_pool_is_unavailable(small_pool: Engine) -> None:
    """When all connections are lent out, waiting ends in the answer of an outage; then it works again."""
    with connection(small_pool):
        with pytest.raises(DatabaseUnavailable), connection(small_pool):
            pass
        with pytest.raises(DatabaseUnavailable):
            transaction(small_pool, lambda _: None)

    with connection(small_pool) as conn:
        assert conn.execute(text("SELECT 1")).scalar_one() == 1


@pytest.mark.parametrize("where", ["in use", "in a transaction"])
def test_connection_that_breaks_is_replaced(
    store: Store, store_url: str, other_engine: MakeEngine, where: str
) -> None:
    """A connection that Postgres ended under a call costs that call; the pool then has a good one."""
    engine = other_engine(store_url, pool_size=1)

    def pid(conn: Connection) -> int:
        found: int = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
        return found

    def end(backend: int) -> None:
        store.conn.execute(text("SELECT pg_terminate_backend(:pid, 2000)"), {"pid": backend})

    def use(conn: Connection) -> None:
        end(pid(conn))
        conn.execute(text("SELECT 1"))

    def use_alone() -> None:
        with connection(engine) as conn:
            use(conn)

    with connection(engine) as conn:
        backend = pid(conn)
    with pytest.raises(DatabaseUnavailable):
        transaction(engine, use) if where == "in a transaction" else use_alone()

    with connection(engine) as conn:
        assert pid(conn) != backend


def test_connection_is_lent_and_given_back(store_url: str, other_engine: MakeEngine) -> None:
    """Many threads share few connections, and none is lost when a caller fails."""
    engine = other_engine(store_url, pool_size=2)

    def fail() -> None:
        with connection(engine) as conn:
            conn.execute(text("SELECT 1"))
            raise LookupError("as asked")

    def work(number: int) -> int:
        with pytest.raises(LookupError, match="as asked"):
            fail()
        with connection(engine) as conn:
            found: int = conn.execute(text("SELECT :n"), {"n": number}).scalar_one()
            return found

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(work, range(40))) == list(range(40))


def test_error_in_the_callers_own_code_passes_through(engine: Engine) -> None:
    """What is not the database's fault is not called so."""
    with pytest.raises(KeyError, match="mine"), connection(engine):
        raise KeyError("mine")


def test_error_texts_hold_no_values(engine: Engine) -> None:
    """The values of a statement do not appear in its error."""

    def work(conn: Connection) -> None:
        conn.execute(text("SELECT 1 / (length(:secret) - length(:secret))"), {"secret": "s3cret"})

    with pytest.raises(DBAPIError) as caught:
        transaction(engine, work)

    assert "s3cret" not in str(caught.value)


def test_error_texts_hold_no_rows(engine: Engine) -> None:
    """Postgres quotes the refused row in its error; ours hides it."""
    name = uuid4().hex
    transaction(engine, lambda conn: add_client(conn, name))

    with pytest.raises(IntegrityError, match="duplicate key value") as caught:
        run(engine, lambda conn: add_client(conn, name))

    assert name not in "".join(traceback.format_exception(caught.value))


def test_sessions_are_in_utc_and_named(engine: Engine) -> None:
    """Postgres's own times are UTC here, and its session list shows the application's name."""
    with connection(engine) as conn:
        assert conn.execute(text("SHOW timezone")).scalar_one() == "UTC"
        assert conn.execute(text("SHOW application_name")).scalar_one() == "otpqueue"


def test_constant_statement_is_prepared_once_and_commits_at_once(engine: Engine) -> None:
    """`fetch` returns named rows, commits, and prepares its statement on the connection."""
    statement = "INSERT INTO clients (id, name, created_at) VALUES (%(id)s, %(name)s, %(now)s) RETURNING name"

    for number in range(8):
        (row,) = fetch(engine, statement, {"id": uuid4(), "name": f"c{number}", "now": NOW})
        assert row.name == f"c{number}"

    assert names(engine) == [f"c{number}" for number in range(8)]
    prepared = fetch(engine, "SELECT statement FROM pg_prepared_statements", {})
    assert any("INSERT INTO clients" in row.statement for row in prepared)


def test_constant_statement_is_retried_after_a_unique_violation_only_if_asked(engine: Engine) -> None:
    """A row that another session made first is waited out with `retry_unique`; its error has no values."""
    statement = "INSERT INTO clients (id, name, created_at) VALUES (%(id)s, 'a', %(now)s) RETURNING name"
    fetch(engine, statement, {"id": uuid4(), "now": NOW})

    with pytest.raises(psycopg.errors.UniqueViolation) as raised:
        fetch(engine, statement, {"id": uuid4(), "now": NOW})
    assert "DETAIL" not in str(raised.value)

    def remove() -> None:
        time.sleep(0.1)
        fetch(engine, "DELETE FROM clients WHERE name = 'a' RETURNING name", {})

    with ThreadPoolExecutor() as pool:
        removing = pool.submit(remove)
        assert fetch(engine, statement, {"id": uuid4(), "now": NOW}, retry_unique=True)[0].name == "a"
        removing.result()


def test_constant_statement_on_a_connection_that_was_cut_is_unavailable(
    engine: Engine, small_pool: Engine
) -> None:
    """The caller gets DatabaseUnavailable once, and the next statement a fresh connection."""
    cut = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(DatabaseUnavailable):
        fetch(small_pool, cut, {})

    assert fetch(small_pool, "SELECT 1 AS one", {})[0].one == 1


def test_constant_statement_without_a_free_connection_is_unavailable(small_pool: Engine) -> None:
    """An exhausted pool is reported within the time-out."""
    with connection(small_pool), pytest.raises(DatabaseUnavailable):
        fetch(small_pool, "SELECT 1 AS one", {})
