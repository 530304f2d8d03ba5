"""Queries of the pumping guard: what is counted of blocks, countries and addresses, and its decisions.

Counts are kept by the hour of the request's acceptance. Sends are counted here, before the request is stored;
what becomes of them is counted by a trigger on `otp_requests`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, text
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.guard import EMPTY, LEARNT_DAYS, Decision, Mode, Number, Tally, Window
from otpqueue.domain.phone import NO_COUNTRY
from otpqueue.store import locks
from otpqueue.store.locks import Lock
from otpqueue.store.schema import (
    guard_addresses,
    guard_decisions,
    guard_tallies,
)

TOTAL = "*"
"""The subject that all chances are counted under."""

_AMPLE = 1_000_000_000

_TALLIES = """
    SELECT subject,
           sum(now_sent)::int AS now_sent, sum(now_verified)::int AS now_verified,
           sum(hour_sent)::int AS hour_sent, sum(hour_verified)::int AS hour_verified,
           sum(day_sent)::int AS day_sent, sum(day_verified)::int AS day_verified,
           max(best_hour) AS best_hour, max(verified)::int AS best_day, sum(refused)::int AS refused
    FROM (
        SELECT subject, sum(verified) AS verified, max(verified) AS best_hour,
               coalesce(sum(sent) FILTER (WHERE hour = :hour), 0) AS now_sent,
               coalesce(sum(verified) FILTER (WHERE hour = :hour), 0) AS now_verified,
               coalesce(sum(sent) FILTER (WHERE hour >= :hour_before), 0) AS hour_sent,
               coalesce(sum(verified) FILTER (WHERE hour >= :hour_before), 0) AS hour_verified,
               coalesce(sum(sent) FILTER (WHERE hour > :day_before), 0) AS day_sent,
               coalesce(sum(verified) FILTER (WHERE hour > :day_before), 0) AS day_verified,
               coalesce(sum(refused) FILTER (WHERE hour > :day_before), 0) AS refused
        FROM guard_tallies
        WHERE subject = ANY(CAST(:subjects AS text[])) AND hour > :learnt_since
        GROUP BY subject, date_trunc('day', hour, 'UTC')
    ) AS days
    GROUP BY subject
"""
_LOOK = text(
    f"""
    WITH own AS (
        SELECT coalesce(bool_or(verified_at IS NOT NULL), false) AS verified,
               coalesce(sum(sends) FILTER (
                   WHERE created_at > :day_ago AND verified_at IS NULL AND guard_as IN ('known', 'new')
                     AND (finished_at IS NULL OR sent_at IS NOT NULL)), 0)::int AS own,
               max(created_at) FILTER (WHERE guard_block IS NOT NULL) AS live_since
        FROM otp_requests
        WHERE number_hash = ANY(CAST(:number_hashes AS bytea[])) AND created_at > :learnt_since
    ), tally AS ({_TALLIES})
    SELECT own.verified, own.own, own.live_since, tally.*,
           EXISTS (SELECT FROM guard_exceptions AS e
                   WHERE e.until > :at AND (e.subject = :country OR starts_with(:digits, e.subject)))
               AS excepted
    FROM own LEFT JOIN tally ON true
    """  # noqa: S608 - made of constants
)
_READ_TALLIES = text(_TALLIES)

# A row of this hour that others have filled up meanwhile is left alone: nothing comes back then.
_TAKE = text(
    """
    INSERT INTO guard_tallies AS t (subject, hour, country, sent) VALUES (:subject, :hour, :country, 1)
    ON CONFLICT (subject, hour) DO UPDATE SET sent = t.sent + 1 WHERE t.sent - t.verified < :room
    RETURNING 1
    """
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Whom a decision is about."""

    block: str
    country: str
    digits: str
    number_hashes: Sequence[bytes]
    address_hashes: Sequence[bytes]
    """None of them where the address is not known."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What is known of a number and its block."""

    number: Number
    block: Tally
    excepted: bool
    """Whether an operator lets everything through for now."""
    live_since: datetime | None
    """When the newest live request of the number was accepted: its sends are counted in that hour."""


def hour_of(at: datetime) -> datetime:
    """Return the hour that something at this time is counted in."""
    return at.replace(minute=0, second=0, microsecond=0)


def _times(now: datetime) -> dict[str, datetime]:
    hour = hour_of(now)
    return {
        "hour": hour,
        "hour_before": hour - timedelta(hours=1),
        "day_before": hour - timedelta(days=1),
        "learnt_since": hour - timedelta(days=LEARNT_DAYS),
    }


def look(conn: Connection, subject: Subject, *, now: datetime) -> Seen:
    """Return what is known of a number and its block."""
    row = conn.execute(
        _LOOK,
        {
            **_times(now),
            "at": now,
            "day_ago": now - timedelta(days=1),
            "number_hashes": list(subject.number_hashes),
            "subjects": [subject.block],
            "country": subject.country,
            "digits": subject.digits,
        },
    ).one()
    return Seen(
        number=Number(verified=row.verified, own=row.own),
        block=_tally(row) if row.subject else EMPTY,
        excepted=row.excepted,
        live_since=row.live_since,
    )


def tallies(conn: Connection, subjects: Collection[str], *, now: datetime) -> Mapping[str, Tally]:
    """Return the tally of each subject of which something was counted in the last 14 days."""
    rows = conn.execute(_READ_TALLIES, {**_times(now), "subjects": list(subjects)})
    return {row.subject: _tally(row) for row in rows}


def address(conn: Connection, address_hashes: Sequence[bytes], *, now: datetime) -> Window:
    """Return the tries of an address at new blocks in the last 24 hours."""
    a = guard_addresses.c
    row = conn.execute(
        select(func.coalesce(func.sum(a.tries), 0), func.coalesce(func.sum(a.verified), 0)).where(
            a.address_hash.in_(address_hashes), a.hour > _times(now)["day_before"]
        )
    ).one()
    return Window(sent=row[0], verified=row[1])


def lock_chances(conn: Connection) -> None:
    """Let one transaction at a time decide on chances; call in a transaction, before reading."""
    locks.take(conn, Lock.GUARD_CHANCES)


def take(
    conn: Connection, subject: Subject, block: Tally, decision: Decision, *, at: datetime, now: datetime
) -> bool:
    """Count a send of a block in the hour of `at` unless its budget has been used up since it was read.

    Exact whoever counts at the same time: what other hours hold against the budget can only shrink. Only a
    resend of a request of an earlier hour is counted there, on what was read.
    """
    earlier = hour_of(at) != hour_of(now)
    room = _AMPLE if earlier or math.isinf(decision.budget) else decision.room + block.now.at_risk
    return _take(conn, subject.block, subject.country, at=at, room=room)


def take_chance(conn: Connection, subject: Subject, *, at: datetime) -> None:
    """Count the chance of a new block, in its country and over all; call under `lock_chances`."""
    for name in (TOTAL, subject.country, subject.block):
        _take(conn, name, NO_COUNTRY if name == TOTAL else subject.country, at=at, room=_AMPLE)


def _take(conn: Connection, name: str, country: str, *, at: datetime, room: float) -> bool:
    values = {"subject": name, "hour": hour_of(at), "country": country, "room": room}
    return conn.execute(_TAKE, values).first() is not None


def give_back(conn: Connection, subject: Subject, *, chance: bool, shadowed: bool, at: datetime) -> None:
    """Count a send no more: no request came of it."""
    t = guard_tallies.c
    names = [TOTAL, subject.country, subject.block] if chance else [subject.block]
    column = t.shadowed if shadowed else t.sent
    floor = 0 if shadowed else t.verified
    for name in names:
        conn.execute(
            guard_tallies.update()
            .where(t.subject == name, t.hour == hour_of(at))
            .values({column: func.greatest(column - 1, floor)})
        )


def note_refused(conn: Connection, subject: Subject, *, sent: bool, at: datetime) -> None:
    """Count a refused try of a block; `sent`, in shadow mode, one that is sent all the same."""
    t = guard_tallies.c
    counted = {"refused": 1, "shadowed": int(sent)}
    conn.execute(
        insert(guard_tallies)
        .values(subject=subject.block, hour=hour_of(at), country=subject.country, **counted)
        .on_conflict_do_update(
            index_elements=[t.subject, t.hour],
            set_={name: t[name] + by for name, by in counted.items()},
        )
    )


def note_address(conn: Connection, address_hash: bytes, *, at: datetime) -> None:
    """Count a try of an address at a new block."""
    a = guard_addresses.c
    conn.execute(
        insert(guard_addresses)
        .values(address_hash=address_hash, hour=hour_of(at), tries=1)
        .on_conflict_do_update(index_elements=[a.address_hash, a.hour], set_={"tries": a.tries + 1})
    )


def note_decision(
    conn: Connection, subject: Subject, decision: Decision, *, client_id: UUID, mode: Mode, now: datetime
) -> None:
    """Store a refusal, real or of shadow mode; those of a minute for one reason are one row."""
    d = guard_decisions.c
    conn.execute(
        insert(guard_decisions)
        .values(
            minute=now.replace(second=0, microsecond=0),
            client_id=client_id,
            country=subject.country,
            mode=mode.value,
            reason=decision.why.value,
            block=subject.block,
            tries=1,
            at_risk=decision.at_risk,
            budget=decision.budget,
        )
        .on_conflict_do_update(
            index_elements=[d.minute, d.client_id, d.country, d.mode, d.reason], set_={"tries": d.tries + 1}
        )
    )


def _tally(row: Row[Any]) -> Tally:
    return Tally(
        now=Window(sent=row.now_sent, verified=row.now_verified),
        hour=Window(sent=row.hour_sent, verified=row.hour_verified),
        day=Window(sent=row.day_sent, verified=row.day_verified),
        best_hour=row.best_hour,
        best_day=row.best_day,
        refused=row.refused,
    )
