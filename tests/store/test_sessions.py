"""What sessions rely on, in databases and for roles that have other defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import Engine, text

from otpqueue import clock
from otpqueue.domain.errors import DatabaseMisconfigured, DatabaseUnavailable
from otpqueue.domain.request import Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import migrate, placement
from otpqueue.store.engine import connection, fetch, run
from otpqueue.store.sessions import RELIED_ON
from tests.conftest import NUMBER, TEMPLATE, Engines, MakeParts, Provider
from tests.store.conftest import MakeEngine
from tests.store.test_pgbouncer import MakeBouncer, make_bouncer  # noqa: F401 - a fixture

ODD = {
    "datestyle": "'German, DMY'",
    "intervalstyle": "iso_8601",
    "timezone": "'Asia/Kathmandu'",
    "standard_conforming_strings": "off",
    "array_nulls": "off",
    "transform_null_equals": "on",
    "client_encoding": "SQL_ASCII",
    "default_transaction_isolation": "'serializable'",
    "backslash_quote": "on",
    "bytea_output": "escape",
    "extra_float_digits": "0",
    "lc_numeric": "'C'",
}
"""Possible defaults of a role or a database."""

MakeDatabase = Callable[..., str]


@pytest.fixture
def make_database(engines: Engines, other_engine: MakeEngine) -> Iterator[MakeDatabase]:
    """Yield a function that makes a database, with defaults of its own, and returns its URL."""
    made: list[str] = []

    def make(*, template: str | None = TEMPLATE, encoding: str | None = None, **defaults: str) -> str:
        name = f"test_{uuid4().hex}"
        admin = other_engine(engines.postgres.url)
        how = f"TEMPLATE {template}" if template else f"ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        with connection(admin) as conn:
            conn.execute(text(f"CREATE DATABASE {name} {how}"))
            for setting, value in defaults.items():
                conn.execute(text(f"ALTER DATABASE {name} SET {setting} = {value}"))
        admin.dispose()
        made.append(name)
        return engines.postgres.url.rpartition("/")[0] + f"/{name}"

    yield make
    for name in made:
        engines.postgres.drop_database(name)


def shown(engine: Engine) -> dict[str, str]:
    """Return what a session of ours has."""
    with connection(engine) as conn:
        return {name: conn.execute(text(f"SHOW {name}")).scalar_one() for name in RELIED_ON}


def lived(make_parts: MakeParts, provider: Provider, url: str, **settings: str) -> None:
    """Live a whole life in a database."""
    parts = make_parts(DATABASE_URL=url, **settings)
    parts.provision(parts.transport, now=clock.now())
    key = parts.keys.create(client="shop", scopes=frozenset({"send"}), now=clock.now())
    assert parts.keys.authenticate(key, now=clock.now()).client_name == "shop"
    client_id = parts.keys.client_id("shop", now=clock.now())
    wanted = RequestedCode(phone_number=NUMBER, session_id="\\s'\u20ac", client_reference="\\'\U0001f600")
    asked = parts.request(wanted, client_id=client_id, now=clock.now())
    parts.pump.run()
    found = parts.status(asked.id, client_id=client_id)
    assert found.status is Status.SENT
    assert found.client_reference == "\\'\U0001f600"
    assert abs(found.created_at - asked.created_at) < timedelta(milliseconds=1)
    attempted = TypedCode(code=provider.code(), session_id="\\s'\u20ac")
    assert parts.verify(asked.id, attempted, client_id=client_id, now=clock.now()).status is Status.VERIFIED
    parts.sweep(now=clock.now())
    parts.expire(now=clock.now())
    parts.roll_up()
    parts.evaluate_alerts(now=clock.now())
    assert parts.history(asked.id).events
    assert parts.health(now=clock.now()).serves
    assert parts.erase(NUMBER, country=None, client_id=None, now=clock.now())
    parts.purge(now=clock.now() + timedelta(days=99))


def test_defaults_of_a_database_do_not_matter(
    make_database: MakeDatabase, make_parts: MakeParts, other_engine: MakeEngine, provider: Provider
) -> None:
    """Whatever a database gives its sessions, ours have what they rely on, and everything works."""
    url = make_database(**ODD)

    found = shown(other_engine(url))

    assert {name: value.lower() for name, value in found.items()} == {
        name: value.lower() for name, value in RELIED_ON.items()
    }
    lived(make_parts, provider, url)


def test_migration_in_odd_defaults(make_database: MakeDatabase, other_engine: MakeEngine) -> None:
    """The tables can be made there as well."""
    engine = other_engine(make_database(template=None, encoding="UTF8", **ODD))

    migrate.upgrade(engine)

    assert fetch(engine, "SELECT count(*) AS n FROM otp_requests", {})[0].n == 0


def test_libpqs_own_variables_do_not_matter(make_database: MakeDatabase, other_engine: MakeEngine) -> None:
    """They come after our options; each connection is looked at."""
    engine, environment = other_engine(make_database()), dict(os.environ)
    os.environ |= {"PGDATESTYLE": "German", "PGTZ": "Asia/Kathmandu", "PGCLIENTENCODING": "LATIN1"}
    try:
        found = shown(engine)
    finally:
        os.environ.clear()
        os.environ.update(environment)

    assert found["datestyle"] == "ISO, MDY"
    assert found["timezone"] == "UTC"


def test_options_of_the_url(make_database: MakeDatabase, other_engine: MakeEngine) -> None:
    """What a URL sets holds, but for what we rely on."""
    options = "-c%20work_mem%3D3MB%20-c%20statement_timeout%3D7s%20-c%20datestyle%3DGerman"
    engine = other_engine(f"{make_database()}?options={options}&client_encoding=latin1&application_name=x")

    with connection(engine) as conn:
        found = [
            conn.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("work_mem", "statement_timeout", "datestyle", "client_encoding", "application_name")
        ]

    assert found == ["3MB", "7s", "ISO, MDY", "UTF8", "x"]


def test_database_that_keeps_no_utf8_while_running(
    make_database: MakeDatabase, other_engine: MakeEngine
) -> None:
    """A process that runs already sees it as an outage, and its log says why. Callers do not hear it."""
    engine = other_engine(make_database(template=None, encoding="SQL_ASCII"))

    with structlog.testing.capture_logs() as logs:
        for way in (lambda: run(engine, lambda _: None), lambda: fetch(engine, "SELECT 1", {})):
            with pytest.raises(DatabaseUnavailable) as caught:
                way()
            assert "SQL_ASCII" not in caught.value.detail

    assert [one["event"] for one in logs] == ["database_misconfigured"] * 2
    assert "SQL_ASCII" in logs[0]["problem"]


def test_tables_in_a_schema_of_their_own(
    make_database: MakeDatabase, make_parts: MakeParts, other_engine: MakeEngine, provider: Provider
) -> None:
    """A role with a search_path that finds the tables needs nothing else."""
    url = make_database(template=None, encoding="UTF8", search_path="codes")
    engine = other_engine(url)
    with pytest.raises(DatabaseMisconfigured, match="no schema to make the tables in"):
        migrate.upgrade(engine)
    with connection(engine) as conn:
        conn.execute(text("CREATE SCHEMA codes"))

    migrate.upgrade(engine)

    placement.check(engine)
    lived(make_parts, provider, url)


def test_no_tables_yet(make_database: MakeDatabase, other_engine: MakeEngine) -> None:
    """API and workers may start before `otpqueue migrate` has been run: health says so."""
    placement.check(other_engine(make_database(template=None, encoding="UTF8")))


# --- behind PgBouncer, where sessions are as the role and the database have them


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("datestyle", "'German, DMY'"),
        ("standard_conforming_strings", "off"),
        ("array_nulls", "off"),
        ("transform_null_equals", "on"),
        ("default_transaction_isolation", "'serializable'"),
    ],
)
def test_defaults_that_pgbouncer_hands_on(
    make_bouncer: MakeBouncer,  # noqa: F811
    make_database: MakeDatabase,
    other_engine: MakeEngine,
    name: str,
    value: str,
) -> None:
    """They are checked with the first connection; one sentence says what to set."""
    database = make_database(**{name: value}).rpartition("/")[2]
    engine = other_engine(make_bouncer().url(database), pgbouncer=True)

    with pytest.raises(DatabaseMisconfigured) as caught:
        run(engine, lambda conn: conn.execute(text("SELECT 1")))

    assert f"{name} = {value.strip(chr(39))}" in str(caught.value)
    assert f"ALTER ROLE ... SET {name} = '{RELIED_ON[name]}'" in str(caught.value)


def test_defaults_that_do_not_matter_behind_pgbouncer(
    make_bouncer: MakeBouncer,  # noqa: F811
    make_database: MakeDatabase,
    make_parts: MakeParts,
    provider: Provider,
) -> None:
    """The rest may be as it likes."""
    harmless = {
        "timezone",
        "backslash_quote",
        "bytea_output",
        "extra_float_digits",
        "lc_numeric",
        "client_encoding",
    }
    database = make_database(
        **{name: ODD[name] for name in harmless}, datestyle="'ISO, DMY'", statement_timeout="'9s'"
    ).rpartition("/")[2]

    lived(make_parts, provider, make_bouncer().url(database), OTPQUEUE_DATABASE_PGBOUNCER="true")
