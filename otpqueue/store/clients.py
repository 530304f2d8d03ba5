"""Queries on clients and their API keys."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, RowMapping, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.store.schema import api_keys, clients


@dataclass(frozen=True, kw_only=True)
class ApiKey:
    """An API key as it is stored: who it belongs to and what it may do, never the key itself."""

    id: UUID
    prefix: str
    client_id: UUID
    client_name: str
    scopes: frozenset[str]
    created_at: datetime
    revoked_at: datetime | None


_SELECT = select(api_keys, clients.c.name.label("client_name")).join(clients)


def ensure_client(conn: Connection, name: str, *, now: datetime) -> UUID:
    """Return the id of the client with this name, made if there is none."""
    conn.execute(insert(clients).values(id=uuid7(), name=name, created_at=now).on_conflict_do_nothing())
    client_id: UUID = conn.execute(select(clients.c.id).where(clients.c.name == name)).scalar_one()
    return client_id


def find_client(conn: Connection, name: str) -> UUID | None:
    """Return the id of the client with this name, None if there is none."""
    return conn.execute(select(clients.c.id).where(clients.c.name == name)).scalar_one_or_none()


def names_and_settings(conn: Connection) -> dict[UUID, tuple[str, ClientSettings]]:
    """Return the name of each client, and what is set for it alone."""
    rows = conn.execute(select(clients.c.id, clients.c.name, clients.c.settings))
    return {row.id: (row.name, ClientSettings.from_stored(row.settings)) for row in rows}


def settings_of(conn: Connection, client_id: UUID) -> ClientSettings:
    """Return what is set for this client alone."""
    stored = conn.execute(select(clients.c.settings).where(clients.c.id == client_id)).scalar_one()
    return ClientSettings.from_stored(stored)


def add_key(
    conn: Connection, *, client_id: UUID, prefix: str, key_hash: bytes, scopes: frozenset[str], now: datetime
) -> None:
    """Store a key's hash; a key that is stored already stays as it is."""
    conn.execute(
        insert(api_keys)
        .values(
            id=uuid7(),
            client_id=client_id,
            prefix=prefix,
            key_hash=key_hash,
            scopes=sorted(scopes),
            created_at=now,
        )
        .on_conflict_do_nothing(index_elements=["key_hash"])
    )


def find_key(conn: Connection, key_hash: bytes) -> ApiKey | None:
    """Return the key with this hash unless it is revoked."""
    row = conn.execute(
        _SELECT.where(api_keys.c.key_hash == key_hash, api_keys.c.revoked_at.is_(None))
    ).one_or_none()
    return _to_key(row._mapping) if row else None


def list_keys(conn: Connection) -> list[ApiKey]:
    """Return all keys, oldest first."""
    rows = conn.execute(_SELECT.order_by(api_keys.c.created_at, api_keys.c.id))
    return [_to_key(row._mapping) for row in rows]


def revoke_key(conn: Connection, prefix: str, *, now: datetime) -> int:
    """Revoke the keys with this prefix that are not revoked yet; return how many."""
    result = conn.execute(
        update(api_keys)
        .where(api_keys.c.prefix == prefix, api_keys.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return result.rowcount


def _to_key(row: RowMapping) -> ApiKey:
    return ApiKey(
        id=row["id"],
        prefix=row["prefix"],
        client_id=row["client_id"],
        client_name=row["client_name"],
        scopes=frozenset(row["scopes"]),
        created_at=row["created_at"],
        revoked_at=row["revoked_at"],
    )
