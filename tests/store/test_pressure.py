"""A slow, full, restarted or unreachable database: errors, time-outs and recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
import structlog
from sqlalchemy import Connection, Engine, insert, make_url, select, text
from sqlalchemy.exc import DBAPIError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.embedded import EngineHome, Postgres
from otpqueue.store.engine import allow_time, connection, run, transaction
from otpqueue.store.schema import clients
from otpqueue.store.sessions import TimeLimits
from tests.store.conftest import NOW, MakeEngine, Store
from tests.store.test_engine import raise_in_postgres

SHORT = TimeLimits(wait_s=0.2, statement_s=0.3, lock_s=0.15, idle_in_transaction_s=0.1)
LONG_SLEEP = text("SELECT pg_sleep(20)")

Run = Callable[[Engine, Callable[[Connection], Any]], Any]


def alone(engine: Engine, work: Callable[[Connection], Any]) -> Any:
    """Run `work` on a connection and not again."""
    with connection(engine) as conn:
        return work(conn)


every_way = pytest.mark.parametrize("way", [alone, run, transaction])


def pid(conn: Connection) -> int:
    """Return the process at the other end."""
    found: int = conn.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def shown(conn: Connection, name: str) -> str:
    """Return a setting of the session."""
    value: str = conn.execute(text(f"SHOW {name}")).scalar_one()
    return value


def at_once(count: int, call: Callable[[], Any]) -> list[Any]:
    """Make as many calls at the same time, each in a thread of its own."""
    with ThreadPoolExecutor(count) as threads:
        return [done.result(30) for done in [threads.submit(call) for _ in range(count)]]


def fill(engine: Engine, count: int) -> set[int]:
    """Open that many connections in the pool, and return their processes."""
    meet = Barrier(count)

    def open_one() -> int:
        with connection(engine) as conn:
            meet.wait(10)
            return pid(conn)

    return set(at_once(count, open_one))


# --- connections that have died


def test_idle_connections_that_were_cut_cost_no_call(
    store: Store, store_url: str, other_engine: MakeEngine
) -> None:
    """All of the pool's connections are ended while idle: as many calls at once do not notice."""
    engine = other_engine(store_url, pool_size=4)
    before = fill(engine, 4)
    for backend in before:
        assert store.conn.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend}).scalar()

    after = fill(engine, 4)

    assert len(after) == 4
    assert not before & after


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """Yield a server that the test may stop."""
    with EngineHome(tmp_path / "engines") as home, Postgres(home.path / "pg", durable=False) as postgres:
        yield postgres


def test_restart_of_postgres_costs_no_call_that_comes_after_it(
    own_postgres: Postgres, other_engine: MakeEngine
) -> None:
    """A restart goes unnoticed; while the server is down calls fail, and afterwards they work again."""
    engine = other_engine(own_postgres.url, pool_size=4)
    before = fill(engine, 4)
    own_postgres.stop()
    own_postgres.start()
    assert len(fill(engine, 4)) == 4  # no call has failed yet, so the pool does not know
    own_postgres.stop()
    for way in (alone, run, transaction):
        with pytest.raises(DatabaseUnavailable):
            way(engine, pid)
    own_postgres.start()

    after = at_once(16, lambda: run(engine, pid))

    assert not before & set(after)
    assert len(fill(engine, 4)) == 4


@every_way
def test_statement_that_may_have_been_executed_is_not_run_again(
    engine: Engine, store_url: str, other_engine: MakeEngine, way: Run
) -> None:
    """A connection that breaks during a statement is reported, not retried."""
    runs = 0

    def work(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        conn.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    cut = other_engine(store_url, pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        way(cut, work)

    assert runs == 1
    assert way(cut, pid)


def test_connections_notice_a_host_that_vanished(engine: Engine) -> None:
    """A connection to a vanished host ends, idle or waiting."""
    with connection(engine) as conn:
        parameters = conn.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]

    assert int(parameters["tcp_user_timeout"]) == 10_000
    assert int(parameters["keepalives_idle"]) + 3 * int(parameters["keepalives_interval"]) < 15
    assert parameters["keepalives_count"] == "3"


# --- statements that take too long


@every_way
def test_statement_that_takes_too_long_is_unavailable(
    store_url: str, other_engine: MakeEngine, way: Run
) -> None:
    """It ends with DatabaseUnavailable, and the connection stays usable."""
    engine = other_engine(store_url, pool_size=1, limits=SHORT)
    backend = way(engine, pid)

    with pytest.raises(DatabaseUnavailable) as caught:
        way(engine, lambda conn: conn.execute(LONG_SLEEP))

    assert caught.value.retry_after_s
    assert way(engine, pid) == backend


@every_way
def test_lock_that_is_not_let_go_is_unavailable(
    store: Store, store_url: str, other_engine: MakeEngine, way: Run
) -> None:
    """Waiting for a lock ends before the statement's own time, and works again when the lock is free."""
    client = {"id": store.client_id}
    engine = other_engine(store_url, limits=TimeLimits(statement_s=15, lock_s=0.1))
    rename = text("UPDATE clients SET name = 'other' WHERE id = :id")

    def while_locked(conn: Connection) -> None:
        conn.execute(text("SELECT 1 FROM clients WHERE id = :id FOR UPDATE"), client)
        with pytest.raises(DatabaseUnavailable):
            way(engine, lambda other: other.execute(rename, client))

    transaction(store.engine, while_locked)

    assert way(engine, lambda conn: conn.execute(rename, client).rowcount) == 1


def test_pause_in_a_transaction_ends_it(store_url: str, other_engine: MakeEngine) -> None:
    """An open transaction does not keep its locks; its caller gets DatabaseUnavailable."""
    engine = other_engine(store_url, pool_size=1, limits=SHORT)

    def work(conn: Connection) -> None:
        backend = pid(conn)
        with connection(watcher) as other:
            until = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            while other.execute(until, {"pid": backend}).scalar_one():
                pass
        pid(conn)

    watcher = other_engine(store_url, pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        transaction(engine, work)

    assert transaction(engine, pid)


def test_transaction_can_be_given_more_time(store_url: str, other_engine: MakeEngine) -> None:
    """What has to wait for a provider or another migration may, and only its own transaction."""
    engine = other_engine(store_url, pool_size=1, limits=SHORT)
    names = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")

    def patient(conn: Connection) -> list[str]:
        allow_time(conn, 90)
        conn.execute(text("SELECT pg_sleep(0.5)"))
        return [shown(conn, name) for name in names]

    assert transaction(engine, patient) == ["90s", "90s", "90s"]
    with connection(engine) as conn:
        assert [shown(conn, name) for name in names] == ["300ms", "150ms", "100ms"]


def test_options_of_the_url_win(store_url: str, other_engine: MakeEngine) -> None:
    """What an operator wrote into DATABASE_URL is obeyed."""
    url = f"{store_url}?options=-c%20statement_timeout%3D77s&application_name=mine&keepalives_idle=9"
    with connection(other_engine(url)) as conn:
        parameters = conn.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]

        assert shown(conn, "statement_timeout") == "77s"
        assert shown(conn, "lock_timeout") == "2s"
        assert shown(conn, "application_name") == "mine"
        assert parameters["keepalives_idle"] == "9"


# --- what Postgres and PgBouncer say when they cannot


@every_way
@pytest.mark.parametrize(
    "sqlstate",
    [
        "57014",  # cancelled, by statement_timeout or an operator
        "55P03",  # lock_timeout
        "53300",  # too many connections
        "53100",  # the disk is full
        "53200",  # no memory
        "57P01",  # going down, by an operator's wish
        "57P02",
        "57P03",  # going down, or not up yet
        "08P01",  # whatever PgBouncer wants to say: query_wait_timeout, no more connections allowed, ...
        "25006",  # no longer the primary
    ],
)
def test_passing_trouble_is_unavailable(engine: Engine, way: Run, sqlstate: str) -> None:
    """What waiting cannot fix is a programming error and is not retried here."""
    runs = 0

    def work(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        raise_in_postgres(conn, sqlstate)

    with pytest.raises(DatabaseUnavailable) as caught:
        way(engine, work)

    assert caught.value.retry_after_s
    assert runs == 1
    assert way(engine, pid)


def test_session_of_a_former_primary_is_left(store_url: str, other_engine: MakeEngine) -> None:
    """A session that became read-only is not used again: the next one may reach the new primary."""
    engine = other_engine(store_url, pool_size=1)
    with connection(engine) as conn:
        old = pid(conn)
        conn.execute(text("SET default_transaction_read_only = on"))

    with pytest.raises(DatabaseUnavailable):
        run(
            engine,
            lambda conn: conn.execute(insert(clients).values(id=UUID(int=1), name="a", created_at=NOW)),
        )

    assert run(engine, pid) != old


def test_full_server_is_unavailable(engine: Engine, store_url: str, other_engine: MakeEngine) -> None:
    """A server without free connections is reported as unavailable."""
    with connection(engine) as conn:
        conn.execute(text("CREATE ROLE few LOGIN PASSWORD 'few' CONNECTION LIMIT 1"))
    url = make_url(store_url).set(username="few", password="few").render_as_string(hide_password=False)
    few = other_engine(url, pool_size=2)

    try:
        with connection(few) as conn:
            assert pid(conn)
            with pytest.raises(DatabaseUnavailable):
                run(few, pid)
        assert run(few, pid)
    finally:
        few.dispose()
        with connection(engine) as conn:
            conn.execute(text("DROP ROLE few"))


# --- deadlocks


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_single_statement_is_run_again_after_a_deadlock(engine: Engine, sqlstate: str) -> None:
    """`run` retries what Postgres rolled back; `connection` leaves that to its caller."""
    runs = 0

    def work(conn: Connection) -> str:
        nonlocal runs
        runs += 1
        if runs < 4:
            raise_in_postgres(conn, sqlstate)
        return "done"

    with pytest.raises(DatabaseUnavailable):
        alone(engine, work)
    assert run(engine, work) == "done"
    assert runs == 4


@pytest.mark.parametrize("way", [run, transaction])
def test_deadlock_that_does_not_pass_is_unavailable(engine: Engine, way: Run) -> None:
    """After the last retry DatabaseUnavailable is raised."""
    with pytest.raises(DatabaseUnavailable):
        way(engine, lambda conn: raise_in_postgres(conn, "40P01"))


@pytest.mark.parametrize("sqlstate", ["23505", "23503", "22012", "42P01"])
def test_single_statement_that_is_wrong_is_not_run_again(engine: Engine, sqlstate: str) -> None:
    """What is no passing conflict comes out as it is."""
    runs = 0

    def work(conn: Connection) -> None:
        nonlocal runs
        runs += 1
        raise_in_postgres(conn, sqlstate)

    with pytest.raises(DBAPIError, match="as asked"):
        run(engine, work)

    assert runs == 1


def test_single_statements_that_deadlock_both_get_done(engine: Engine) -> None:
    """Two statements that lock the same rows in opposite order: one is undone and run again."""
    with connection(engine) as conn:
        for number, name in enumerate(("a", "b")):
            conn.execute(insert(clients).values(id=UUID(int=number), name=name, created_at=NOW))
    runs: list[str] = []

    def work(order: str) -> None:
        first, second = (f"UPDATE clients SET created_at = now() WHERE name = '{name}';" for name in order)
        both = text(f"DO $$ BEGIN {first} PERFORM pg_sleep(0.4); {second} END $$")

        def statement(conn: Connection) -> None:
            runs.append(order)
            conn.execute(both)

        run(engine, statement)

    with ThreadPoolExecutor(2) as threads:
        for done in [threads.submit(work, order) for order in ("ab", "ba")]:
            done.result(timeout=30)

    assert len(runs) >= 3


# --- behind a pooler


def set_for_database(url: str, other_engine: MakeEngine, setting: str) -> None:
    """Have all sessions of a database begin with this setting."""
    with connection(other_engine(url)) as conn:
        conn.execute(text(f"ALTER DATABASE {conn.engine.url.database} SET {setting}"))


def test_times_are_utc_whatever_the_session_says(database_url: str, other_engine: MakeEngine) -> None:
    """Behind PgBouncer the session's time zone is not ours to choose."""
    set_for_database(database_url, other_engine, "timezone = 'Asia/Kathmandu'")
    engine = other_engine(database_url, pgbouncer=True)

    with connection(engine) as conn:
        assert shown(conn, "timezone") == "Asia/Kathmandu"
        moment = conn.execute(select(text("timestamptz '2026-03-01 12:00+00'"))).scalar_one()

    assert moment == NOW
    assert moment.isoformat() == NOW.isoformat()


@pytest.mark.parametrize(("limit", "warnings"), [("0", 1), ("7s", 0)])
def test_role_without_a_limit_is_warned_of(
    database_url: str, other_engine: MakeEngine, limit: str, warnings: int
) -> None:
    """Where we cannot set limits ourselves, a role without one is named in the logs, once."""
    set_for_database(database_url, other_engine, f"statement_timeout = '{limit}'")

    with structlog.testing.capture_logs() as logs:
        fill(other_engine(database_url, pgbouncer=True), 2)

    assert [one["event"] for one in logs].count("database_without_limits") == warnings
