"""Queries on `otp_requests` from the caller's view: read, resend, cancel and expire requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, and_, case, func, or_, select, update
from sqlalchemy.sql import ColumnElement

from otpqueue.domain.guard import CountedSend
from otpqueue.domain.request import (
    CHECKABLE,
    LIVE,
    MAX_SENDS,
    RESEND_HEADROOM,
    Channel,
    OtpRequest,
    Reason,
    Resend,
    SendKind,
    SendState,
    Status,
    find_sources,
)
from otpqueue.store.engine import fetch
from otpqueue.store.schema import otp_requests
from otpqueue.store.vault import Vault

_r = otp_requests.c

_COLUMNS = (
    "id", "client_id", "number_sealed", "seal_key_id", "channel", "status", "send_state", "reason",
    "provider_code", "client_reference", "created_at", "send_by", "sent_at", "expires_at", "verified_at",
    "checks_allowed", "checks_used", "check_lease_until", "updated_at", "is_test", "sends", "resend",
    "resend_channel", "resend_reason", "resend_after", "trace_context",
)  # fmt: skip
"""The columns that `to_domain` reads."""

REQUEST_COLUMNS = ", ".join(f"r.{name}" for name in _COLUMNS)
"""The same in SQL, for a row named `r`."""

FUNCTION_COLUMNS = ", ".join(f"(r).{name}" for name in _COLUMNS)
"""The same for a composite value named `r`."""

_FIND = f"SELECT {REQUEST_COLUMNS} FROM otp_requests AS r WHERE r.id = %(id)s AND r.client_id = %(client)s"  # noqa: S608


def build_end_values(status: Status, reason: Reason | ColumnElement[str], now: datetime) -> dict[str, Any]:
    """Return the columns of a request that ends. A worker that holds it keeps its claim and records late.

    A pending resend fails, for the reason that the request ended.
    """
    why = reason.value if isinstance(reason, Reason) else reason
    unsent = (_r.send_state == SendState.DUE) & (_r.resend == Resend.PENDING)
    return {
        "status": status.value,
        "reason": why,
        "finished_at": now,
        "updated_at": now,
        "next_attempt_at": None,
        "send_state": case((_r.send_state == SendState.DUE, SendState.IDLE.value), else_=_r.send_state),
        "resend": case((unsent, Resend.FAILED.value), else_=_r.resend),
        "resend_reason": case((unsent, why), else_=_r.resend_reason),
    }


def filter_by_status(statuses: Iterable[Status]) -> ColumnElement[bool]:
    """Return the condition that a request has one of these statuses."""
    return _r.status.in_(sorted(status.value for status in statuses))


def filter_by_session(session_hashes: Sequence[bytes] | None) -> ColumnElement[bool]:
    """Return the condition that a request was made for the session with one of these hashes, or for none."""
    return _r.session_hash.is_(None) if session_hashes is None else _r.session_hash.in_(session_hashes)


def _guarded_resend(guard: CountedSend | None) -> dict[str, Any]:
    """Return the columns of a resend that the pumping guard reads."""
    if guard is None or guard.counted_as is None:
        return {"guard_block": guard.block} if guard else {}
    column = _r[f"guard_{guard.counted_as.value}"]
    return {
        "guard_block": guard.block,
        "guard_as": guard.counted_as.value,
        "guard_counted": _r.sends + 1,
        column.name: column + 1,
    }


def find(where: Engine | Connection, request_id: UUID, *, client_id: UUID, vault: Vault) -> OtpRequest | None:
    """Return this client's request, None if there is none."""
    found = fetch(where, _FIND, {"id": request_id, "client": client_id})
    return to_domain(found[0], vault) if found else None


def find_with_number(
    where: Engine | Connection, request_id: UUID, *, client_id: UUID, vault: Vault
) -> tuple[OtpRequest, str] | None:
    """Return this client's request and the whole number it goes to, None if there is none."""
    found = fetch(where, _FIND, {"id": request_id, "client": client_id})
    if not found:
        return None
    row = found[0]
    return to_domain(row, vault), vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)


def find_newest(
    conn: Connection,
    *,
    client_id: UUID,
    number_hashes: Sequence[bytes],
    session_hashes: Sequence[bytes] | None,
) -> UUID | None:
    """Return the id of this client's newest request for the number and session, preferring a live one.

    Without one, it returns a live one of another session. The check of that one gets the answer for a wrong
    code, so a wrong session looks like a mistyped code.
    """
    mine = filter_by_session(session_hashes)
    return _newest(conn, client_id, number_hashes, or_(mine, filter_by_status(LIVE)), mine=mine)


def find_newest_keyless(
    conn: Connection,
    *,
    client_id: UUID,
    number_hashes: Sequence[bytes],
    session_hashes: Sequence[bytes] | None,
    now: datetime,
) -> UUID | None:
    """Return the id of the newest request that a caller without a key may know of; None if there is none.

    With a session, which is the caller's secret, it is a request of that session, preferring a live one.
    Without a session, it is a live request made without a session. The query for any other request takes
    equally long.
    """
    mine = filter_by_session(session_hashes)
    known = mine
    if session_hashes is None:
        known = and_(mine, filter_by_status(LIVE), or_(_r.expires_at.is_(None), _r.expires_at > now))
    return _newest(conn, client_id, number_hashes, known, mine=mine)


def _newest(
    conn: Connection,
    client_id: UUID,
    number_hashes: Sequence[bytes],
    known: ColumnElement[bool],
    *,
    mine: ColumnElement[bool],
) -> UUID | None:
    return conn.execute(
        select(_r.id)
        .where(_r.client_id == client_id, _r.number_hash.in_(number_hashes), known)
        .order_by(mine.desc(), filter_by_status(LIVE).desc(), _r.created_at.desc())
        .limit(1)
    ).scalar_one_or_none()


def read_statuses(conn: Connection, ids: Iterable[UUID]) -> Mapping[UUID, Status]:
    """Return the status of each of these requests that exists."""
    rows = conn.execute(select(_r.id, _r.status).where(_r.id == func.any(list(ids))))
    return {row.id: Status(row.status) for row in rows}


def resend(
    conn: Connection,
    request_id: UUID,
    *,
    client_id: UUID,
    channel: Channel | None,
    send_by: datetime,
    now: datetime,
    guard: CountedSend | None = None,
    trace_context: str | None = None,
) -> bool:
    """Make a request due for a resend of the same code if that is allowed; return whether it is.

    The channel stays the same unless `channel` is given, and the trace unless `trace_context` is given.

    A resend is not allowed while the request is ended, expired or about to expire, not sent yet, being sent,
    or resent too recently or too often.
    """
    latest = _r.expires_at - RESEND_HEADROOM
    result = conn.execute(
        update(otp_requests)
        .where(
            _r.id == request_id,
            _r.client_id == client_id,
            filter_by_status(CHECKABLE),
            _r.send_state == SendState.IDLE,
            latest > now,
            _r.resend_after <= now,
            _r.sends < MAX_SENDS,
        )
        .values(
            send_state=SendState.DUE.value,
            send_kind=SendKind.RESEND.value,
            next_attempt_at=now,
            send_by=func.least(latest, send_by),
            sends=_r.sends + 1,
            tries=0,
            unknowns=0,
            resend=Resend.PENDING.value,
            resend_channel=channel.value if channel else _r.channel,
            resend_reason=None,
            updated_at=now,
            trace_context=trace_context or _r.trace_context,
            **_guarded_resend(guard),
        )
    )
    return bool(result.rowcount)


def cancel(
    conn: Connection,
    request_id: UUID,
    *,
    client_id: UUID,
    now: datetime,
    why: Reason = Reason.CANCELLED_BY_CLIENT,
) -> bool:
    """Cancel a live request on behalf of its client or an operator; return whether it was live."""
    result = conn.execute(
        update(otp_requests)
        .where(
            _r.id == request_id, _r.client_id == client_id, filter_by_status(find_sources(Status.CANCELLED))
        )
        .values(build_end_values(Status.CANCELLED, why, now))
    )
    return bool(result.rowcount)


def read_number(conn: Connection, request_id: UUID, vault: Vault) -> str | None:
    """Return the masked number of a request; None if there is no such request or its key is missing."""
    row = conn.execute(
        select(_r.id, _r.number_sealed, _r.seal_key_id).where(_r.id == request_id)
    ).one_or_none()
    if row is None:
        return None
    return vault.unseal_masked_number(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)


def to_domain(row: Any, vault: Vault) -> OtpRequest:
    """Return a request from its row, or from the part of it that `REQUEST_COLUMNS` names."""
    return OtpRequest(
        id=row.id,
        client_id=row.client_id,
        phone_number=vault.unseal_masked_number(row.number_sealed, key_id=row.seal_key_id, row_id=row.id),
        channel=Channel(row.channel),
        status=Status(row.status),
        send_state=SendState(row.send_state),
        reason=Reason(row.reason) if row.reason else None,
        provider_code=row.provider_code,
        client_reference=row.client_reference,
        created_at=row.created_at,
        send_by=row.send_by,
        sent_at=row.sent_at,
        expires_at=row.expires_at,
        verified_at=row.verified_at,
        checks_allowed=row.checks_allowed,
        checks_used=row.checks_used,
        check_in_flight=row.check_lease_until is not None,
        updated_at=row.updated_at,
        is_test=row.is_test,
        sends=row.sends,
        resend=Resend(row.resend) if row.resend else None,
        resend_channel=Channel(row.resend_channel) if row.resend_channel else None,
        resend_reason=row.resend_reason,
        resend_after=row.resend_after,
        trace_context=row.trace_context,
    )
