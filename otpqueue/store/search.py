"""Queries that list the requests of all clients, newest first; each reads a bounded number of rows.

A list is read along an index: of the number's requests if a number is given, else of all requests by time.
Status and client have no index. They are filtered row by row within a window, so a page may be short, and the
next page starts where the window ended. An index for each filter would make each of a request's five updates
more expensive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Subquery, select, tuple_

from otpqueue.domain.request import SENDING, SendState, Status
from otpqueue.domain.search import FoundRequest, SearchPosition
from otpqueue.store.requests import to_domain
from otpqueue.store.schema import clients, otp_requests
from otpqueue.store.vault import Vault

WINDOW = 10_000
"""Rows that are read for a page."""

_r = otp_requests.c


@dataclass(frozen=True, kw_only=True)
class SearchTerms:
    """The search terms; None matches everything."""

    number_hashes: Sequence[bytes] | None
    status: str | None
    """The status as shown: `sending` is a status of its own."""
    created_after: datetime | None
    created_before: datetime | None
    client_id: UUID | None


def list_newest(
    conn: Connection,
    sought: SearchTerms,
    *,
    after: SearchPosition | None,
    limit: int,
    window: int,
    vault: Vault,
) -> tuple[list[FoundRequest], SearchPosition | None]:
    """Return up to `limit` requests after a position, and the next position, None at the end."""
    scanned = _scanned(sought, after, window)
    name = select(clients.c.name).where(clients.c.id == scanned.c.client_id).scalar_subquery()
    rows = conn.execute(
        select(scanned, name.label("client"))
        .where(*_looked_at(sought, scanned))
        .order_by(scanned.c.created_at.desc(), scanned.c.id.desc())
        .limit(limit + 1)
    ).all()
    found = [FoundRequest(request=to_domain(row, vault), client=row.client) for row in rows[:limit]]
    if len(rows) > limit:
        return found, SearchPosition(rows[limit - 1].created_at, rows[limit - 1].id)
    if not _looked_at(sought, scanned):
        return found, None
    # New requests since the first query move the end of the window: some rows are read twice, none is missed.
    ordered = select(scanned.c.created_at, scanned.c.id)
    ordered = ordered.order_by(scanned.c.created_at.desc(), scanned.c.id.desc())
    last = conn.execute(ordered.offset(window - 1).limit(1)).one_or_none()
    return found, SearchPosition(last.created_at, last.id) if last else None


def _scanned(sought: SearchTerms, after: SearchPosition | None, window: int) -> Subquery:
    conditions: list[ColumnElement[bool]] = []
    if sought.number_hashes is not None:
        conditions.append(_r.number_hash.in_(sought.number_hashes))
    if sought.created_after:
        conditions.append(_r.created_at >= sought.created_after)
    if sought.created_before:
        conditions.append(_r.created_at < sought.created_before)
    if after:
        # The second condition implies the first, which is the only one that the index of a number's requests
        # can use.
        conditions += [
            _r.created_at <= after.created_at,
            tuple_(_r.created_at, _r.id) < tuple_(after.created_at, after.id),
        ]
    rows = select(otp_requests).where(*conditions).order_by(_r.created_at.desc(), _r.id.desc())
    return rows.limit(window).subquery("scanned")


def _looked_at(sought: SearchTerms, scanned: Subquery) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if sought.client_id:
        conditions.append(scanned.c.client_id == sought.client_id)
    if sought.status == SENDING:
        conditions += [scanned.c.status == Status.QUEUED, scanned.c.send_state == SendState.CLAIMED]
    elif sought.status == Status.QUEUED:
        conditions += [scanned.c.status == Status.QUEUED, scanned.c.send_state != SendState.CLAIMED]
    elif sought.status:
        conditions.append(scanned.c.status == sought.status)
    return conditions
