"""Counts of single numbers, for the rules with numbers as subjects.

A number's count can pass a threshold only after new activity. So only numbers with activity since the last
evaluation are counted, each along its own index.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, exists, or_, select, text

from otpqueue.domain.alert_queries import NumberCounts
from otpqueue.domain.alerts import MOST_OPEN, AlertRule, SubjectMeasure
from otpqueue.store.alerts.facts import MOST_EXAMPLES
from otpqueue.store.schema import otp_requests, refusals

MOST_LOOKED_AT = 20_000
"""The maximum of numbers with activity since the last evaluation; the newest ones are kept."""

_LONGEST_LIFE = timedelta(minutes=30)
"""An upper bound on the time from a request to its last check."""

_r = otp_requests.c

# Both count along the index of a number's rows. Recent activity is at the end of an index, too.
_COUNT_REQUESTS = text(
    """
    WITH active AS (
        SELECT unnest(CAST(:known AS bytea[])) AS number_hash
        UNION
        (SELECT number_hash FROM otp_requests WHERE created_at >= :fresh AND NOT is_test
         ORDER BY created_at DESC LIMIT :most)
        UNION
        (SELECT number_hash FROM refusals
         WHERE created_at >= :fresh AND number_hash IS NOT NULL AND NOT is_test
         ORDER BY created_at DESC LIMIT :most)
    ), counted AS (
        SELECT number_hash,
            (SELECT count(*) FROM otp_requests AS r
             WHERE r.number_hash = active.number_hash AND r.created_at >= :since AND NOT r.is_test
            ) AS accepted,
            (SELECT coalesce(sum(f.count), 0) FROM refusals AS f
             WHERE f.number_hash = active.number_hash AND f.created_at >= :since AND NOT f.is_test
            ) AS refused
        FROM active
    )
    SELECT number_hash, accepted, refused, accepted + refused AS count,
           (SELECT coalesce(jsonb_object_agg(reason, n), '{}')
            FROM (SELECT f.reason, sum(f.count) AS n FROM refusals AS f
                  WHERE f.number_hash = counted.number_hash AND f.created_at >= :since AND NOT f.is_test
                  GROUP BY f.reason) AS why) AS reasons,
           count(*) FILTER (WHERE accepted + refused > :threshold) OVER () AS over
    FROM counted
    WHERE accepted + refused > :threshold OR number_hash = ANY(CAST(:known AS bytea[]))
    ORDER BY number_hash = ANY(CAST(:known AS bytea[])) DESC, count DESC, number_hash
    LIMIT :limit
    """
)
_COUNT_WRONG_CODES = text(
    """
    WITH active AS (
        SELECT unnest(CAST(:known AS bytea[])) AS number_hash
        UNION
        SELECT r.number_hash
        FROM (SELECT request_id FROM checks WHERE verdict = 'wrong' AND started_at >= :fresh
              ORDER BY started_at DESC LIMIT :most) AS c
        JOIN otp_requests AS r ON r.id = c.request_id
        WHERE NOT r.is_test
    ), counted AS (
        SELECT number_hash,
            (SELECT count(*) FROM otp_requests AS r JOIN checks AS c ON c.request_id = r.id
             WHERE r.number_hash = active.number_hash AND NOT r.is_test
               AND r.created_at >= CAST(:since AS timestamptz) - CAST(:life AS interval)
               AND c.started_at >= :since AND c.verdict = 'wrong'
            ) AS wrong
        FROM active
    )
    SELECT number_hash, wrong, wrong AS count, count(*) FILTER (WHERE wrong > :threshold) OVER () AS over
    FROM counted
    WHERE wrong > :threshold OR number_hash = ANY(CAST(:known AS bytea[]))
    ORDER BY number_hash = ANY(CAST(:known AS bytea[])) DESC, count DESC, number_hash
    LIMIT :limit
    """
)


def count_requesting_numbers(
    conn: Connection, rule: AlertRule, *, known: Sequence[bytes], fresh: datetime, now: datetime
) -> list[NumberCounts]:
    """Return the numbers with too many requests, including refused ones, and the counts of the `known` ones.

    `fresh` is the time since which a number must have had activity to be evaluated.
    """
    rows = _count_numbers(conn, _COUNT_REQUESTS, rule, known=known, fresh=fresh, now=now)
    return [
        NumberCounts(
            number_hash=row.number_hash,
            count=int(row.count),
            figures={"accepted": row.accepted, "refused": int(row.refused), "numbers_over": row.over},
            reasons={reason: int(n) for reason, n in row.reasons.items()},
        )
        for row in rows
    ]


def count_guessed_numbers(
    conn: Connection, rule: AlertRule, *, known: Sequence[bytes], fresh: datetime, now: datetime
) -> list[NumberCounts]:
    """Return the numbers with too many wrong codes, and the counts of the `known` ones."""
    rows = _count_numbers(conn, _COUNT_WRONG_CODES, rule, known=known, fresh=fresh, now=now)
    return [
        NumberCounts(
            number_hash=row.number_hash,
            count=row.count,
            figures={"wrong": row.wrong, "numbers_over": row.over},
        )
        for row in rows
    ]


def _count_numbers(
    conn: Connection,
    statement: Any,
    rule: AlertRule,
    *,
    known: Sequence[bytes],
    fresh: datetime,
    now: datetime,
) -> Sequence[Any]:
    parameters = {
        "known": list(known),
        # The refusals of a minute share a row, which has the time of the first.
        "fresh": max(fresh, now - rule.window) - timedelta(minutes=1),
        "since": now - rule.window,
        "life": _LONGEST_LIFE,
        "threshold": rule.threshold,
        "most": MOST_LOOKED_AT,
        "limit": len(known) + MOST_OPEN,
    }
    return conn.execute(statement, parameters).all()


def is_known(conn: Connection, number_hash: bytes, *, before: datetime) -> bool:
    """Return whether any activity of a number before that time is stored. After an erasure there is none."""
    of_number = ((_r.number_hash, _r.created_at), (refusals.c.number_hash, refusals.c.created_at))
    found = or_(*(exists().where(one == number_hash, at <= before) for one, at in of_number))
    return bool(conn.execute(select(found)).scalar_one())


def find_newest_of_number(conn: Connection, measure: SubjectMeasure, *, since: datetime) -> list[UUID]:
    """Return the ids of a number's newest requests."""
    ids = conn.execute(
        select(_r.id)
        .where(_r.number_hash == measure.number_hash, _r.created_at >= since - _LONGEST_LIFE, ~_r.is_test)
        .order_by(_r.created_at.desc())
        .limit(MOST_EXAMPLES)
    ).scalars()
    return list(ids)
