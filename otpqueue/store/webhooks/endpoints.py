"""Queries on `webhook_endpoints`: each client's URL, its events, and its failures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, delete, func, insert, null, select, update
from uuid_utils.compat import uuid7

from otpqueue.domain.webhooks import DisabledReason
from otpqueue.store.schema import clients, webhook_endpoints
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_e = webhook_endpoints.c
_BETWEEN = " "
_SELECT = select(webhook_endpoints, clients.c.name.label("client")).join(clients)


@dataclass(frozen=True, kw_only=True)
class WebhookEndpoint:
    """A client's webhook endpoint and its events."""

    id: UUID
    client_id: UUID
    client: str
    """The client's name."""
    url: str
    events: tuple[str, ...]
    created_at: datetime
    previous_until: datetime | None
    """The replaced secret also signs until this time."""
    failing_since: datetime | None
    """Since this time every delivery has failed."""
    disabled_at: datetime | None
    disabled_reason: DisabledReason | None
    secrets: tuple[str, ...] = field(repr=False)
    """The current signing secrets, newest first; empty when their key is missing."""


def read(
    conn: Connection, client_id: UUID, *, vault: Vault, now: datetime, lock: bool = False
) -> WebhookEndpoint | None:
    """Return a client's endpoint, None if it has none; `lock` it until the transaction ends."""
    query = _SELECT.where(_e.client_id == client_id)
    row = conn.execute(query.with_for_update(of=webhook_endpoints) if lock else query).one_or_none()
    return _to_endpoint(row, vault, now) if row else None


def list_endpoints(conn: Connection, *, vault: Vault, now: datetime) -> list[WebhookEndpoint]:
    """Return all endpoints by the names of their clients."""
    rows = conn.execute(_SELECT.order_by(clients.c.name))
    return [_to_endpoint(row, vault, now) for row in rows]


def list_subscriptions(conn: Connection) -> frozenset[tuple[UUID, str]]:
    """Return the enabled pairs of client and event."""
    rows = conn.execute(
        select(_e.client_id, func.unnest(_e.events).label("event")).where(_e.disabled_at.is_(None))
    )
    return frozenset((row.client_id, row.event) for row in rows)


def add(
    conn: Connection,
    *,
    client_id: UUID,
    url: str,
    events: Sequence[str],
    secret: str,
    vault: Vault,
    now: datetime,
) -> None:
    """Store the endpoint of a client that has none. Raises IntegrityError when it has one."""
    endpoint_id = uuid7()
    key_id, sealed = vault.seal(secret, row_id=endpoint_id)
    conn.execute(
        insert(webhook_endpoints).values(
            id=endpoint_id,
            client_id=client_id,
            url=url,
            events=list(events),
            secrets_sealed=sealed,
            seal_key_id=key_id,
            created_at=now,
        )
    )


def change(conn: Connection, endpoint_id: UUID, *, url: str, events: Sequence[str]) -> None:
    """Store another URL and other events, and reset the failures of the old URL."""
    conn.execute(
        update(webhook_endpoints)
        .where(_e.id == endpoint_id)
        .values(url=url, events=list(events), failing_since=null())
    )


def replace_secrets(
    conn: Connection,
    endpoint_id: UUID,
    secrets: Sequence[str],
    *,
    previous_until: datetime | None,
    vault: Vault,
) -> None:
    """Store the secrets: the new one first, then the previous one, valid until `previous_until`."""
    key_id, sealed = vault.seal(_BETWEEN.join(secrets), row_id=endpoint_id)
    conn.execute(
        update(webhook_endpoints)
        .where(_e.id == endpoint_id)
        .values(secrets_sealed=sealed, seal_key_id=key_id, previous_until=previous_until)
    )


def enable(conn: Connection, endpoint_id: UUID) -> None:
    """Enable an endpoint and reset its failures."""
    conn.execute(
        update(webhook_endpoints)
        .where(_e.id == endpoint_id)
        .values(disabled_at=null(), disabled_reason=null(), failing_since=null())
    )


def remove(conn: Connection, endpoint_id: UUID) -> None:
    """Delete an endpoint."""
    conn.execute(delete(webhook_endpoints).where(_e.id == endpoint_id))


def open_secrets(row: Row[Any], *, row_id: UUID, vault: Vault, now: datetime) -> tuple[str, ...]:
    """Return the current signing secrets; when their key is missing, log it and return none."""
    try:
        opened = vault.unseal(row.secrets_sealed, key_id=row.seal_key_id, row_id=row_id)
    except (KeyError, InvalidTag):
        log.warning("webhook_secret_not_opened", client_id=str(row.client_id), seal_key_id=row.seal_key_id)
        return ()
    newest, *previous = opened.split(_BETWEEN)
    still = row.previous_until is not None and row.previous_until > now
    return (newest, *previous) if still else (newest,)


def _to_endpoint(row: Row[Any], vault: Vault, now: datetime) -> WebhookEndpoint:
    return WebhookEndpoint(
        id=row.id,
        client_id=row.client_id,
        client=row.client,
        url=row.url,
        events=tuple(row.events),
        created_at=row.created_at,
        previous_until=row.previous_until,
        failing_since=row.failing_since,
        disabled_at=row.disabled_at,
        disabled_reason=DisabledReason(row.disabled_reason) if row.disabled_reason else None,
        secrets=open_secrets(row, row_id=row.id, vault=vault, now=now),
    )
