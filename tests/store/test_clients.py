"""Clients, their API keys, and the provider's ids."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID, uuid4

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.templates import ProviderIds
from otpqueue.store import clients, provider_ids
from otpqueue.store.clients import ApiKey
from otpqueue.store.engine import connection
from tests.store.conftest import NOW, Store, later


def add(store: Store, prefix: str, key_hash: bytes, *, at_s: float = 0) -> None:
    """Store a key that may send and verify."""
    clients.add_key(
        store.conn,
        key_id=uuid4(),
        client_id=store.client_id,
        prefix=prefix,
        key_hash=key_hash,
        scopes=frozenset({"verify", "send"}),
        now=later(at_s),
    )


def test_client_is_made_once(store: Store) -> None:
    """Concurrent calls with one name create one client."""

    def work(_: int) -> UUID:
        with connection(store.engine) as conn:
            return clients.ensure_client(conn, "new", now=NOW)

    with ThreadPoolExecutor(4) as threads:
        ids = set(threads.map(work, range(8)))

    assert ids == {clients.find_client(store.conn, "new")}
    assert clients.find_client(store.conn, "unknown") is None


def test_key_is_found_by_its_hash(store: Store) -> None:
    """A stored key has its client and scopes."""
    add(store, "oq_abc", b"hash")

    found = clients.find_key(store.conn, [b"hash"], now=NOW)

    assert found
    assert found == ApiKey(
        id=found.id,
        prefix="oq_abc",
        client_id=store.client_id,
        client_name="shop",
        scopes=frozenset({"send", "verify"}),
        created_at=NOW,
        revoked_at=None,
        settings=ClientSettings(),
    )
    assert clients.find_key(store.conn, [b"other"], now=NOW) is None


def test_key_that_is_stored_already_stays(store: Store) -> None:
    """Storing a key again is no error and changes nothing: a restart may do it."""
    add(store, "oq_abc", b"hash")
    before = clients.list_keys(store.conn)

    add(store, "oq_new", b"hash", at_s=5)

    assert clients.list_keys(store.conn) == before


def test_revoked_key_is_not_found(store: Store) -> None:
    """A revoked key opens nothing from then on, and is still listed with the time."""
    add(store, "oq_abc", b"1")
    add(store, "oq_xyz", b"2", at_s=-1)

    (revoked,) = clients.find_keys(store.conn, "oq_abc")

    assert clients.revoke_key(store.conn, revoked.id, now=later(7))
    assert not clients.revoke_key(store.conn, revoked.id, now=later(8))

    assert clients.find_key(store.conn, [b"1"], now=NOW) is None
    assert clients.find_key(store.conn, [b"2"], now=NOW)
    listed = [(key.prefix, key.revoked_at) for key in clients.list_keys(store.conn)]
    assert listed == [("oq_xyz", None), ("oq_abc", later(7))]


def test_revoked_key_does_not_come_back(store: Store) -> None:
    """Storing a revoked key again does not activate it."""
    add(store, "oq_abc", b"1")
    clients.revoke_key(store.conn, clients.find_keys(store.conn, "oq_abc")[0].id, now=NOW)

    add(store, "oq_abc", b"1")

    assert clients.find_key(store.conn, [b"1"], now=NOW) is None


def test_provider_ids_are_kept_by_account_and_application(store: Store) -> None:
    """An id means nothing at another account or for another application; the last one stored is in force."""
    first = ProviderIds("A1", {"en": "M1"})
    second = ProviderIds("A2", {"en": "M2", "de": "M3"})
    key = {"base_url": "https://one", "application_name": "otpqueue"}

    assert provider_ids.read_ids(store.conn, **key) is None
    provider_ids.store_ids(store.conn, first, **key, now=NOW)
    assert provider_ids.read_ids(store.conn, **key) == first
    provider_ids.store_ids(store.conn, second, **key, now=later(1))

    assert provider_ids.read_ids(store.conn, **key) == second
    for differing in ({"base_url": "https://two"}, {"application_name": "other"}):
        assert provider_ids.read_ids(store.conn, **(key | differing)) is None
