"""The access cache of an API process: maximum age, and calls that cannot refresh it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import event, text

from otpqueue import clock
from otpqueue.domain.caps import CapScope
from otpqueue.domain.errors import DatabaseUnavailable, SendingStopped, Unauthenticated
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, MakeParts
from tests.operations.looking import until

CACHE_S = 1


@pytest.fixture
def caching(parts: Parts, make_parts: MakeParts) -> Parts:
    """Return the parts of a process with the default cache time."""
    return make_parts(OTPQUEUE_TUNING_ACCESS_CACHE_S=str(CACHE_S))


def a_key(parts: Parts, client: str = "test") -> str:
    """Return a fresh API key."""
    return parts.keys.create(client=client, scopes=frozenset({"send"}), now=clock.now())


def recognise(parts: Parts, key: str) -> UUID:
    """Return the client of a key, as the API looks it up."""
    return parts.keys.recognise(key, access=parts.access, now=clock.now()).client_id


def statements(parts: Parts) -> list[str]:
    """Return a list that grows with each statement that SQLAlchemy executes."""
    seen: list[str] = []
    event.listen(parts.engine, "before_cursor_execute", lambda *args: seen.append(args[2]))
    return seen


def test_revoked_key_is_refused_within_the_cache_time(parts: Parts, caching: Parts) -> None:
    """A revoked key works for at most a second."""
    key = a_key(parts)
    recognise(caching, key)
    parts.keys.revoke(key, now=clock.now())
    revoked = time.monotonic()

    def refused() -> bool:
        try:
            recognise(caching, key)
        except Unauthenticated:
            return True
        return False

    until(refused)
    assert time.monotonic() - revoked < CACHE_S + 0.5
    with pytest.raises(Unauthenticated):
        recognise(caching, key)


def test_new_key_works_at_once(parts: Parts, caching: Parts) -> None:
    """A key that is not in the cache is looked up in Postgres, so a new key works at once."""
    recognise(caching, a_key(parts))
    time.sleep(0.11)

    recognise(caching, a_key(parts))


def test_unknown_keys_cost_few_queries(caching: Parts) -> None:
    """A flood of unknown keys is answered from the cache, which is refreshed at most ten times a second."""
    checked_out: list[object] = []
    event.listen(caching.engine, "checkout", lambda *_: checked_out.append(1))
    begun = time.monotonic()

    for index in range(300):
        with pytest.raises(Unauthenticated):
            recognise(caching, f"oq_unknown_{index}")

    # Each refresh takes a connection once, or twice when keys have changed.
    assert len(checked_out) <= 2 * (2 + (time.monotonic() - begun) / 0.1)


def test_expired_key_is_refused_at_its_moment(parts: Parts, caching: Parts) -> None:
    """The cache knows when a key expires, and does not delay it."""
    key = a_key(parts)
    recognise(caching, key)
    with connection(parts.engine) as conn:
        conn.execute(text("UPDATE api_keys SET expires_at = now() + interval '200 ms'"))
    time.sleep(CACHE_S)
    with pytest.raises(Unauthenticated):
        recognise(caching, key)


def test_keys_are_read_again_only_when_they_change(parts: Parts, caching: Parts) -> None:
    """A refresh reads the list of keys only if its version has changed.

    The use of a key does not change it.
    """
    key = a_key(parts)
    recognise(caching, key)
    seen = statements(caching)

    time.sleep(CACHE_S + 0.05)
    recognise(caching, key)
    assert not [one for one in seen if "FROM clients" in one]

    parts.clients.set("test", "daily_cap", "7")
    time.sleep(CACHE_S + 0.05)
    client_id = recognise(caching, key)
    assert [one for one in seen if "FROM clients" in one]
    assert caching.access.client_settings(client_id).daily_cap == 7


def test_stop_refuses_within_the_cache_time(parts: Parts, caching: Parts, client_id: UUID) -> None:
    """A stop refuses new requests within a second. Claims stop at once."""
    wanted = RequestedCode(phone_number=NUMBER)
    caching.request(wanted, client_id=client_id, now=clock.now())
    parts.switch.stop(country=None, client=None, reason=None, by="test", now=clock.now())
    time.sleep(CACHE_S + 0.05)

    with pytest.raises(SendingStopped):
        caching.request(wanted, client_id=client_id, now=clock.now())
    parts.pump.run()
    with connection(parts.engine) as conn:
        assert conn.execute(text("SELECT count(*) FROM send_attempts")).scalar_one() == 0


def test_counts_of_the_day_are_cached(parts: Parts, caching: Parts, client_id: UUID) -> None:
    """The cap counts are read with the rest, for the current day only."""
    parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())
    parts.pump.run()

    snapshot = caching.access.current()

    assert snapshot.taken_on(clock.now().date())[CapScope.ALL, ""] == 1
    assert snapshot.taken_on(clock.now().date().replace(year=2000)) == {}


def test_nothing_older_is_used_when_postgres_is_away(
    parts: Parts, make_parts: MakeParts, closed_port: int
) -> None:
    """Calls that wait for a failed refresh all fail, after a single query."""
    away = make_parts(
        DATABASE_URL=f"postgresql://otpqueue@127.0.0.1:{closed_port}/none",
        OTPQUEUE_TUNING_ACCESS_CACHE_S=str(CACHE_S),
        OTPQUEUE_TUNING_DATABASE_WAIT_S="0.2",
    )

    def fails(_: int) -> bool:
        with pytest.raises(DatabaseUnavailable):
            away.access.current()
        return True

    with ThreadPoolExecutor(20) as threads:
        assert all(threads.map(fails, range(100)))
