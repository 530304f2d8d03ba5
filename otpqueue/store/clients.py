"""Queries on clients and their API keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, Text, and_, bindparam, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.keys import KeyState, get_key_state
from otpqueue.domain.limits import Quotas
from otpqueue.store.schema import api_keys, clients

_k = api_keys.c


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """A stored API key: its client and scopes, never the key itself."""

    id: UUID
    prefix: str
    client_id: UUID
    client_name: str
    scopes: frozenset[str]
    note: str | None = None
    created_at: datetime
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    """To the minute at best."""
    revoked_at: datetime | None = None
    replaced_by: UUID | None = None

    def state(self, now: datetime) -> KeyState:
        """Return the state of the key."""
        return get_key_state(
            expires_at=self.expires_at,
            revoked_at=self.revoked_at,
            replaced=self.replaced_by is not None,
            now=now,
        )

    settings: ClientSettings = field(default_factory=ClientSettings)
    """The client's settings."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """A stored client."""

    id: UUID
    name: str
    created_at: datetime
    settings: dict[str, Any]
    """As JSON, possibly with settings of another version."""


@dataclass(frozen=True, kw_only=True)
class AccessList:
    """All clients and their API keys."""

    keys: Mapping[bytes, ApiKey] = field(repr=False)
    """Those that are neither revoked nor expired, by their hashes."""
    ended: Mapping[bytes, KeyState] = field(default_factory=dict, repr=False)
    """Whether each other key has expired or was revoked, by its hash. Old ones are omitted."""
    settings: Mapping[UUID, ClientSettings]
    """Each client's own settings, by its id."""
    ids: Mapping[str, UUID]
    """The ids of clients, by name."""


ENDED_KEYS_KNOWN = timedelta(days=90)
"""How long a caller with an ended key learns that it has expired or was revoked."""

_ENDED = frozenset({KeyState.EXPIRED, KeyState.REVOKED})

_SELECT = select(api_keys, clients.c.name.label("client_name"), clients.c.settings).join(clients)


_ACCESS_LIST = (
    select(
        clients.c.id.label("client_id"),
        clients.c.name.label("client_name"),
        clients.c.settings,
        *(column for column in api_keys.c if column.name != "client_id"),
    )
    .select_from(clients)
    .outerjoin(
        api_keys,
        and_(
            _k.client_id == clients.c.id,
            or_(_k.revoked_at.is_(None), _k.revoked_at > bindparam("since")),
            or_(_k.expires_at.is_(None), _k.expires_at > bindparam("since")),
        ),
    )
)


def ensure_client(conn: Connection, name: str, *, now: datetime) -> UUID:
    """Return the id of the client with this name. Create the client if there is none."""
    conn.execute(insert(clients).values(id=uuid7(), name=name, created_at=now).on_conflict_do_nothing())
    client_id: UUID = conn.execute(select(clients.c.id).where(clients.c.name == name)).scalar_one()
    return client_id


def find_client(conn: Connection, name: str) -> UUID | None:
    """Return the id of the client with this name, None if there is none."""
    return conn.execute(select(clients.c.id).where(clients.c.name == name)).scalar_one_or_none()


def add_client(conn: Connection, name: str, *, now: datetime) -> UUID | None:
    """Store a client and return its id; return None if the name is taken."""
    new = insert(clients).values(id=uuid7(), name=name, created_at=now).on_conflict_do_nothing()
    return conn.execute(new.returning(clients.c.id)).scalar_one_or_none()


def list_clients(conn: Connection) -> list[Client]:
    """Return all clients by name."""
    return [_to_client(row) for row in conn.execute(select(clients).order_by(clients.c.name))]


def read_own_quotas(conn: Connection) -> dict[UUID, Quotas]:
    """Return each client's own quotas."""
    return {one.id: ClientSettings.from_stored(one.settings).limits for one in list_clients(conn)}


def read_client(conn: Connection, name: str, *, lock: bool = False) -> Client | None:
    """Return the client with this name, None if there is none. `lock` locks it until the transaction ends."""
    query = select(clients).where(clients.c.name == name)
    row = conn.execute(query.with_for_update() if lock else query).one_or_none()
    return _to_client(row) if row else None


def store_settings(conn: Connection, client_id: UUID, settings: Mapping[str, Any]) -> None:
    """Replace a client's own settings."""
    conn.execute(update(clients).where(clients.c.id == client_id).values(settings=dict(settings)))


def read_names_and_settings(conn: Connection) -> dict[UUID, tuple[str, ClientSettings]]:
    """Return the name and the own settings of each client."""
    rows = conn.execute(select(clients.c.id, clients.c.name, clients.c.settings))
    return {row.id: (row.name, ClientSettings.from_stored(row.settings)) for row in rows}


def read_access_list(conn: Connection, *, now: datetime) -> AccessList:
    """Return all clients and their API keys, without those that ended more than ENDED_KEYS_KNOWN ago."""
    found = conn.execute(_ACCESS_LIST, {"since": now - ENDED_KEYS_KNOWN}).all()
    settings = {row.client_id: ClientSettings.from_stored(row.settings) for row in found}
    keys = {row.key_hash: _to_key(row) for row in found if row.key_hash is not None}
    states = {key_hash: key.state(now) for key_hash, key in keys.items()}
    ended = {key_hash: state for key_hash, state in states.items() if state in _ENDED}
    return AccessList(
        keys={key_hash: key for key_hash, key in keys.items() if key_hash not in ended},
        ended=ended,
        settings=settings,
        ids={row.client_name: row.client_id for row in found},
    )


def read_settings(conn: Connection, client_id: UUID) -> ClientSettings:
    """Return this client's own settings."""
    stored = conn.execute(select(clients.c.settings).where(clients.c.id == client_id)).scalar_one()
    return ClientSettings.from_stored(stored)


def add_key(
    conn: Connection,
    *,
    key_id: UUID,
    client_id: UUID,
    prefix: str,
    key_hash: bytes,
    scopes: frozenset[str],
    now: datetime,
    expires_at: datetime | None = None,
    note: str | None = None,
) -> bool:
    """Store a key's hash. A key that is already stored does not change; then return False."""
    added = conn.execute(
        insert(api_keys)
        .values(
            id=key_id,
            client_id=client_id,
            prefix=prefix,
            key_hash=key_hash,
            scopes=sorted(scopes),
            created_at=now,
            expires_at=expires_at,
            note=note,
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
        .returning(_k.id)
    )
    return added.first() is not None


def find_key(conn: Connection, key_hashes: Sequence[bytes], *, now: datetime) -> ApiKey | None:
    """Return the key with one of these hashes unless it is revoked or has expired."""
    row = conn.execute(_SELECT.where(_k.key_hash.in_(key_hashes), *_works(now))).one_or_none()
    return _to_key(row) if row else None


def find_key_by_id(conn: Connection, key_id: UUID) -> ApiKey | None:
    """Return the key with this id, also if it is revoked or has expired."""
    row = conn.execute(_SELECT.where(_k.id == key_id)).one_or_none()
    return _to_key(row) if row else None


def _works(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return _k.revoked_at.is_(None), or_(_k.expires_at.is_(None), _k.expires_at > now)


def record_use(conn: Connection, key_id: UUID, *, now: datetime, unless_since: datetime) -> None:
    """Store when a key was used, unless a use since `unless_since` is stored. Skips a locked row."""
    stale = (
        select(_k.id)
        .where(_k.id == key_id, or_(_k.last_used_at.is_(None), _k.last_used_at < unless_since))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    conn.execute(update(api_keys).where(_k.id == stale).values(last_used_at=now))


def rehash_key(conn: Connection, key_id: UUID, key_hash: bytes) -> None:
    """Replace the hash of a key. Only possible while the key itself is known, at its use."""
    conn.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id, api_keys.c.key_hash != key_hash)
        .values(key_hash=key_hash)
    )


def list_keys(conn: Connection) -> list[ApiKey]:
    """Return all keys, oldest first."""
    return [_to_key(row) for row in conn.execute(_SELECT.order_by(_k.created_at, _k.id))]


def find_keys(conn: Connection, prefix_or_id: str, *, lock: bool = False) -> list[ApiKey]:
    """Return the unrevoked keys with this prefix or id, oldest first. `lock` locks them."""
    named = or_(_k.prefix == prefix_or_id, cast(_k.id, Text) == prefix_or_id.lower())
    found = _SELECT.where(named, _k.revoked_at.is_(None)).order_by(_k.created_at, _k.id)
    return [_to_key(row) for row in conn.execute(found.with_for_update(of=api_keys) if lock else found)]


def replace_key(conn: Connection, key_id: UUID, *, by: UUID, expires_at: datetime) -> None:
    """Set `by` as the successor of a key, which expires at `expires_at` or at its own earlier expiry."""
    conn.execute(
        update(api_keys)
        .where(_k.id == key_id)
        # LEAST ignores null.
        .values(replaced_by=by, expires_at=func.least(_k.expires_at, expires_at))
    )


def revoke_key(conn: Connection, key_id: UUID, *, now: datetime) -> bool:
    """Revoke a key; return False if it was revoked before."""
    result = conn.execute(
        update(api_keys).where(_k.id == key_id, _k.revoked_at.is_(None)).values(revoked_at=now)
    )
    return bool(result.rowcount)


def _to_client(row: Row[Any]) -> Client:
    return Client(id=row.id, name=row.name, created_at=row.created_at, settings=row.settings)


def _to_key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        prefix=row.prefix,
        client_id=row.client_id,
        client_name=row.client_name,
        scopes=frozenset(row.scopes),
        note=row.note,
        created_at=row.created_at,
        expires_at=row.expires_at,
        last_used_at=row.last_used_at,
        revoked_at=row.revoked_at,
        replaced_by=row.replaced_by,
        settings=ClientSettings.from_stored(row.settings),
    )
