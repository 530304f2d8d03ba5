"""Queries on how many codes were sent on a day, as `count_sends` and `give_back_sends` (SQL) count them.

Each count is the sum of several rows, its shards. Counts are locked after request rows, in the order that
`count_sends.sql` describes, so two sessions cannot deadlock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, func, select

from otpqueue.domain.caps import CapScope
from otpqueue.store.schema import send_counts

Subject = tuple[CapScope, str]
"""What is counted: a scope and its subject."""

ALL: Subject = (CapScope.ALL, "")

_c = send_counts.c


@dataclass(frozen=True, kw_only=True)
class SendCount:
    """How many codes of a day were sent, may have been sent, or are about to be sent."""

    scope: CapScope
    subject: str
    taken: int


def read_counts(conn: Connection, day: date) -> list[SendCount]:
    """Return all counts of a day: in total, by client, by country."""
    rows = conn.execute(
        select(_c.scope, _c.subject, func.sum(_c.taken).label("taken"))
        .where(_c.day == day)
        .group_by(_c.scope, _c.subject)
        .order_by(_c.scope, _c.subject)
    )
    return [SendCount(scope=CapScope(row.scope), subject=row.subject, taken=row.taken) for row in rows]
