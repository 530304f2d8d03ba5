"""Queries on how many codes were sent on a day: `claims` takes from these counts, `attempts` gives back.

Whoever locks several of a day's counts does so in the order of (scope, subject), and after the rows of the
requests: so two sessions cannot wait for each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.caps import Scope
from otpqueue.store.schema import send_counts

Subject = tuple[Scope, str]
"""What is counted: a scope, and which one of it."""

ALL: Subject = (Scope.ALL, "")

_c = send_counts.c


@dataclass(frozen=True, kw_only=True)
class SendCount:
    """How many codes of a day have left, may have left, or are about to."""

    scope: Scope
    subject: str
    taken: int


def of_day(conn: Connection, day: date) -> list[SendCount]:
    """Return all counts of a day: of everything, by client, by country."""
    rows = conn.execute(
        select(_c.scope, _c.subject, _c.taken).where(_c.day == day).order_by(_c.scope, _c.subject)
    )
    return [SendCount(scope=Scope(row.scope), subject=row.subject, taken=row.taken) for row in rows]


def open_counts(conn: Connection, day: date, subjects: Iterable[Subject]) -> None:
    """Begin to count these subjects, where that has not begun."""
    values = [
        {"day": day, "scope": scope.value, "subject": subject, "taken": 0}
        for scope, subject in sorted(set(subjects))
    ]
    conn.execute(insert(send_counts).values(values).on_conflict_do_nothing())
