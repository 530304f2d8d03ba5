"""Queries on the whole history of a request, for any client."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Column, Connection, Table, select

from otpqueue.domain.history import CodeCheck, History, MoveSubject, ReportedDelivery, SendAttempt, StatusMove
from otpqueue.domain.request import SendState, Status
from otpqueue.store.schema import checks, clients, moves, otp_requests, receipts, send_attempts
from otpqueue.store.vault import Vault

Part = TypeVar("Part", SendAttempt, CodeCheck, ReportedDelivery, StatusMove)

_ROW = {
    "id",
    "client_reference",
    "country",
    "language",
    "channel",
    "status",
    "send_state",
    "reason",
    "provider_code",
    "created_at",
    "send_by",
    "sent_at",
    "expires_at",
    "verified_at",
    "finished_at",
    "sends",
    "checks_used",
    "checks_allowed",
}


def find(conn: Connection, request_id: UUID, *, vault: Vault) -> History | None:
    """Return a request with its whole history, None if there is none.

    Several queries: call in a transaction that sees one moment (REPEATABLE READ).
    """
    row = conn.execute(
        select(otp_requests, clients.c.name).join(clients).where(otp_requests.c.id == request_id)
    ).one_or_none()
    if row is None:
        return None
    fields = {name: value for name, value in row._mapping.items() if name in _ROW}
    return History(
        **fields | {"status": Status(row.status), "send_state": SendState(row.send_state)},
        client=row.name,
        phone_number=vault.unseal_masked_number(row.number_sealed, key_id=row.seal_key_id, row_id=row.id),
        attempts=_parts(conn, SendAttempt, send_attempts, request_id, send_attempts.c.number),
        checks=_parts(conn, CodeCheck, checks, request_id, checks.c.number),
        receipts=_parts(conn, ReportedDelivery, receipts, request_id, receipts.c.id),
        moves=_parts(conn, StatusMove, moves, request_id, moves.c.number),
    )


def _parts(
    conn: Connection, kind: type[Part], table: Table, request_id: UUID, order: Column[Any]
) -> tuple[Part, ...]:
    columns = [table.c[field.name] for field in fields(kind)]
    rows = conn.execute(select(*columns).where(table.c.request_id == request_id).order_by(order))
    made = [dict(row._mapping) for row in rows]
    if kind is StatusMove:
        made = [one | {"of": MoveSubject(one["of"])} for one in made]
    return tuple(kind(**one) for one in made)
