"""Queries on `otp_requests` as the caller sees them: made, read, ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import CTE, Connection, Row, case, func, insert, literal, literal_column, or_, select, update
from sqlalchemy.sql import ColumnElement

from otpqueue.domain.guard import Counted
from otpqueue.domain.phone import PhoneNumber, masked
from otpqueue.domain.request import (
    CHECKABLE,
    LIVE,
    MAX_SENDS,
    Channel,
    OtpRequest,
    Reason,
    Resend,
    SendKind,
    SendState,
    Status,
    sources,
)
from otpqueue.store.schema import otp_requests
from otpqueue.store.stops import not_stopped
from otpqueue.store.vault import Vault

_r = otp_requests.c

_WHY_UNSENT: ColumnElement[str] = case(
    (literal_column(not_stopped("otp_requests")), Reason.SEND_DEADLINE.value),
    else_=Reason.SENDING_STOPPED.value,
)
"""Why a code that is still due at its deadline did not leave."""


_ENDED = (_r.id, _r.client_id, _r.reason)


@dataclass(frozen=True, kw_only=True)
class NewRequest:
    """What is stored of a request when it is accepted."""

    id: UUID
    client_id: UUID
    phone: PhoneNumber
    session_id: str | None
    client_ip: str | None
    client_reference: str | None
    channel: Channel
    language: str | None
    checks_allowed: int
    created_at: datetime
    send_by: datetime
    is_test: bool = False
    guard: Counted | None = None
    trace_context: str | None = None
    """Where its trace goes on."""


@dataclass(frozen=True)
class Ended:
    """A request that ended just now, and why."""

    id: UUID
    client_id: UUID
    reason: str


def ending(status: Status, reason: Reason | ColumnElement[str], now: datetime) -> dict[str, Any]:
    """Return the columns of a request that ends. A worker that holds it keeps its claim and records late.

    A resend that has not left will not: it has failed, for the reason that the request ended.
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


def in_status(statuses: Iterable[Status]) -> ColumnElement[bool]:
    """Return the condition that a request has one of these statuses."""
    return _r.status.in_(sorted(status.value for status in statuses))


def of_session(session_hashes: Sequence[bytes] | None) -> ColumnElement[bool]:
    """Return the condition that a request was made for the session with one of these hashes, or for none."""
    return _r.session_hash.is_(None) if session_hashes is None else _r.session_hash.in_(session_hashes)


def insert_newest(conn: Connection, new: NewRequest, *, vault: Vault) -> tuple[OtpRequest, list[Ended]]:
    """Store a request as due, and end the live one of the same client, number and session, if there is one.

    Returns both. Call in a transaction. Raises IntegrityError when another session stores one first: run it
    again.
    """
    number_hashes = vault.number_hashes(new.phone.e164)
    if len(number_hashes) > 1:
        _one_at_a_time(conn, number_hashes)
    replaced = conn.execute(
        update(otp_requests)
        .where(
            _r.client_id == new.client_id,
            _r.number_hash.in_(number_hashes),
            of_session(vault.session_hashes(new.session_id)),
            in_status(LIVE),
        )
        .values(ending(Status.CANCELLED, Reason.REPLACED, new.created_at))
        .returning(*_ENDED)
    ).all()
    key_id, sealed = vault.seal(new.phone.e164, row_id=new.id)
    row = conn.execute(
        insert(otp_requests)
        .values(
            id=new.id,
            client_id=new.client_id,
            number_sealed=sealed,
            seal_key_id=key_id,
            number_hash=number_hashes[0],
            country=new.phone.country,
            session_hash=vault.session_hash(new.session_id),
            client_ip_hash=vault.address_hash(new.client_ip),
            client_reference=new.client_reference,
            channel=new.channel.value,
            language=new.language,
            status=Status.QUEUED.value,
            send_state=SendState.DUE.value,
            next_attempt_at=new.created_at,
            checks_allowed=new.checks_allowed,
            created_at=new.created_at,
            updated_at=new.created_at,
            send_by=new.send_by,
            is_test=new.is_test,
            **_guarded(new.guard),
            trace_context=new.trace_context,
        )
        .returning(otp_requests)
    ).one()
    return to_domain(row, vault), [Ended(*one) for one in replaced]


def _guarded(guard: Counted | None) -> dict[str, Any]:
    """Return the columns of a new request that say how the pumping guard counts its first send."""
    if guard is None or guard.standing is None:
        return {"guard_block": guard.block if guard else None}
    return {
        "guard_block": guard.block,
        "guard_as": guard.standing.value,
        "guard_counted": 1,
        f"guard_{guard.standing.value}": 1,
    }


def _guarded_resend(guard: Counted | None) -> dict[str, Any]:
    """Return the columns that a resend changes, as `_guarded` does."""
    if guard is None or guard.standing is None:
        return {"guard_block": guard.block} if guard else {}
    column = _r[f"guard_{guard.standing.value}"]
    return _guarded(guard) | {"guard_counted": _r.sends + 1, column.name: column + 1}


def _one_at_a_time(conn: Connection, number_hashes: Sequence[bytes]) -> None:
    # While the look-up key is being replaced, some processes store the one hash and some the other: the index
    # on live rows does not see that both are the same number.
    key = int.from_bytes(min(number_hashes)[-8:], signed=True)
    conn.execute(select(func.pg_advisory_xact_lock(key)))


def find(conn: Connection, request_id: UUID, *, client_id: UUID, vault: Vault) -> OtpRequest | None:
    """Return this client's request, None if there is none."""
    row = conn.execute(
        select(otp_requests).where(_r.id == request_id, _r.client_id == client_id)
    ).one_or_none()
    return to_domain(row, vault) if row else None


def find_with_number(
    conn: Connection, request_id: UUID, *, client_id: UUID, vault: Vault
) -> tuple[OtpRequest, str] | None:
    """Return this client's request and the whole number it goes to, None if there is none."""
    row = conn.execute(
        select(otp_requests).where(_r.id == request_id, _r.client_id == client_id)
    ).one_or_none()
    if row is None:
        return None
    return to_domain(row, vault), vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)


def newest_for(
    conn: Connection,
    *,
    client_id: UUID,
    number_hashes: Sequence[bytes],
    session_hashes: Sequence[bytes] | None,
) -> UUID | None:
    """Return the id of this client's newest request for the number and session, a live one first.

    Where there is none, a live one of another session: its check is answered like that of a wrong code, and a
    session that does not match like one whose code is mistyped.
    """
    mine = of_session(session_hashes)
    return conn.execute(
        select(_r.id)
        .where(
            _r.client_id == client_id,
            _r.number_hash.in_(number_hashes),
            or_(mine, in_status(LIVE)),
        )
        .order_by(mine.desc(), in_status(LIVE).desc(), _r.created_at.desc())
        .limit(1)
    ).scalar_one_or_none()


def matches(
    conn: Connection,
    request_id: UUID,
    *,
    number_hashes: Sequence[bytes] | None,
    session_hashes: Sequence[bytes] | None,
) -> bool:
    """Return whether the request was made for this session, and for this number if one is given."""
    condition = [_r.id == request_id, of_session(session_hashes)]
    if number_hashes is not None:
        condition.append(_r.number_hash.in_(number_hashes))
    return conn.execute(select(literal(1)).where(*condition)).first() is not None


def statuses(conn: Connection, ids: Iterable[UUID]) -> Mapping[UUID, Status]:
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
    guard: Counted | None = None,
    trace_context: str | None = None,
) -> bool:
    """Make a request due for the same code once more, and not after its code expires; return whether it is.

    It travels as the first time unless `channel` is given, and in the trace of the call before unless
    `trace_context` is.

    It is not when nothing can be resent now: ended, expired, not sent yet, being sent, too soon, too often.
    """
    result = conn.execute(
        update(otp_requests)
        .where(
            _r.id == request_id,
            _r.client_id == client_id,
            in_status(CHECKABLE),
            _r.send_state == SendState.IDLE,
            _r.expires_at > now,
            _r.resend_after <= now,
            _r.sends < MAX_SENDS,
        )
        .values(
            send_state=SendState.DUE.value,
            send_kind=SendKind.RESEND.value,
            next_attempt_at=now,
            send_by=func.least(_r.expires_at, send_by),
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


def give_up_resends(conn: Connection, *, now: datetime, limit: int) -> int:
    """Note resends that did not leave by `send_by` as failed; return how many."""
    conditions = [_r.send_state == SendState.DUE, in_status(CHECKABLE), _r.send_by <= now]
    batch = _batch(conditions, limit)
    result = conn.execute(
        update(otp_requests)
        .where(_r.id.in_(select(batch.c.id)), *conditions)
        .values(
            send_state=SendState.IDLE.value,
            next_attempt_at=None,
            resend=Resend.FAILED.value,
            resend_reason=_WHY_UNSENT,
            updated_at=now,
        )
    )
    return result.rowcount


def cancel(conn: Connection, request_id: UUID, *, client_id: UUID, now: datetime) -> bool:
    """End a live request at its client's wish; return whether it was live."""
    result = conn.execute(
        update(otp_requests)
        .where(_r.id == request_id, _r.client_id == client_id, in_status(sources(Status.CANCELLED)))
        .values(ending(Status.CANCELLED, Reason.CANCELLED_BY_CLIENT, now))
    )
    return bool(result.rowcount)


def expire_unsent(conn: Connection, *, now: datetime, limit: int) -> list[Ended]:
    """End requests whose first code did not leave by `send_by` and that no worker holds; return them."""
    return _expire(
        conn,
        [_r.send_state == SendState.DUE, _r.status == Status.QUEUED, _r.send_by <= now],
        _WHY_UNSENT,
        now=now,
        limit=limit,
    )


def expire_codes(conn: Connection, *, now: datetime, limit: int) -> list[Ended]:
    """End requests whose code has outlived its time; return them.

    One whose check is in flight waits for that check: the code was typed in time.
    """
    idle = or_(_r.check_lease_until.is_(None), _r.check_lease_until < func.statement_timestamp())
    return _expire(
        conn,
        [in_status(CHECKABLE), _r.expires_at <= now, idle],
        Reason.CODE_LIFETIME,
        now=now,
        limit=limit,
    )


def _expire(
    conn: Connection,
    conditions: list[ColumnElement[bool]],
    reason: Reason | ColumnElement[str],
    *,
    now: datetime,
    limit: int,
) -> list[Ended]:
    batch = _batch(conditions, limit)
    ended = conn.execute(
        update(otp_requests)
        .where(_r.id.in_(select(batch.c.id)), *conditions)
        .values(ending(Status.EXPIRED, reason, now))
        .returning(*_ENDED)
    )
    return [Ended(*one) for one in ended]


def _batch(conditions: list[ColumnElement[bool]], limit: int) -> CTE:
    rows = select(_r.id).where(*conditions).order_by(_r.id).limit(limit)
    return rows.with_for_update(skip_locked=True).cte("batch")


def masked_number(row: Row[Any], vault: Vault) -> str | None:
    """Return the number of a request's row, masked; None when the key that opens it was taken away."""
    try:
        return masked(vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id))
    except (KeyError, InvalidTag):
        return None


def to_domain(row: Row[Any], vault: Vault) -> OtpRequest:
    """Return a request's row as a request."""
    return OtpRequest(
        id=row.id,
        client_id=row.client_id,
        phone_number=masked_number(row, vault),
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
