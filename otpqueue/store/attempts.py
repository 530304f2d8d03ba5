"""Queries on what became of attempts: each is recorded, and those whose worker was lost are found.

Leases are set and compared by Postgres's own clock, since hosts disagree; all other times are arguments.
That clock is `statement_timestamp()`: no index can be searched for the volatile `clock_timestamp()`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, text

from otpqueue.domain.phone import WORLD
from otpqueue.domain.request import FINAL, LIVE, Resend, SendState, Status
from otpqueue.domain.sending import LEASE_RAN_OUT, Decision, Evidence, Outcome, OutcomeKind, Progress
from otpqueue.store.schema import otp_requests
from otpqueue.store.stops import not_stopped

_r = otp_requests.c

# Rows are locked in id order, so that two of these statements cannot deadlock. The outcome is written on the
# attempt always; on the request only while no later attempt has been claimed. A late `accepted` of the latest
# attempt wins over a lease that ran out ('due' again). A request that ended meanwhile only becomes idle, and
# the status of one whose code has left before stays what it is: a resend has a word of its own. An attempt
# that nothing left with is given back to the day's counts, once: `noted` sees an outcome once.
_RECORD = text(
    """
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:attempts AS smallint[]), CAST(:outcomes AS text[]),
            CAST(:retryables AS boolean[]), CAST(:codes AS text[]), CAST(:http_statuses AS smallint[]),
            CAST(:pin_ids AS text[]), CAST(:externals AS text[]), CAST(:evidences AS text[]),
            CAST(:latencies AS integer[]), CAST(:started AS timestamptz[]), CAST(:finished AS timestamptz[]),
            CAST(:statuses AS text[]), CAST(:reasons AS text[]), CAST(:resends AS text[]),
            CAST(:kinds AS text[]), CAST(:next_attempts AS timestamptz[]), CAST(:expiries AS timestamptz[]),
            CAST(:resend_afters AS timestamptz[])
        ) AS t (id, attempt, outcome, retryable, code, http_status, pin_id, external_message_id, evidence,
                latency_ms, started_at, finished_at, status, reason, resend, kind, next_attempt_at,
                expires_at, resend_after)
    ), locked AS MATERIALIZED (
        SELECT r.id FROM otp_requests AS r JOIN result ON result.id = r.id ORDER BY r.id FOR UPDATE OF r
    ), noted AS (
        UPDATE send_attempts AS a
        SET outcome = result.outcome, retryable = result.retryable, code = result.code,
            http_status = result.http_status, pin_id = result.pin_id, latency_ms = result.latency_ms,
            external_message_id = result.external_message_id, evidence = result.evidence,
            started_at = result.started_at, finished_at = result.finished_at
        FROM result, locked
        WHERE a.request_id = result.id AND a.number = result.attempt AND locked.id = result.id
          AND (a.outcome IS NULL OR (a.code = :lease_ran_out AND result.code <> :lease_ran_out))
        RETURNING a.request_id, a.outcome, (a.claimed_at AT TIME ZONE 'UTC')::date AS day
    ), unsent AS (
        SELECT noted.day, of.scope, of.subject, count(*) AS number
        FROM noted JOIN otp_requests AS r ON r.id = noted.request_id CROSS JOIN LATERAL (
            VALUES ('all', ''), ('client', r.client_id::text), ('country', coalesce(r.country, :world))
        ) AS of (scope, subject)
        WHERE noted.outcome IN ('refused', 'returned') AND NOT r.is_test
        GROUP BY noted.day, of.scope, of.subject
    ), counts AS MATERIALIZED (
        SELECT c.day, c.scope, c.subject, unsent.number
        FROM send_counts AS c
        JOIN unsent ON unsent.day = c.day AND unsent.scope = c.scope AND unsent.subject = c.subject
        ORDER BY c.day, c.scope, c.subject
        FOR UPDATE OF c
    ), given_back AS (
        UPDATE send_counts AS c SET taken = greatest(c.taken - counts.number, 0)
        FROM counts WHERE c.day = counts.day AND c.scope = counts.scope AND c.subject = counts.subject
    )
    UPDATE otp_requests AS r
    SET status = CASE WHEN r.status = 'queued' THEN coalesce(result.status, r.status) ELSE r.status END,
        reason = CASE WHEN r.status = 'queued' THEN result.reason ELSE r.reason END,
        provider_code = CASE WHEN r.status = 'queued' AND result.outcome <> 'accepted' THEN result.code END,
        send_state = CASE WHEN r.status = ANY(CAST(:live AS text[])) AND result.next_attempt_at IS NOT NULL
                          THEN 'due' ELSE 'idle' END,
        next_attempt_at = CASE WHEN r.status = ANY(CAST(:live AS text[])) THEN result.next_attempt_at END,
        send_kind = coalesce(result.kind, r.send_kind),
        lease_until = NULL,
        tries = r.tries - CASE WHEN result.outcome = 'returned' THEN 1 ELSE 0 END,
        unknowns = r.unknowns + CASE WHEN result.outcome = 'unknown' THEN 1 ELSE 0 END,
        pin_id = CASE WHEN r.status = ANY(CAST(:live AS text[]))
                      THEN coalesce(result.pin_id, r.pin_id) ELSE r.pin_id END,
        sent_at = CASE WHEN r.status = 'queued' AND result.outcome = 'accepted'
                       THEN result.finished_at ELSE r.sent_at END,
        expires_at = CASE WHEN r.status = ANY(CAST(:live AS text[]))
                          THEN coalesce(result.expires_at, r.expires_at) ELSE r.expires_at END,
        resend = CASE WHEN r.resend = 'pending' THEN coalesce(result.resend, r.resend) ELSE r.resend END,
        resend_reason = CASE WHEN r.resend = 'pending' AND result.resend = 'failed'
                             THEN coalesce(result.reason, result.code) ELSE r.resend_reason END,
        resend_after = coalesce(result.resend_after, r.resend_after),
        finished_at = CASE WHEN r.status = 'queued' AND result.status = ANY(CAST(:final AS text[]))
                           THEN result.finished_at ELSE r.finished_at END,
        updated_at = result.finished_at
    FROM result, locked
    WHERE r.id = result.id AND locked.id = result.id AND r.attempt = result.attempt
      AND (r.send_state = 'claimed' OR (r.send_state = 'due' AND result.outcome = 'accepted'))
    RETURNING r.id, r.status, r.send_state, result.attempt
    """
)


_NEXT_DUE = text(
    f"""
    SELECT min(r.next_attempt_at) FROM otp_requests AS r
    WHERE r.send_state = 'due' AND r.send_by > :now AND {not_stopped("r")}
    """  # noqa: S608 - a condition of ours
)


@dataclass(frozen=True, kw_only=True)
class Overdue:
    """A claim whose lease ran out: its worker was killed, or hangs."""

    request_id: UUID
    attempt: int
    progress: Progress


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of an attempt, and of its request."""

    request_id: UUID
    attempt: int
    outcome: Outcome
    decision: Decision
    started_at: datetime | None
    finished_at: datetime
    latency_ms: int | None
    first: bool
    """Whether no code of this request had left before."""
    expires_at: datetime | None = None
    """When the code stops being good; only for an accepted fresh one."""
    resend_after: datetime | None = None
    """When the next resend may be asked for; only for an accepted attempt."""
    evidence: Evidence | None = None
    client_id: UUID | None = None
    """Who may want to be told; None where that can wait for beat."""


def record(conn: Connection, results: Sequence[Result]) -> set[tuple[UUID, int]]:
    """Record what became of attempts, in one statement.

    Returns the (request, attempt) pairs that moved their request.
    """
    columns = {
        "ids": [result.request_id for result in results],
        "attempts": [result.attempt for result in results],
        "outcomes": [result.outcome.kind.value for result in results],
        "retryables": [
            result.outcome.retryable if result.outcome.kind is OutcomeKind.REFUSED else None
            for result in results
        ],
        "codes": [result.outcome.code for result in results],
        "http_statuses": [result.outcome.http_status for result in results],
        "pin_ids": [result.outcome.pin_id for result in results],
        "externals": [result.outcome.external_message_id for result in results],
        "evidences": [result.evidence.value if result.evidence else None for result in results],
        "latencies": [result.latency_ms for result in results],
        "started": [result.started_at for result in results],
        "finished": [result.finished_at for result in results],
        "statuses": [result.decision.status.value if result.first else None for result in results],
        "reasons": [result.decision.reason.value if result.decision.reason else None for result in results],
        "resends": [_resend(result) for result in results],
        "kinds": [result.decision.kind.value if result.decision.kind else None for result in results],
        "next_attempts": [result.decision.next_attempt_at for result in results],
        "expiries": [result.expires_at for result in results],
        "resend_afters": [result.resend_after for result in results],
        "live": sorted(status.value for status in LIVE),
        "final": sorted(status.value for status in FINAL),
        "lease_ran_out": LEASE_RAN_OUT.code,
        "world": WORLD,
    }
    return {(row.id, row.attempt) for row in conn.execute(_RECORD, columns)}


def overdue(conn: Connection, *, limit: int) -> list[Overdue]:
    """Return claims whose lease has run out, by Postgres's clock."""
    rows = conn.execute(
        select(_r.id, _r.attempt, _r.tries, _r.unknowns, _r.send_by, _r.status)
        .where(_r.send_state == SendState.CLAIMED, _r.lease_until < func.statement_timestamp())
        .order_by(_r.lease_until)
        .limit(limit)
    )
    return [
        Overdue(
            request_id=row.id,
            attempt=row.attempt,
            progress=_progress(row),
        )
        for row in rows
    ]


def next_due(conn: Connection, *, now: datetime) -> datetime | None:
    """Return when the next request that can still be sent falls due, None if there is none."""
    earliest: datetime | None = conn.execute(_NEXT_DUE, {"now": now}).scalar_one()
    return earliest


def _progress(row: Row[*tuple[Any, ...]]) -> Progress:
    return Progress(
        tries=row.tries, unknowns=row.unknowns, send_by=row.send_by, first=row.status == Status.QUEUED
    )


def _resend(result: Result) -> str | None:
    if result.first or result.decision.next_attempt_at is not None:
        return None
    accepted = result.outcome.kind is OutcomeKind.ACCEPTED
    return (Resend.SENT if accepted else Resend.FAILED).value
