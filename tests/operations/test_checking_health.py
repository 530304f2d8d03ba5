"""Health: what works is told apart, and what is down never raises."""

from __future__ import annotations

from sqlalchemy import text

from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import MakeParts


def test_everything_works(parts: Parts) -> None:
    """With Postgres, Redis, a provisioned provider and a worker for each queue the service is whole."""
    parts.presence.announce("host:1", "periodic,send,slow")

    healthy = parts.health()

    assert (healthy.database, healthy.redis, healthy.infobip) == (True, True, True)
    assert healthy.workers_missing == ()
    assert healthy.serves
    assert healthy.whole


def test_missing_workers_are_named(parts: Parts) -> None:
    """Queues that nobody serves are named: calls are answered, but codes would not leave."""
    nobody = parts.health()
    parts.presence.announce("host:1", "send")
    some = parts.health()

    assert nobody.workers_missing == ("send", "periodic", "slow")
    assert some.workers_missing == ("periodic", "slow")
    assert some.serves
    assert not some.whole


def test_not_provisioned(parts: Parts, make_parts: MakeParts) -> None:
    """Before provisioning the provider counts as down."""
    parts.presence.announce("host:1", "periodic,send,slow")

    healthy = make_parts(INFOBIP_APP_NAME="other").health()

    assert not healthy.infobip
    assert healthy.serves
    assert not healthy.whole


def test_redis_down(parts: Parts, make_parts: MakeParts, closed_port: int) -> None:
    """Without Redis calls are still answered; nobody can tell about the workers."""
    healthy = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0").health()

    assert (healthy.database, healthy.redis, healthy.infobip) == (True, False, True)
    assert healthy.workers_missing is None
    assert healthy.serves
    assert not healthy.whole


def test_database_down(make_parts: MakeParts, closed_port: int) -> None:
    """Without Postgres nothing can be answered."""
    healthy = make_parts(DATABASE_URL=f"postgresql://app@127.0.0.1:{closed_port}/app").health()

    assert (healthy.database, healthy.redis, healthy.infobip) == (False, True, False)
    assert not healthy.serves


def test_database_without_tables_does_not_serve(parts: Parts) -> None:
    """A database that was not migrated is told apart from one that is down, and serves nothing."""
    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE provider_ids RENAME TO away"))

    try:
        healthy = parts.health()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO provider_ids"))

    assert healthy.database
    assert not healthy.migrated
    assert not healthy.serves
