"""Queries for the operators of the pumping guard: sums, refusals, exceptions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete, func, select, text
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.guard import LEARNT_DAYS, truncate_to_hour
from otpqueue.store.schema import clients, guard_decisions, guard_exceptions

_SUMS = text(
    """
    WITH blocks AS (
        SELECT country, subject, hour, sent, verified, refused, shadowed, shadowed_verified
        FROM guard_tallies
        WHERE subject ~ '^[0-9]' AND hour > :learnt_since
          AND (CAST(:country AS text) IS NULL OR country = :country)
    ), learnt AS (
        SELECT subject, max(verified) AS best_day
        FROM (SELECT subject, sum(verified)::int AS verified FROM blocks
              GROUP BY subject, date_trunc('day', hour, 'UTC')) AS days
        GROUP BY subject
    )
    SELECT country, subject, sum(sent + shadowed - shadowed_verified)::int AS sent,
           sum(verified)::int AS verified, sum(refused)::int AS refused,
           sum(shadowed_verified)::int AS refused_verified, best_day
    FROM blocks JOIN learnt USING (subject)
    WHERE hour >= :since
    GROUP BY country, subject, best_day
    ORDER BY country, subject
    """
)


@dataclass(frozen=True, kw_only=True)
class BlockSums:
    """The tries at a block and their outcomes."""

    country: str
    block: str
    sent: int
    verified: int
    refused: int
    """Tries that were refused, or would have been in shadow mode."""
    refused_verified: int
    """Sends that would have been refused, and were verified: users that enforcement would lose."""
    best_day: int


@dataclass(frozen=True, kw_only=True)
class RefusalCount:
    """Refusals of a minute, of one client, country, mode and reason.

    Block and figures are those of the first refusal.
    """

    minute: datetime
    client: str
    country: str
    mode: str
    reason: str
    block: str
    tries: int
    at_risk: int
    budget: float


@dataclass(frozen=True, kw_only=True)
class GuardException:
    """An exception, set by an operator."""

    subject: str
    until: datetime


def list_blocks(conn: Connection, *, since: datetime, now: datetime, country: str | None) -> list[BlockSums]:
    """Return the counts of each block since then (whole hours), by country and block."""
    values = {"since": truncate_to_hour(since), "country": country, "learnt_since": _learnt_since(now, since)}
    return [
        BlockSums(**{"block" if name == "subject" else name: value for name, value in row.items()})
        for row in conn.execute(_SUMS, values).mappings()
    ]


def list_refusals(conn: Connection, *, since: datetime, limit: int) -> list[RefusalCount]:
    """Return the newest refusals since then, newest first."""
    d = guard_decisions.c
    rows = conn.execute(
        select(guard_decisions, clients.c.name.label("client"))
        .join(clients, clients.c.id == d.client_id)
        .where(d.minute >= since.replace(second=0, microsecond=0))
        .order_by(d.minute.desc(), d.country, d.reason)
        .limit(limit)
    ).mappings()
    return [
        RefusalCount(**{name: value for name, value in row.items() if name != "client_id"}) for row in rows
    ]


def count_reasons(conn: Connection, *, since: datetime) -> dict[tuple[str, str], int]:
    """Return how many tries were refused since then, by mode and reason."""
    d = guard_decisions.c
    rows = conn.execute(
        select(d.mode, d.reason, func.sum(d.tries))
        .where(d.minute >= since.replace(second=0, microsecond=0))
        .group_by(d.mode, d.reason)
        .order_by(d.mode, d.reason)
    )
    return {(mode, reason): int(tries) for mode, reason, tries in rows}


def add_exception(conn: Connection, subject: str, *, until: datetime, now: datetime) -> None:
    """Except a country or a prefix from the guard until then."""
    statement = insert(guard_exceptions).values(subject=subject, until=until, created_at=now)
    conn.execute(statement.on_conflict_do_update(index_elements=["subject"], set_={"until": until}))


def end_exception(conn: Connection, subject: str) -> bool:
    """End an exception; return whether there was one."""
    return bool(conn.execute(delete(guard_exceptions).where(guard_exceptions.c.subject == subject)).rowcount)


def list_exceptions(conn: Connection, *, now: datetime) -> list[GuardException]:
    """Return the exceptions in force."""
    e = guard_exceptions.c
    rows = conn.execute(select(e.subject, e.until).where(e.until > now).order_by(e.subject))
    return [GuardException(subject=row.subject, until=row.until) for row in rows]


def _learnt_since(now: datetime, since: datetime) -> datetime:
    return min(
        truncate_to_hour(now) - timedelta(days=LEARNT_DAYS), truncate_to_hour(since) - timedelta(hours=1)
    )


def count_refused_by_country(conn: Connection, *, since: datetime) -> dict[str, int]:
    """Return how many tries were refused since then, or would have been in shadow mode, by country."""
    d = guard_decisions.c
    rows = conn.execute(
        select(d.country, func.sum(d.tries))
        .where(d.minute >= since.replace(second=0, microsecond=0))
        .group_by(d.country)
    )
    return {country: int(tries) for country, tries in rows}
