"""API keys: made, stored as hashes, looked up, revoked."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from otpqueue import clock
from otpqueue.domain.errors import InvalidRequest, Unauthenticated
from otpqueue.operations.keys import prefix_of
from otpqueue.store.engine import connection
from otpqueue.store.schema import api_keys
from otpqueue.wiring import Parts


def test_key_opens_what_it_was_made_for(parts: Parts) -> None:
    """A new key is recognised as its client's, with the scopes it was given."""
    key = parts.keys.create(client="shop", scopes=frozenset({"send", "verify"}), now=clock.now())

    known = parts.keys.authenticate(key, now=clock.now())

    assert (known.client_name, known.scopes) == ("shop", {"send", "verify"})
    assert known.client_id == parts.keys.client_id("shop", now=clock.now())
    assert key.startswith(f"{known.prefix}_")
    assert known.revoked_at is None


def test_key_itself_is_not_stored(parts: Parts) -> None:
    """Only a hash and a prefix to recognise it by are kept of a key."""
    key = parts.keys.create(client="shop", scopes=frozenset({"send"}), now=clock.now())

    with connection(parts.engine) as conn:
        stored = str(conn.execute(select(api_keys)).mappings().one())
    assert key not in stored
    assert key.split("_", 2)[2] not in stored


def test_keys_of_one_client_share_it(parts: Parts) -> None:
    """Two keys of one name belong to one client, those of another name to another."""
    keys = [
        parts.keys.create(client=name, scopes=frozenset({"send"}), now=clock.now())
        for name in ("shop", "shop", "bank")
    ]

    clients = [parts.keys.authenticate(key, now=clock.now()).client_id for key in keys]

    assert clients[0] == clients[1] != clients[2]
    assert len(set(keys)) == 3


def test_same_key_twice_is_one_key(parts: Parts) -> None:
    """A key that is given, as `dev` does at each start, is stored once and keeps its scopes."""
    for scopes in ({"send"}, {"send", "admin"}):
        parts.keys.create(client="dev", scopes=frozenset(scopes), now=clock.now(), key="oq_dev_secret")

    (known,) = parts.keys.list()
    assert (known.prefix, known.scopes) == ("oq_dev", {"send"})


def test_revoked_key_opens_nothing(parts: Parts) -> None:
    """A revoked key is refused from then on; other keys go on working; to revoke it again does nothing."""
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
    """What is no key of ours is refused, whatever it looks like."""
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(key, now=clock.now())


@pytest.mark.parametrize("scopes", [set(), {"sned"}, {"send", "root"}])
def test_scopes_that_do_not_exist_are_refused(parts: Parts, scopes: set[str]) -> None:
    """A key is made with known scopes or not at all."""
    with pytest.raises(InvalidRequest):
        parts.keys.create(client="shop", scopes=frozenset(scopes), now=clock.now())

    assert parts.keys.list() == []
