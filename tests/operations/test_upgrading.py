"""Upgrade a database of an earlier release, with rows in every table."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, MetaData, func, select

from otpqueue import clock
from otpqueue.domain.request import Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import migrate
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.schema import (
    checks,
    moves,
    otp_requests,
    receipts,
    send_attempts,
    stat_events,
    webhook_deliveries,
)
from tests.conftest import NUMBER, Engines, MakeParts, Provider

REVISION = "0023"
ROWS = Path(__file__).parent / f"release_{REVISION}.sql"


@pytest.fixture
def database_url(engines: Engines, project: Path) -> Iterator[str]:
    """Yield a database of the release."""
    name = f"release_{uuid4().hex}"
    url = engines.postgres.create_database(name)
    engine = make_engine(url, pool_size=1)
    config = Config()
    config.set_main_option("script_location", str(project / "migrations"))
    with connection(engine) as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, REVISION)
    with engine.connect() as conn:
        cursor = conn.connection.cursor()
        cursor.execute("BEGIN")
        cursor.execute(ROWS.read_text(encoding="utf-8").encode())
        cursor.execute("COMMIT")
    engine.dispose()
    yield url
    engines.postgres.drop_database(name)


def read_rows(engine: Engine, tables: MetaData) -> dict[str, list[str]]:
    """Return all rows by table, as text."""
    with connection(engine) as conn:
        return {
            name: sorted(str(tuple(row)) for row in conn.execute(select(table)))
            for name, table in tables.tables.items()
            if name != "alembic_version"
        }


def test_rows_survive_and_are_used(database_url: str, make_parts: MakeParts, provider: Provider) -> None:
    """No row changes, and the operations of this version work on them."""
    parts = make_parts(DATABASE_URL=database_url)
    release = MetaData()
    release.reflect(parts.engine)
    before = read_rows(parts.engine, release)
    assert [name for name, rows in before.items() if not rows] == []

    migrate.upgrade(parts.engine)

    assert read_rows(parts.engine, release) == before


CLIENT_ID = UUID("01a2284d-1bc7-7744-a75b-24da50f1aa61")
SENT_ID = UUID("01a2284d-1d5a-73ed-ac26-c71a67cfacb8")
QUEUED_ID = UUID("01a2284d-2079-754e-a442-6e0c826719bd")
PURGED = (otp_requests, send_attempts, checks, moves, receipts, webhook_deliveries, stat_events)


def test_release_is_operated_after_an_upgrade(make_parts: MakeParts, provider: Provider) -> None:
    """Old requests end at their deadlines, new codes are sent and verified, old rows are deleted in time."""
    parts = make_parts()
    migrate.upgrade(parts.engine)
    parts.provision(parts.transport, now=clock.now())

    assert parts.status(SENT_ID, client_id=CLIENT_ID).status is Status.DELIVERED
    later = clock.now() + timedelta(hours=1)
    parts.sweep(now=later)
    parts.expire(now=later)
    assert parts.status(SENT_ID, client_id=CLIENT_ID).status is Status.EXPIRED
    assert parts.status(QUEUED_ID, client_id=CLIENT_ID).status is Status.EXPIRED

    new = parts.request(RequestedCode(phone_number=NUMBER), client_id=CLIENT_ID, now=clock.now())
    parts.pump.run()
    parts.verify(new.id, TypedCode(code=provider.code(NUMBER)), client_id=CLIENT_ID, now=clock.now())
    assert parts.status(new.id, client_id=CLIENT_ID).status is Status.VERIFIED

    parts.roll_up()
    parts.purge(now=clock.now() + timedelta(days=400))
    with connection(parts.engine) as conn:
        left = {
            table.name: conn.execute(select(func.count()).select_from(table)).scalar_one() for table in PURGED
        }
    assert not any(left.values()), left
