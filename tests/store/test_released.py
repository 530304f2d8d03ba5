"""A database that a released version has filled is upgraded, and everything in it keeps working.

`released/VERSION.sql` was written by the processes of that version. Add a file for each release.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import falcon.testing
import psycopg
import pytest
from sqlalchemy import Engine, text

from otpqueue import clock
from otpqueue.api.app import create_app
from otpqueue.domain.errors import DatabaseMisconfigured
from otpqueue.store import migrate
from otpqueue.store.engine import connection, make_engine
from otpqueue.wiring import Parts
from tests.conftest import Engines, MakeParts, Provider
from tests.store.conftest import MakeEngine
from tests.store.test_schema import catalogue

KEY = "Bearer oq_ur28mbhe_mF7IIgDuRjQFWvUtB4EU1kiqi9NOs13ZYqYMDjkTpNY"
RELEASED = Path(__file__).parent / "released"
KEPT = "SELECT id, status, reason, number_hash, sends, checks_used, created_at FROM otp_requests ORDER BY id"
COUNTED = """
SELECT (SELECT count(*) FROM send_attempts), (SELECT count(*) FROM checks), (SELECT count(*) FROM receipts),
       (SELECT count(*) FROM moves), (SELECT count(*) FROM refusals)
"""
IN_TIME = """
UPDATE otp_requests SET expires_at = now() + interval '4 min' WHERE status = 'delivered';
UPDATE otp_requests SET next_attempt_at = now(), send_by = now() + interval '1 min' WHERE status = 'queued'
"""
LIVE = "SELECT count(*) FROM otp_requests WHERE status IN ('queued', 'sent', 'delivered')"


def describe(engine: Engine) -> list[str]:
    """Return the catalogue of a database without parentheses: a dump writes fewer of them."""
    return [re.sub("[()]", "", str(row)) for row in catalogue(engine)]


@dataclass(frozen=True)
class Upgraded:
    """A database of a released version, upgraded by this one."""

    parts: Parts
    app: Any

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        return read(self.parts.engine, statement)

    def call(self, method: str, path: str, *, status: int | None = None, **kwargs: Any) -> dict[str, Any]:
        """Make a call below `/v1/otp-requests` and return the body of the response."""
        client = falcon.testing.TestClient(self.app)
        found = client.simulate_request(
            method, f"/v1/otp-requests{path}", headers={"Authorization": KEY}, **kwargs
        )
        assert found.status_code == (status or 200), found.text
        body: dict[str, Any] = found.json
        return body


def read(engine: Engine, statement: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query."""
    with connection(engine) as conn:
        return [tuple(row) for row in conn.execute(text(statement))]


MakeReleased = Callable[..., str]


@pytest.fixture(scope="module")
def released(engines: Engines) -> Iterator[MakeReleased]:
    """Yield a function that makes a database of a version, `upgraded` if wanted, and returns its URL."""
    names: list[str] = []

    def add(**options: str) -> str:
        names.append(f"released_{uuid4().hex}")
        return engines.postgres.create_database(names[-1], **options)

    @cache
    def restore(version: str, *, upgraded: bool) -> str:
        url = add(template=restore(version, upgraded=False)) if upgraded else add()
        if upgraded:
            engine = make_engine(url, pool_size=1)
            migrate.upgrade(engine)
            engine.dispose()
        else:
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as conn:
                conn.execute((RELEASED / f"{version}.sql").read_bytes())
        return names[-1]

    yield lambda version, *, upgraded=False: add(template=restore(version, upgraded=upgraded))
    for name in names:
        engines.postgres.drop_database(name)


@pytest.fixture
def upgraded(released: MakeReleased, make_parts: MakeParts) -> Upgraded:
    """Return the upgraded database of 0.1.0, with its two live requests in time."""
    parts = make_parts(DATABASE_URL=released("0.1.0", upgraded=True))
    with connection(parts.engine) as conn:
        conn.execute(text(IN_TIME))
    parts.provision(parts.transport, now=clock.now())
    return Upgraded(parts, create_app(parts))


@pytest.mark.parametrize("version", sorted(path.stem for path in RELEASED.glob("*.sql")))
def test_upgrade_makes_the_tables_of_this_version(
    version: str, released: MakeReleased, database_url: str, other_engine: MakeEngine
) -> None:
    """From a released version or from nothing: the same tables, constraints, triggers and functions."""
    old, new = other_engine(released(version, upgraded=True)), other_engine(database_url)

    assert describe(old) == describe(new)


def test_upgrade_keeps_every_request(released: MakeReleased, other_engine: MakeEngine) -> None:
    """Requests keep status, reason and counts, with their attempts, checks, reports and moves."""
    before, after = (other_engine(released("0.1.0", upgraded=upgraded)) for upgraded in (False, True))

    assert len(read(before, KEPT)) == 23
    assert read(after, KEPT) == read(before, KEPT)
    assert read(after, COUNTED) == read(before, COUNTED)


def test_requests_of_the_release_continue(upgraded: Upgraded, provider: Provider) -> None:
    """With the release's key, a queued request is sent and verified, and a delivered one is cancelled."""
    ((queued,),) = upgraded.rows("SELECT id FROM otp_requests WHERE status = 'queued'")
    ((delivered,), *_) = upgraded.rows("SELECT id FROM otp_requests WHERE status = 'delivered'")

    upgraded.parts.pump.run()

    shown = upgraded.call("GET", f"/{queued}")
    assert (shown["status"], shown["phone_number"]) == ("sent", "+44********11")
    body = {"code": provider.code("+447700900111"), "session_id": "queued"}
    assert upgraded.call("POST", f"/{queued}/verify", json=body)["verified"] is True
    assert upgraded.call("GET", f"/{delivered}")["status"] == "delivered"
    assert upgraded.call("DELETE", f"/{delivered}")["status"] == "cancelled"


def test_rules_of_the_release_stay_in_force(upgraded: Upgraded) -> None:
    """A blocked number, a stopped country and an open alert are what they were."""
    refused = {
        number: upgraded.call("POST", "", json={"phone_number": number}, status=status)["code"]
        for number, status in (("+447700900109", 422), ("+33612345678", 503))
    }
    assert refused == {"+447700900109": "number_not_allowed", "+33612345678": "sending_stopped"}
    assert upgraded.rows("SELECT rule FROM alerts WHERE closed_at IS NULL") == [("provider_5xx",)]


def test_periodic_jobs_accept_the_rows_of_the_release(upgraded: Upgraded) -> None:
    """Sweep, expiry, statistics, alerts and retention process the rows; a number of the release is erased."""
    parts, now = upgraded.parts, clock.now()
    parts.sweep(now=now + timedelta(hours=1))
    parts.expire(now=now + timedelta(hours=1))
    parts.roll_up()
    parts.evaluate_alerts(now=now)
    erased = parts.erase("+447700900101", country=None, client_id=None, now=now)

    assert erased["requests"] == 1
    assert upgraded.rows(LIVE) == [(0,)]
    assert upgraded.rows("SELECT count(*) FROM stat_events") == [(0,)]
    parts.purge(now=now + timedelta(days=31))
    assert upgraded.rows("SELECT count(*) FROM otp_requests") == [(0,)]


def test_newer_database_is_explained(released: MakeReleased, other_engine: MakeEngine) -> None:
    """`migrate` of an older version reports that the database belongs to a newer one."""
    engine = other_engine(released("0.1.0"))
    with connection(engine) as conn:
        conn.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseMisconfigured, match="newer version"):
        migrate.upgrade(engine)
