"""API keys: created and shown once, stored as keyed hashes, authenticated, rotated, revoked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine
from uuid_utils.compat import uuid7

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import (
    CredentialFault,
    DatabaseUnavailable,
    FieldError,
    InvalidRequest,
    Unauthenticated,
)
from otpqueue.domain.keys import SCOPES, KeyState
from otpqueue.operations.access.cache import FAULTS, AccessCache
from otpqueue.operations.auditing import record_action
from otpqueue.store import clients
from otpqueue.store.clients import ApiKey
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_LONGEST_NAME = 64
_LONGEST_NOTE = 200
_PREFIX_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"
_USE_NOTED_EVERY = timedelta(minutes=1)


def new_key() -> str:
    """Return a new key: `oq_`, a prefix that identifies it, and 256 random bits."""
    prefix = "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))
    return f"oq_{prefix}_{secrets.token_urlsafe(32)}"


def prefix_of(api_key: str) -> str:
    """Return the part of a key that may be shown."""
    return "_".join(api_key.split("_")[:2])


def check_client_name(name: str) -> None:
    """Raise InvalidRequest for an invalid client name."""
    if not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise InvalidRequest([FieldError("client", f"must be 1 to {_LONGEST_NAME} printable characters")])


@dataclass(frozen=True, kw_only=True)
class RotatedKey:
    """A new key, which is shown only now, and the key that it replaces."""

    key: str
    old: ApiKey
    """Its current state. It works until its `expires_at`."""


@dataclass(frozen=True, kw_only=True)
class ApiKeys:
    """Manages API keys."""

    engine: Engine
    vault: Vault
    _noted: dict[UUID, datetime] = field(default_factory=dict, repr=False)
    """When this process last recorded the use of each key. The cache does not have this."""

    def create(
        self,
        *,
        client: str,
        scopes: frozenset[str],
        now: datetime,
        key: str | None = None,
        expires_in: timedelta | None = None,
        note: str | None = None,
    ) -> str:
        """Store a key for a client and return it.

        A missing client is created. A new key is generated unless one is given.

        The key does not expire unless `expires_in` is given. Raises InvalidRequest for an unknown scope, an
        invalid name, note or duration; DatabaseUnavailable.
        """
        if not scopes or not scopes <= SCOPES:
            raise InvalidRequest([FieldError("scopes", f"must be among {', '.join(sorted(SCOPES))}")])
        check_client_name(client)
        if note is not None and (len(note) > _LONGEST_NOTE or not note.isprintable()):
            raise InvalidRequest(
                [FieldError("note", f"must be at most {_LONGEST_NOTE} printable characters")]
            )
        expires_at = None if expires_in is None else _end(now, expires_in, "expires_in")
        key = key or new_key()
        key_hash, shown = self.vault.key_hash(key), prefix_of(key)

        def work(conn: Connection) -> None:
            client_id = clients.ensure_client(conn, client, now=now)
            added = clients.add_key(
                conn,
                key_id=uuid7(),
                client_id=client_id,
                prefix=shown,
                key_hash=key_hash,
                scopes=scopes,
                now=now,
                expires_at=expires_at,
                note=note,
            )
            if added:
                record_action(
                    conn,
                    OperatorAction.KEY_CREATED,
                    client_id=client_id,
                    target=shown,
                    details=_describe_key(scopes, expires_at),
                )

        transaction(self.engine, work)
        return key

    def list(self) -> list[ApiKey]:
        """Return all keys, oldest first."""
        with connection(self.engine) as conn:
            return clients.list_keys(conn)

    def rotate(
        self, prefix: str, *, overlap: timedelta, now: datetime, expires_in: timedelta | None = None
    ) -> RotatedKey:
        """Create the successor of a key, with its client, scopes and note. Both keys work for `overlap`.

        The new key has the same lifetime as the old one unless `expires_in` is given. `prefix` may also be
        the key's id. Raises InvalidRequest unless exactly one active key matches, and for a key that has
        already been rotated; DatabaseUnavailable.
        """
        until = _end(now, overlap, "overlap")
        key, new_id = new_key(), uuid7()

        def work(conn: Connection) -> ApiKey:
            # Locked, so that the second of two concurrent rotations finds the key already rotated.
            old = _find_single_key(
                prefix, clients.find_keys(conn, prefix_of(prefix), lock=True), now, ended=False
            )
            if old.replaced_by:
                raise InvalidRequest(
                    [FieldError("prefix", f"{old.prefix} has already been rotated; rotate its successor")]
                )
            lifetime = expires_in or (old.expires_at - old.created_at if old.expires_at else None)
            clients.add_key(
                conn,
                key_id=new_id,
                client_id=old.client_id,
                prefix=prefix_of(key),
                key_hash=self.vault.key_hash(key),
                scopes=old.scopes,
                now=now,
                expires_at=_end(now, lifetime, "expires_in") if lifetime else None,
                note=old.note,
            )
            clients.replace_key(conn, old.id, by=new_id, expires_at=until)
            (changed,) = clients.find_keys(conn, str(old.id))
            record_action(
                conn,
                OperatorAction.KEY_ROTATED,
                client_id=old.client_id,
                target=old.prefix,
                details={"successor": prefix_of(key), "works_until": _format(changed.expires_at)},
            )
            return changed

        return RotatedKey(old=transaction(self.engine, work), key=key)

    def revoke(self, prefix: str, *, now: datetime) -> ApiKey:
        """Revoke the key with this prefix or id immediately. Returns its state before.

        Raises InvalidRequest unless exactly one key matches; DatabaseUnavailable.
        """

        def work(conn: Connection) -> ApiKey:
            key = _find_single_key(prefix, clients.find_keys(conn, prefix_of(prefix)), now, ended=True)
            if clients.revoke_key(conn, key.id, now=now):
                record_action(conn, OperatorAction.KEY_REVOKED, client_id=key.client_id, target=key.prefix)
            return key

        return transaction(self.engine, work)

    def client_id(self, name: str, *, now: datetime) -> UUID:
        """Return the id of the client with this name, which is created if missing."""
        with connection(self.engine) as conn:
            return clients.find_client(conn, name) or clients.ensure_client(conn, name, now=now)

    def hashes(self, api_key: str) -> Sequence[bytes]:
        """Return the hashes that a key is looked up by."""
        return self.vault.key_hashes(api_key)

    def recognise(self, api_key: str, *, access: AccessCache, now: datetime) -> ApiKey:
        """Return an API key from the cache of this process, and record its use.

        A revoked key works until the cache is refreshed. Raises Unauthenticated, DatabaseUnavailable.
        """
        hashes = self.vault.key_hashes(api_key)
        found = access.find_key(hashes)
        if found is None:
            # The look-up that missed has just refreshed the snapshot.
            raise Unauthenticated(access.current().explain_miss(hashes))
        if len(hashes) > 1 and not access.is_listed(hashes[0]):
            with connection(self.engine) as conn:
                clients.rehash_key(conn, found.id, hashes[0])
        self._note_use(found, now)
        return found

    def authenticate(self, api_key: str, *, now: datetime) -> ApiKey:
        """Return an API key, and record its use.

        Raises Unauthenticated if it is unknown, revoked or expired; DatabaseUnavailable.
        """
        hashes = self.vault.key_hashes(api_key)
        with connection(self.engine) as conn:
            found = clients.find_key(conn, hashes, now=now)
            if found and len(hashes) > 1:
                clients.rehash_key(conn, found.id, hashes[0])
        if found is None:
            raise Unauthenticated(CredentialFault.UNKNOWN_KEY)
        self._note_use(found, now)
        return found

    def in_force(self, key_id: UUID, *, now: datetime) -> ApiKey:
        """Return a key that was authenticated before, and record its use.

        Raises Unauthenticated if it has since been revoked or has expired; DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            found = clients.find_key_by_id(conn, key_id)
        if found is None:
            raise Unauthenticated(CredentialFault.UNKNOWN_KEY)
        if (fault := FAULTS.get(found.state(now))) is not None:
            raise Unauthenticated(fault)
        self._note_use(found, now)
        return found

    def _note_use(self, key: ApiKey, now: datetime) -> None:
        last = max(filter(None, (key.last_used_at, self._noted.get(key.id))), default=None)
        if last is not None and last >= now - _USE_NOTED_EVERY:
            return
        self._noted[key.id] = now
        try:
            with connection(self.engine) as conn:
                clients.record_use(conn, key.id, now=now, unless_since=now - _USE_NOTED_EVERY)
        except DatabaseUnavailable:
            # This must not fail the call. The next call tries again.
            log.warning("key_use_not_noted", prefix=key.prefix)


def _find_single_key(named: str, found: list[ApiKey], now: datetime, *, ended: bool) -> ApiKey:
    """Return the only matching key; ended keys count only if `ended`. Raises InvalidRequest."""
    shown = prefix_of(named)
    usable = [key for key in found if ended or key.state(now) is not KeyState.EXPIRED]
    if not usable:
        raise InvalidRequest(
            [FieldError("prefix", f"{shown} matches no active API key (`otpqueue keys list`)", missing=True)]
        )
    if len(usable) > 1:
        ids = ", ".join(f"{key.id} ({key.client_name}, {key.created_at:%Y-%m-%d %H:%M})" for key in usable)
        raise InvalidRequest(
            [FieldError("prefix", f"{shown} matches {len(usable)} keys; pass the id of one instead: {ids}")]
        )
    return usable[0]


def _describe_key(scopes: frozenset[str], expires_at: datetime | None) -> dict[str, Any]:
    return {"scopes": sorted(scopes), "expires_at": _format(expires_at)}


def _format(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _end(now: datetime, duration: timedelta, field: str) -> datetime:
    # An overlap of zero is allowed: the old key then ends immediately.
    if duration < timedelta(0) or (field == "expires_in" and not duration):
        must = "must be positive" if field == "expires_in" else "must not be negative"
        raise InvalidRequest([FieldError(field, must)])
    try:
        return now + duration
    except OverflowError:
        raise InvalidRequest([FieldError(field, "is too long")]) from None
