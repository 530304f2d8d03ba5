"""The tables: migrations make what the code describes, also at once; impossible rows are refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, inspect, text, update
from sqlalchemy.exc import IntegrityError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import FINAL, LIVE, Status
from otpqueue.store import clients, functions, migrate, requests
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.schema import metadata, otp_requests
from tests.conftest import Engines
from tests.store.conftest import NOW, MakeEngine, Store, later

TABLES = set(metadata.tables)


@pytest.fixture
def empty_url(engines: Engines) -> Iterator[str]:
    """Yield a database without tables."""
    name = f"empty_{uuid4().hex}"
    yield engines.postgres.create_database(name)
    engines.postgres.drop_database(name)


@pytest.fixture
def empty(empty_url: str) -> Iterator[Engine]:
    """Yield connections to a database without tables."""
    engine = make_engine(empty_url, pool_size=8)
    yield engine
    engine.dispose()


def tables(engine: Engine) -> set[str]:
    """Return the names of the tables that are there, but for Alembic's own."""
    with connection(engine) as conn:
        return set(inspect(conn).get_table_names()) - {"alembic_version"}


def catalogue(engine: Engine) -> list[tuple[Any, ...]]:
    """Return every column, constraint, index, trigger and function as Postgres itself describes it."""
    queries = (
        """SELECT table_name, column_name, data_type, is_nullable, column_default, identity_generation
           FROM information_schema.columns WHERE table_schema = 'public'""",
        """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
           FROM pg_constraint WHERE connamespace = 'public'::regnamespace""",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        """SELECT relname, array_to_string(reloptions, ',')
           FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'""",
        """SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid), pg_get_functiondef(tgfoid)
           FROM pg_trigger AS t WHERE NOT tgisinternal""",
        """SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid)
           FROM pg_proc WHERE pronamespace = 'public'::regnamespace""",
    )
    with connection(engine) as conn:
        found = [tuple(row) for query in queries for row in conn.execute(text(query))]
    return sorted((row for row in found if "alembic_version" not in row[0]), key=repr)


def test_migrations_make_the_tables_of_the_code(conn: Connection) -> None:
    """Alembic finds nothing to add, change or take away."""
    context = MigrationContext.configure(conn, opts={"compare_type": True, "compare_server_default": True})

    assert compare_metadata(context, metadata) == []


def test_migrations_make_the_constraints_of_the_code(engine: Engine, empty: Engine) -> None:
    """Down to checks, partial indexes and storage, migrated tables are those the code describes."""
    metadata.create_all(empty)

    assert catalogue(engine) == catalogue(empty)


@pytest.mark.parametrize(
    ("folder", "listed"),
    [
        ("", (*functions.FUNCTIONS, *functions.TRIGGER_FUNCTIONS)),
        ("triggers", functions.TRIGGERS),
    ],
)
def test_sql_files_are_listed(project: Path, folder: str, listed: tuple[str, ...]) -> None:
    """Each file of a function or a trigger is in the list that creates it, once."""
    files = (project / "otpqueue/store/sql" / folder).glob("*.sql")

    assert sorted(listed) == sorted(file.stem for file in files)


@pytest.mark.parametrize("name", functions.TRIGGERS)
def test_newest_migration_of_a_trigger_loads_its_file(project: Path, name: str) -> None:
    """The last migration that creates a trigger creates it from the file, all earlier ones from a copy."""
    loads, creates = f'create_trigger_statement("{name}")', f"CREATE TRIGGER {name} "
    texts = [
        path.read_text(encoding="utf-8")
        for path in sorted((project / "migrations/versions").iterdir())
        if path.is_file()
    ]

    *earlier, newest = [one for one in texts if loads in one or creates in one]

    assert loads in newest
    assert not any(loads in one for one in earlier)


def test_upgrading_twice_changes_nothing(empty: Engine) -> None:
    """An upgrade of a current database is no upgrade."""
    migrate.upgrade(empty)
    first = catalogue(empty)
    migrate.upgrade(empty)

    assert catalogue(empty) == first
    assert tables(empty) == TABLES


def test_threads_upgrade_at_once(empty: Engine) -> None:
    """Four threads of a process that upgrade together all succeed."""
    with ThreadPoolExecutor(4) as threads:
        for done in [threads.submit(migrate.upgrade, empty) for _ in range(4)]:
            done.result()

    assert tables(empty) == TABLES


def test_processes_upgrade_at_once(empty: Engine, empty_url: str) -> None:
    """Replicas that start together all succeed, one after another."""
    # Importing takes longer than the upgrade, so one process does it for all.
    script = """
import os, sys
from otpqueue.store import engine, migrate
replicas = []
for _ in range(4):
    if not (replica := os.fork()):
        migrate.upgrade(engine.make_engine(sys.argv[1], pool_size=1))
        os._exit(0)
    replicas.append(replica)
print([os.waitpid(replica, 0)[1] for replica in replicas])
"""

    command = [sys.executable, "-c", script, empty_url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout == "[0, 0, 0, 0]\n", done.stderr
    assert tables(empty) == TABLES


def test_upgrade_that_fails_leaves_nothing_behind(empty: Engine) -> None:
    """A migration is done or not: what stopped it half-way can be put right and it runs again."""
    with connection(empty) as conn:
        conn.execute(text("CREATE TABLE send_attempts (in_the_way int)"))

    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(empty)

    assert tables(empty) == {"send_attempts"}
    with connection(empty) as conn:
        conn.execute(text("DROP TABLE send_attempts"))
    migrate.upgrade(empty)
    assert tables(empty) == TABLES


def test_upgrade_leaves_its_connection_as_it_was(empty: Engine) -> None:
    """Locks and time-outs of a migration do not stay on a pooled connection, also after a failure."""
    with connection(empty) as conn:
        conn.execute(text("CREATE TABLE clients (in_the_way int)"))
    with pytest.raises(Exception, match="already exists"):
        migrate.upgrade(empty)
    with connection(empty) as conn:
        conn.execute(text("DROP TABLE clients"))

    migrate.upgrade(empty)

    with connection(empty) as conn:
        assert conn.execute(text("SHOW lock_timeout")).scalar_one() == "2s"
        assert conn.execute(text("SHOW statement_timeout")).scalar_one() == "5s"
        held = conn.execute(text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")).scalar_one()
        assert held == 0


def move(engine: Engine, project: Path, migrated: Callable[[Config, str], None], revision: str) -> None:
    """Upgrade or downgrade a database to a revision."""
    config = Config()
    config.set_main_option("script_location", str(project / "migrations"))
    with connection(engine) as conn:
        config.attributes["connection"] = conn
        migrated(config, revision)


def test_migrations_can_be_undone_and_redone(empty: Engine, project: Path) -> None:
    """Down to nothing and up again gives the same tables."""
    engine = empty
    migrate.upgrade(engine)
    before = catalogue(engine)

    move(engine, project, command.downgrade, "base")
    undone = tables(engine)
    migrate.upgrade(engine)

    assert undone == set()
    assert catalogue(engine) == before


def test_sends_that_were_counted_at_acceptance_stay_counted(empty: Engine, project: Path) -> None:
    """Of live requests that the version before has counted at acceptance, all sends are counted alike."""
    move(empty, project, command.upgrade, "0014")
    with connection(empty) as conn:
        client_id = clients.ensure_client(conn, "shop", now=NOW)
        rows = [("known", "sent", 1), ("new", "sent", 3), ("refused", "queued", 1), (None, "sent", 2)]
        rows.append(("known", "verified", 1))
        for number, (standing, status, sends) in enumerate(rows):
            values = {"id": uuid4(), "client_id": client_id, "number_hash": bytes([number]), "now": NOW}
            values |= {"status": status, "sends": sends, "standing": standing}
            conn.execute(text(BEFORE_0017), values)

    migrate.upgrade(empty)

    with connection(empty) as conn:
        after = conn.execute(
            text(
                "SELECT guard_counted, guard_known, guard_new, guard_refused FROM otp_requests "
                "ORDER BY number_hash"
            )
        ).all()
    assert [tuple(row) for row in after] == [
        *((1, 1, 0, 0), (3, 0, 3, 0), (1, 0, 0, 1), (0, 0, 0, 0)),
        # Ended ones are counted in the tallies, for good.
        (0, 0, 0, 0),
    ]


def test_index_that_was_built_by_hand_is_found(empty: Engine, project: Path, engine: Engine) -> None:
    """On a large table it is built before the migration and beside the traffic; the result is the same."""
    move(empty, project, command.upgrade, "0003")
    with connection(empty) as conn:
        conn.execute(text("CREATE INDEX CONCURRENTLY otp_requests_created ON otp_requests (created_at, id)"))

    migrate.upgrade(empty)

    assert catalogue(empty) == catalogue(engine)


def test_upgrade_of_an_unreachable_database_says_so(other_engine: MakeEngine) -> None:
    """Where no Postgres listens, that is what is said."""
    with pytest.raises(DatabaseUnavailable):
        migrate.upgrade(other_engine("postgresql://user@127.0.0.1:1/none"))


@pytest.mark.parametrize(
    ("columns", "constraint"),
    [
        ({"status": "sending"}, "otp_requests_status_check"),
        ({"send_state": "sent", "next_attempt_at": None}, "otp_requests_send_state_check"),
        ({"next_attempt_at": None}, "otp_requests_due_has_time_check"),
        ({"send_state": "idle"}, "otp_requests_due_has_time_check"),
        ({"send_state": "claimed", "next_attempt_at": None}, "otp_requests_claimed_has_lease_check"),
        ({"lease_until": NOW}, "otp_requests_claimed_has_lease_check"),
        ({"checks_used": 6}, "otp_requests_checks_bounded_check"),
        ({"checks_used": -1}, "otp_requests_checks_bounded_check"),
        ({"pin_id": "x"}, "otp_requests_sent_expires_check"),
        ({"client_id": UUID(int=1)}, "otp_requests_client_id_fkey"),
        ({"number_sealed": None}, "number_sealed"),
        ({"number_hash": None}, "number_hash"),
        ({"send_kind": "again"}, "otp_requests_send_kind_check"),
        ({"resend": "lost"}, "otp_requests_resend_check"),
        ({"sends": None}, "sends"),
        ({"send_by": None}, "send_by"),
        ({"created_at": None}, "created_at"),
    ],
    ids=str,
)
def test_impossible_request_is_refused(store: Store, columns: dict[str, Any], constraint: str) -> None:
    """Whatever statement has a mistake, the table does not take a row that cannot be."""
    request = store.insert()

    with pytest.raises(IntegrityError, match=constraint):
        store.conn.execute(update(otp_requests).values(columns))

    assert store.find(request.id) == request


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        ("UPDATE send_attempts SET outcome = 'perhaps'", "send_attempts_outcome_check"),
        ("UPDATE send_attempts SET evidence = 'perhaps'", "send_attempts_evidence_check"),
        ("UPDATE send_attempts SET delivery = 'perhaps'", "send_attempts_delivery_check"),
        ("INSERT INTO send_attempts SELECT * FROM send_attempts", "send_attempts_pkey"),
        ("UPDATE send_attempts SET request_id = gen_random_uuid()", "send_attempts_request_id_fkey"),
        ("UPDATE checks SET verdict = 'maybe'", "checks_verdict_check"),
        ("INSERT INTO checks SELECT * FROM checks", "checks_pkey"),
        ("UPDATE checks SET request_id = gen_random_uuid()", "checks_request_id_fkey"),
        ("DELETE FROM clients", "client_id_fkey"),
        ("INSERT INTO clients SELECT gen_random_uuid(), name, created_at FROM clients", "clients_name_key"),
    ],
)
def test_impossible_row_is_refused(store: Store, statement: str, constraint: str) -> None:
    """Attempts, checks and clients cannot be doubled, orphaned or given words that are none."""
    store.begin(store.insert_sent())

    with pytest.raises(IntegrityError, match=constraint):
        store.conn.execute(text(statement))


def test_attempts_and_checks_go_with_their_request(store: Store) -> None:
    """A request that is deleted takes its trail along."""
    request = store.insert_sent()
    store.begin(request)

    store.conn.execute(otp_requests.delete())

    assert store.attempts(request.id) == store.checks(request.id) == []


@pytest.mark.parametrize("session", [None, b"s" * 32])
@pytest.mark.parametrize("status", sorted(LIVE))
def test_second_live_request_is_refused(store: Store, session: bytes | None, status: Status) -> None:
    """Of client, number and session one request is live at a time; no session counts as one of its own."""
    first = store.insert()
    store.change(first.id, status=status.value, session_hash=session)

    with pytest.raises(IntegrityError, match="otp_requests_one_live"):
        store.conn.execute(text(COPY))


@pytest.mark.parametrize("status", sorted(FINAL))
def test_ended_requests_do_not_block_new_ones(store: Store, status: Status) -> None:
    """Any number of ended requests may be there beside a live one."""
    first = store.insert()
    store.change(first.id, status=status.value)

    store.conn.execute(text(COPY))
    store.insert()

    count = store.conn.execute(text("SELECT count(*) FROM otp_requests")).scalar_one()
    assert count == 3


@pytest.mark.parametrize("other", ["client", "number", "session"])
def test_requests_of_others_are_live_beside_it(store: Store, other: str) -> None:
    """Another client, number or session has a live request of its own."""
    first = store.insert(session_id="one")

    second = {
        "client": lambda: store.insert(
            session_id="one", client_id=clients.ensure_client(store.conn, "other", now=NOW)
        ),
        "number": lambda: store.insert("+447700900124", session_id="one"),
        "session": lambda: store.insert(session_id="two"),
    }[other]()

    assert store.row(first.id)["status"] == store.row(second.id)["status"] == "queued"


def test_times_come_back_aware_in_utc(store: Store, store_url: str, other_engine: MakeEngine) -> None:
    """Whatever zone the server prefers, times are UTC."""
    request = store.insert_sent()
    store.conn.execute(text("ALTER DATABASE store SET timezone = 'Asia/Tokyo'"))

    with connection(other_engine(store_url)) as conn:
        found = requests.find(conn, request.id, client_id=store.client_id, vault=store.vault)

    store.conn.execute(text("ALTER DATABASE store RESET timezone"))
    assert found == request
    assert found
    assert (found.created_at, found.sent_at, found.expires_at) == (NOW, NOW, later(300))
    for value in (found.created_at, found.updated_at, found.send_by, found.expires_at):
        assert value
        assert value.tzname() == "UTC"


COPY = """
INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, session_hash, channel,
                          status, send_state, next_attempt_at, checks_allowed, created_at, updated_at,
                          send_by)
SELECT gen_random_uuid(), client_id, number_sealed, seal_key_id, number_hash, session_hash, channel,
       status, send_state, next_attempt_at, checks_allowed, created_at, updated_at, send_by
FROM otp_requests
"""
BEFORE_0017 = """
INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, channel, status, send_state,
                          checks_allowed, created_at, updated_at, send_by, sends, guard_as, guard_block)
VALUES (:id, :client_id, '', 'k1', :number_hash, 'sms', :status, 'idle', 5, :now, :now, :now, :sends,
        :standing, '44770090')
"""
