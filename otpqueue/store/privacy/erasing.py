"""Erase all data of a phone number, table by table as `holdings` describes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Column,
    ColumnElement,
    Connection,
    Text,
    cast,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    text,
    update,
)
from uuid_utils.compat import uuid7

from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.request import LIVE, Reason, Status
from otpqueue.store.privacy.holdings import HOLDINGS, Holding, OnErase
from otpqueue.store.requests import build_end_values, filter_by_status
from otpqueue.store.schema import WRONG, alerts, erasures, otp_requests, receipts, send_attempts

_r = otp_requests.c

_CONCERNED = tuple(
    holding for holding in HOLDINGS if holding.on_erase in {OnErase.DELETED, OnErase.ANONYMISED}
)
COUNTED: tuple[str, ...] = tuple(holding.name for holding in _CONCERNED)
"""The parts that an erasure counts."""

_KEEP_WRONG_CODES = text(
    f"""
    INSERT INTO erased_wrong_codes (client_id, number_hash, client_ip_hash, at, until)
    SELECT r.client_id, r.number_hash, c.client_ip_hash, c.started_at,
           c.started_at + CAST(:longest AS interval)
    FROM otp_requests AS r JOIN checks AS c ON c.request_id = r.id
    WHERE r.id = ANY(CAST(:ids AS uuid[])) AND c.started_at > :since AND {WRONG}
    """  # noqa: S608 - a constant
)


def lock_requests(conn: Connection, number_hashes: Sequence[bytes]) -> list[UUID]:
    """Return the ids of a number's requests, locked against workers until the transaction's end."""
    rows = select(_r.id).where(_r.number_hash.in_(number_hashes)).order_by(_r.id).with_for_update()
    return list(conn.execute(rows).scalars())


def lock_alerts(conn: Connection, number_hashes: Sequence[bytes], ids: Sequence[UUID]) -> None:
    """Lock the alerts about a number and those that name its requests, until the transaction's end.

    They are locked in the order of their ids, as evaluations lock them. An alert that is being opened cannot
    name them: an evaluation stores no names during an erasure (`Lock.ERASE`).
    """
    concerned = or_(alerts.c.number_hash.in_(number_hashes), _names(alerts.c.evidence, ids))
    conn.execute(select(alerts.c.id).where(concerned).order_by(alerts.c.id).with_for_update())


def keep_wrong_codes(conn: Connection, ids: Sequence[UUID], *, guesses: GuessPolicy, now: datetime) -> None:
    """Keep the times of these requests' wrong codes for as long as they count against new requests."""
    windows = [quota.window_s for quota in (guesses.number, guesses.client_ip) if quota]
    if ids and windows:
        longest = timedelta(seconds=max(windows))
        conn.execute(_KEEP_WRONG_CODES, {"ids": list(ids), "since": now - longest, "longest": longest})


def end_live(conn: Connection, ids: Sequence[UUID], *, now: datetime) -> list[UUID]:
    """End the live ones among these requests; return them."""
    ended = (
        update(otp_requests)
        .where(_r.id.in_(ids), filter_by_status(LIVE))
        .values(build_end_values(Status.CANCELLED, Reason.ERASED, now))
        .returning(_r.id)
    )
    return sorted(conn.execute(ended).scalars()) if ids else []


def erase(conn: Connection, *, number_hashes: Sequence[bytes], ids: Sequence[UUID]) -> dict[str, int]:
    """Erase a number and its requests; return the number of rows for each table, including zeros."""
    early = _erase_unmatched_reports(conn, ids)
    # From the last table to the first: dependent rows before their request.
    counts = {
        holding.name: _erase_from(conn, holding, number_hashes, ids) for holding in reversed(_CONCERNED)
    }
    counts["receipts"] += early
    return {name: counts[name] for name in COUNTED}


def record_erasure(
    conn: Connection, *, client_id: UUID | None, counts: Mapping[str, int], now: datetime
) -> UUID:
    """Store that a number was erased, without the number. Return the id of the erasure."""
    erasure_id: UUID = uuid7()
    conn.execute(insert(erasures).values(id=erasure_id, at=now, client_id=client_id, counts=dict(counts)))
    return erasure_id


def _erase_unmatched_reports(conn: Connection, ids: Sequence[UUID]) -> int:
    """Delete reports on messages of these requests that are not matched yet."""
    messages = select(send_attempts.c.external_message_id).where(
        send_attempts.c.request_id.in_(ids), send_attempts.c.external_message_id.is_not(None)
    )
    unmatched = delete(receipts).where(receipts.c.request_id.is_(None), receipts.c.message_id.in_(messages))
    return conn.execute(unmatched).rowcount if ids else 0


def _names(evidence: Column[Any], ids: Sequence[UUID]) -> ColumnElement[bool]:
    found: ColumnElement[bool] = evidence["requests"].has_any(_texts(ids))
    return found


def _texts(ids: Sequence[UUID]) -> ColumnElement[Any]:
    return cast([str(one) for one in ids], ARRAY(Text))


def _take_out(conn: Connection, holding: Holding, ids: Sequence[UUID]) -> int:
    """Remove requests from the lists that name them; return how many rows changed."""
    if holding.names_requests is None:
        return 0
    evidence = holding.column(holding.names_requests)
    left = evidence["requests"].op("-")(_texts(ids))
    without = func.jsonb_set(evidence, cast(["requests"], ARRAY(Text)), left)
    changed = update(holding.table).where(_names(evidence, ids)).values({evidence.name: without})
    return conn.execute(changed).rowcount


def _erase_from(
    conn: Connection, holding: Holding, number_hashes: Sequence[bytes], ids: Sequence[UUID]
) -> int:
    # Requests are erased by their ids: those accepted after the lock are not part of this erasure.
    leads: list[ColumnElement[bool]] = []
    if holding.table is otp_requests:
        leads.append(_r.id.in_(ids))
    else:
        if holding.request_id is not None:
            leads.append(holding.column(holding.request_id).in_(ids))
        if holding.number_hash is not None:
            leads.append(holding.column(holding.number_hash).in_(number_hashes))
    if not leads:
        raise ValueError(f"{holding.table.name} has nothing to find a number's rows by")
    concerned = or_(*leads)
    if holding.on_erase is OnErase.DELETED:
        return conn.execute(delete(holding.table).where(concerned)).rowcount
    emptied = {name: null() for name in holding.cleared}
    updated = conn.execute(update(holding.table).where(concerned).values(emptied)).rowcount
    return updated + _take_out(conn, holding, ids)
