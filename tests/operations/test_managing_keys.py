"""API keys: created, stored as hashes, authenticated, rotated, revoked."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
import structlog
from sqlalchemy import select, text

from otpqueue import clock
from otpqueue.domain.errors import InvalidRequest, Unauthenticated
from otpqueue.domain.keys import KeyState
from otpqueue.operations.access.keys import RotatedKey, prefix_of
from otpqueue.store.clients import ApiKey
from otpqueue.store.engine import connection
from otpqueue.store.schema import api_keys
from otpqueue.wiring import Parts
from tests.operations.looking import at_once


def test_key_opens_what_it_was_made_for(parts: Parts) -> None:
    """A new key authenticates its client, with its scopes."""
    key = parts.keys.create(client="shop", scopes=frozenset({"send", "verify"}), now=clock.now())

    known = parts.keys.authenticate(key, now=clock.now())

    assert (known.client_name, known.scopes) == ("shop", {"send", "verify"})
    assert known.client_id == parts.keys.client_id("shop", now=clock.now())
    assert key.startswith(f"{known.prefix}_")
    assert known.revoked_at is None


def test_key_itself_is_not_stored(parts: Parts) -> None:
    """Only a hash and a prefix of a key are stored."""
    key = parts.keys.create(client="shop", scopes=frozenset({"send"}), now=clock.now())

    with connection(parts.engine) as conn:
        stored = str(conn.execute(select(api_keys)).mappings().one())
    assert key not in stored
    assert key.split("_", 2)[2] not in stored


def test_keys_of_one_client_share_it(parts: Parts) -> None:
    """Keys with the same client name share the client. Another name is another client."""
    keys = [
        parts.keys.create(client=name, scopes=frozenset({"send"}), now=clock.now())
        for name in ("shop", "shop", "bank")
    ]

    clients = [parts.keys.authenticate(key, now=clock.now()).client_id for key in keys]

    assert clients[0] == clients[1] != clients[2]
    assert len(set(keys)) == 3


def test_same_key_twice_is_one_key(parts: Parts) -> None:
    """A given key, as `dev` passes at each start, is stored once and keeps its scopes."""
    for scopes in ({"send"}, {"send", "admin"}):
        parts.keys.create(client="dev", scopes=frozenset(scopes), now=clock.now(), key="oq_dev_secret")

    (known,) = parts.keys.list()
    assert (known.prefix, known.scopes) == ("oq_dev", {"send"})


def test_revoked_key_opens_nothing(parts: Parts) -> None:
    """A revoked key is refused. Other keys keep working, and a repeated revocation changes nothing."""
    revoked, other = (
        parts.keys.create(client="shop", scopes=frozenset({"send"}), now=clock.now()) for _ in range(2)
    )
    prefix = prefix_of(revoked)

    assert parts.keys.revoke(prefix, now=clock.now()).prefix == prefix
    with pytest.raises(InvalidRequest):
        parts.keys.revoke(prefix, now=clock.now())

    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(revoked, now=clock.now())
    assert parts.keys.authenticate(other, now=clock.now()).client_name == "shop"
    assert [key.revoked_at is None for key in parts.keys.list()] == [False, True]


@pytest.mark.parametrize("key", ["", "oq_", "oq_unknown_secret", "x" * 5000, "schlüssel"])
def test_unknown_key_opens_nothing(parts: Parts, key: str) -> None:
    """An unknown key of any form is refused."""
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(key, now=clock.now())


@pytest.mark.parametrize("scopes", [set(), {"sned"}, {"send", "root"}])
def test_scopes_that_do_not_exist_are_refused(parts: Parts, scopes: set[str]) -> None:
    """A key cannot be created with unknown scopes."""
    with pytest.raises(InvalidRequest):
        parts.keys.create(client="shop", scopes=frozenset(scopes), now=clock.now())

    assert parts.keys.list() == []


DAY = timedelta(days=1)


def make(parts: Parts, **given: Any) -> str:
    """Create a key."""
    wanted = {"client": "shop", "scopes": frozenset({"send"}), "now": clock.now()}
    return parts.keys.create(**(wanted | given))


def opens(parts: Parts, key: str, now: datetime) -> bool:
    """Return whether a key authenticates at a moment."""
    try:
        parts.keys.authenticate(key, now=now)
    except Unauthenticated:
        return False
    return True


def stored(parts: Parts, key: str) -> ApiKey:
    """Return the listed key."""
    (found,) = [one for one in parts.keys.list() if one.prefix == prefix_of(key)]
    return found


def test_key_expires(parts: Parts) -> None:
    """A key works until just before its expiry. One without expiry keeps working."""
    now = clock.now()
    key, other = make(parts, expires_in=90 * DAY, note="billing", now=now), make(parts, now=now)
    end = now + 90 * DAY

    assert opens(parts, key, end - timedelta(microseconds=1))
    assert not opens(parts, key, end)
    assert opens(parts, other, end)
    assert (stored(parts, key).expires_at, stored(parts, key).note) == (end, "billing")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"expires_in": timedelta(0)}, "expires_in"),
        ({"expires_in": -DAY}, "expires_in"),
        ({"expires_in": timedelta(days=999_999_999)}, "expires_in"),
        ({"note": "x" * 201}, "note"),
        ({"note": "a\nb"}, "note"),
        ({"client": " "}, "client"),
    ],
)
def test_odd_keys_are_refused(parts: Parts, given: dict[str, Any], field: str) -> None:
    """A key needs an expiry in the future and printable texts."""
    with pytest.raises(InvalidRequest) as refused:
        make(parts, **given)

    assert [error.field for error in refused.value.errors] == [field]
    assert parts.keys.list() == []


def test_rotation(parts: Parts) -> None:
    """The new key has the properties of the old one, which works for the overlap only."""
    now = clock.now()
    old = make(parts, scopes=frozenset({"send", "verify"}), note="billing", now=now)

    rotated = parts.keys.rotate(prefix_of(old), overlap=DAY, now=now)

    before, after = now + DAY - timedelta(seconds=1), now + DAY
    assert [opens(parts, key, before) for key in (old, rotated.key)] == [True, True]
    assert [opens(parts, key, after) for key in (old, rotated.key)] == [False, True]
    first, second = stored(parts, old), stored(parts, rotated.key)
    assert (second.client_id, second.scopes, second.note) == (first.client_id, first.scopes, "billing")
    assert (first.replaced_by, first.expires_at, second.expires_at) == (second.id, now + DAY, None)
    assert rotated.old.expires_at == now + DAY
    assert [one.state(now) for one in (first, second)] == [KeyState.EXPIRING, KeyState.ACTIVE]


def test_rotation_keeps_ends(parts: Parts) -> None:
    """Rotation never extends the old key's life. The new key has the same lifetime as the old one had."""
    made = clock.now()
    old = make(parts, expires_in=10 * DAY, now=made)
    now = made + 9 * DAY

    rotated = parts.keys.rotate(prefix_of(old), overlap=7 * DAY, now=now)
    last = parts.keys.rotate(prefix_of(rotated.key), overlap=timedelta(0), expires_in=DAY, now=now)

    assert stored(parts, old).expires_at == made + 10 * DAY
    assert not opens(parts, rotated.key, now)
    assert stored(parts, last.key).expires_at == now + DAY


def test_key_is_rotated_once(parts: Parts) -> None:
    """Of concurrent rotations of one key one succeeds, so no unknown key is created."""
    old = make(parts)

    results = at_once([partial(parts.keys.rotate, prefix_of(old), overlap=DAY, now=clock.now())] * 6)

    assert sum(isinstance(one, RotatedKey) for one in results) == 1
    assert all(isinstance(one, RotatedKey | InvalidRequest) for one in results)
    assert len(parts.keys.list()) == 2


def test_keys_that_cannot_be_rotated(parts: Parts) -> None:
    """Unknown, revoked and expired keys cannot be rotated."""
    now = clock.now()
    revoked, expired = make(parts, now=now), make(parts, expires_in=DAY, now=now)
    parts.keys.revoke(prefix_of(revoked), now=now)

    for prefix in ("oq_nonsense", prefix_of(revoked), prefix_of(expired)):
        with pytest.raises(InvalidRequest):
            parts.keys.rotate(prefix, overlap=DAY, now=now + DAY)
    assert len(parts.keys.list()) == 2


def test_ambiguous_prefix(parts: Parts) -> None:
    """An ambiguous prefix changes nothing. The refusal lists the ids, and an id works."""
    keys = [make(parts, key=f"oq_dev_{n}", client=f"client {n}") for n in range(2)]

    with pytest.raises(InvalidRequest) as revoking:
        parts.keys.revoke("oq_dev", now=clock.now())
    with pytest.raises(InvalidRequest) as rotating:
        parts.keys.rotate("oq_dev", overlap=DAY, now=clock.now())

    assert all(opens(parts, key, clock.now()) for key in keys)
    first, second = parts.keys.list()
    for refused in (revoking, rotating):
        said = refused.value.errors[0].message
        assert "pass the id of one" in said
        assert all(word in said for word in (str(first.id), str(second.id), "client 0", "client 1"))
    assert parts.keys.revoke(str(first.id).upper(), now=clock.now()).id == first.id
    assert [opens(parts, key, clock.now()) for key in keys] == [False, True]
    # The prefix now matches only one usable key.
    assert parts.keys.revoke("oq_dev", now=clock.now()).id == second.id


def test_whole_key_in_place_of_its_prefix(parts: Parts) -> None:
    """A whole leaked key may be given. No message repeats it."""
    key = make(parts)

    with pytest.raises(InvalidRequest) as refused:
        parts.keys.revoke("oq_unknown1_secretsecret", now=clock.now())

    assert "secretsecret" not in refused.value.errors[0].message
    assert parts.keys.revoke(key, now=clock.now()).prefix == prefix_of(key)


def test_last_use_is_noted_once_a_minute(parts: Parts) -> None:
    """Calls within a minute of a recorded use write nothing."""
    now = clock.now()
    key = make(parts, now=now)
    noted = []

    for after_s in (0, 59, 60, 61, 300):
        parts.keys.authenticate(key, now=now + timedelta(seconds=after_s))
        noted.append(stored(parts, key).last_used_at)

    assert noted == [now + timedelta(seconds=at_s) for at_s in (0, 0, 0, 61, 300)]


def test_recording_a_use_waits_for_no_lock(parts: Parts) -> None:
    """A lock on the key's row does not delay the call."""
    key = make(parts)
    locked = select(api_keys).with_for_update()
    with parts.engine.execution_options(isolation_level="READ COMMITTED").connect() as own, own.begin():
        own.execute(locked)
        with structlog.testing.capture_logs() as logs:
            assert opens(parts, key, clock.now())

    assert logs == []
    assert stored(parts, key).last_used_at is None


def test_use_that_cannot_be_recorded_refuses_no_call(parts: Parts) -> None:
    """A read-only database causes a warning with the prefix only."""
    key, database = make(parts), parts.engine.url.database
    with connection(parts.engine) as conn:
        conn.execute(text(f'ALTER DATABASE "{database}" SET default_transaction_read_only = on'))
    parts.engine.dispose()
    try:
        with structlog.testing.capture_logs() as logs:
            assert opens(parts, key, clock.now())
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("SET default_transaction_read_only = off"))
            conn.execute(text(f'ALTER DATABASE "{database}" RESET default_transaction_read_only'))
        parts.engine.dispose()

    assert [(one["event"], one["prefix"]) for one in logs] == [("key_use_not_noted", prefix_of(key))]
