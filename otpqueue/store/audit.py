"""Queries on the audit trail."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, insert, select, tuple_
from uuid_utils.compat import uuid7

from otpqueue.domain.alerts import derive_tag, format_number
from otpqueue.domain.audit import (
    AuditActor,
    AuditEntry,
    AuditOutcome,
    AuditSubject,
    AuditSurface,
    ErasureRecord,
    OperatorAction,
)
from otpqueue.domain.search import SearchPosition
from otpqueue.store.alerts.subjects import read_masked_numbers
from otpqueue.store.schema import audit_entries, audit_subjects, clients, erasures
from otpqueue.store.vault import Vault

_e = audit_entries.c
_s = audit_subjects.c


@dataclass(frozen=True, kw_only=True)
class AuditTerms:
    """The search terms; None matches everything."""

    since: datetime | None = None
    until: datetime | None = None
    action: OperatorAction | None = None
    surface: AuditSurface | None = None
    actor: str | None = None
    client_id: UUID | None = None
    number_hashes: Sequence[bytes] | None = None


def add_entry(
    conn: Connection,
    *,
    action: OperatorAction,
    outcome: AuditOutcome,
    actor: AuditActor,
    client_id: UUID | None,
    target: str | None,
    country: str | None,
    subject: AuditSubject | None,
    reason: str | None,
    details: Mapping[str, Any],
    now: datetime,
) -> None:
    """Store an entry."""
    entry_id = uuid7()
    conn.execute(
        insert(audit_entries).values(
            id=entry_id,
            at=now,
            action=action.value,
            outcome=outcome.value,
            surface=actor.surface.value,
            actor=actor.name,
            key_id=actor.key_id,
            session=actor.session,
            peer=actor.peer,
            call_id=actor.call_id,
            client_id=client_id,
            target=target,
            country=country,
            reason=reason,
            details=dict(details),
        )
    )
    if subject:
        conn.execute(
            insert(audit_subjects).values(
                entry_id=entry_id, at=now, number_hash=subject.number_hash, request_id=subject.request_id
            )
        )


def list_newest(
    conn: Connection, terms: AuditTerms, *, after: SearchPosition | None, limit: int, vault: Vault
) -> tuple[list[AuditEntry], SearchPosition | None]:
    """Return up to `limit` entries after a position, newest first, and the next position, None at the end."""
    wanted = [
        *([_e.at >= terms.since] if terms.since else []),
        *([_e.at < terms.until] if terms.until else []),
        *([_e.action == terms.action.value] if terms.action else []),
        *([_e.surface == terms.surface.value] if terms.surface else []),
        *([func.starts_with(_e.actor, terms.actor)] if terms.actor else []),
        *([_e.client_id == terms.client_id] if terms.client_id else []),
        *([_s.number_hash.in_(terms.number_hashes)] if terms.number_hashes is not None else []),
        *([tuple_(_e.at, _e.id) < tuple_(after.created_at, after.id)] if after else []),
    ]
    rows = conn.execute(
        select(audit_entries, clients.c.name.label("client"), _s.number_hash, _s.request_id)
        .select_from(audit_entries)
        .outerjoin(clients, clients.c.id == _e.client_id)
        .outerjoin(audit_subjects, _s.entry_id == _e.id)
        .where(*wanted)
        .order_by(_e.at.desc(), _e.id.desc())
        .limit(limit + 1)
    ).all()
    found = rows[:limit]
    masked = read_masked_numbers(conn, {row.number_hash for row in found if row.number_hash}, vault)
    last = SearchPosition(found[-1].at, found[-1].id) if len(rows) > limit else None
    return [_to_entry(row, masked) for row in found], last


def list_erasures(conn: Connection, *, since: datetime | None, limit: int) -> list[ErasureRecord]:
    """Return the erasures of numbers, newest first, each with what its audit entry says."""
    rows = conn.execute(
        select(erasures, clients.c.name.label("client"))
        .outerjoin(clients, clients.c.id == erasures.c.client_id)
        .where(*([erasures.c.at >= since] if since else []))
        .order_by(erasures.c.at.desc(), erasures.c.id.desc())
        .limit(limit)
    ).all()
    entries = {
        row.target: row
        for row in conn.execute(
            select(_e.target, _e.actor, _e.surface, _e.reason).where(
                _e.action == OperatorAction.NUMBER_ERASED.value, _e.target.in_([str(row.id) for row in rows])
            )
        )
    }
    return [_to_erasure(row, entries.get(str(row.id))) for row in rows]


def _to_erasure(row: Row[Any], entry: Row[*tuple[Any, ...]] | None) -> ErasureRecord:
    return ErasureRecord(
        id=row.id,
        at=row.at,
        by=entry.actor if entry else row.client or "operator",
        surface=AuditSurface(entry.surface) if entry else None,
        reason=entry.reason if entry else None,
        counts=row.counts,
    )


def _to_entry(row: Row[Any], masked: Mapping[bytes, str]) -> AuditEntry:
    number = None
    if row.number_hash is not None:
        number = format_number(derive_tag(row.number_hash), masked.get(row.number_hash))
    return AuditEntry(
        id=row.id,
        at=row.at,
        action=row.action,
        outcome=AuditOutcome(row.outcome),
        actor=AuditActor(
            surface=AuditSurface(row.surface),
            name=row.actor,
            key_id=row.key_id,
            session=row.session,
            peer=row.peer,
            call_id=row.call_id,
        ),
        client=row.client,
        target=row.target,
        country=row.country,
        phone_number=number,
        request_id=row.request_id,
        reason=row.reason,
        details=row.details,
    )
