"""Queries of the pump: requests are claimed, and what became of each attempt is recorded.

Leases are set and compared by Postgres's own clock, since hosts disagree; all other times are arguments.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, func, select, text

from otpqueue.domain.request import FINAL, SendState
from otpqueue.domain.sending import LEASE_RAN_OUT, Decision, Outcome, OutcomeKind, Progress
from otpqueue.logs import get_logger
from otpqueue.store.schema import otp_requests
from otpqueue.store.vault import Vault

log = get_logger(__name__)

_r = otp_requests.c

_CLAIM = text(
    """
    WITH due AS MATERIALIZED (
        SELECT id FROM otp_requests
        WHERE send_state = 'due' AND next_attempt_at <= :now AND send_by > :now
        ORDER BY next_attempt_at
        LIMIT :slots
        FOR UPDATE SKIP LOCKED
    ), claimed AS (
        UPDATE otp_requests AS r
        SET send_state = 'claimed', next_attempt_at = NULL, updated_at = :now,
            lease_until = clock_timestamp() + make_interval(secs => :lease_s),
            attempt = r.attempt + 1, tries = r.tries + 1
        FROM due WHERE r.id = due.id
        RETURNING r.id, r.attempt, r.tries, r.unknowns, r.send_by, r.created_at, r.country,
                  r.number_sealed, r.seal_key_id
    ), numbered AS (
        INSERT INTO send_attempts (request_id, number, worker, claimed_at)
        SELECT id, attempt, :worker, :now FROM claimed
    )
    SELECT * FROM claimed
    """
)

# Rows are locked in id order, so that two of these statements cannot deadlock. The outcome is written on the
# attempt always; on the request only while no later attempt has been claimed. A late `accepted` of the latest
# attempt wins over a lease that ran out ('due' again). A request that ended meanwhile only becomes idle.
_RECORD = text(
    """
    WITH result AS MATERIALIZED (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:attempts AS smallint[]), CAST(:outcomes AS text[]),
            CAST(:retryables AS boolean[]), CAST(:codes AS text[]), CAST(:http_statuses AS smallint[]),
            CAST(:pin_ids AS text[]), CAST(:latencies AS integer[]), CAST(:started AS timestamptz[]),
            CAST(:finished AS timestamptz[]), CAST(:statuses AS text[]), CAST(:reasons AS text[]),
            CAST(:next_attempts AS timestamptz[]), CAST(:expiries AS timestamptz[])
        ) AS t (id, attempt, outcome, retryable, code, http_status, pin_id, latency_ms, started_at,
                finished_at, status, reason, next_attempt_at, expires_at)
    ), locked AS MATERIALIZED (
        SELECT r.id FROM otp_requests AS r JOIN result ON result.id = r.id ORDER BY r.id FOR UPDATE OF r
    ), noted AS (
        UPDATE send_attempts AS a
        SET outcome = result.outcome, retryable = result.retryable, code = result.code,
            http_status = result.http_status, pin_id = result.pin_id, latency_ms = result.latency_ms,
            started_at = result.started_at, finished_at = result.finished_at
        FROM result, locked
        WHERE a.request_id = result.id AND a.number = result.attempt AND locked.id = result.id
          AND (a.outcome IS NULL OR (a.code = :lease_ran_out AND result.code <> :lease_ran_out))
    )
    UPDATE otp_requests AS r
    SET status = CASE WHEN r.status = 'queued' THEN result.status ELSE r.status END,
        reason = CASE WHEN r.status = 'queued' THEN result.reason ELSE r.reason END,
        provider_code = CASE WHEN r.status = 'queued' AND result.outcome <> 'accepted' THEN result.code END,
        send_state = CASE WHEN r.status = 'queued' AND result.next_attempt_at IS NOT NULL
                          THEN 'due' ELSE 'idle' END,
        next_attempt_at = CASE WHEN r.status = 'queued' THEN result.next_attempt_at END,
        lease_until = NULL,
        tries = r.tries - CASE WHEN result.outcome = 'returned' THEN 1 ELSE 0 END,
        unknowns = r.unknowns + CASE WHEN result.outcome = 'unknown' THEN 1 ELSE 0 END,
        pin_id = CASE WHEN r.status = 'queued' THEN result.pin_id ELSE r.pin_id END,
        sent_at = CASE WHEN r.status = 'queued' AND result.outcome = 'accepted'
                       THEN result.finished_at ELSE r.sent_at END,
        expires_at = CASE WHEN r.status = 'queued' THEN result.expires_at ELSE r.expires_at END,
        finished_at = CASE WHEN r.status = 'queued' AND result.status = ANY(CAST(:final AS text[]))
                           THEN result.finished_at ELSE r.finished_at END,
        updated_at = result.finished_at
    FROM result, locked
    WHERE r.id = result.id AND locked.id = result.id AND r.attempt = result.attempt
      AND (r.send_state = 'claimed' OR (r.send_state = 'due' AND result.outcome = 'accepted'))
    RETURNING r.id, r.status, r.send_state, result.attempt
    """
)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A request that this worker may send now, and the number of the attempt."""

    request_id: UUID
    attempt: int
    progress: Progress
    created_at: datetime
    country: str | None
    digits: str = field(repr=False)
    """The number as the provider wants it."""


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
    expires_at: datetime | None
    """When the code stops being good; only for an accepted attempt."""


def claim(
    conn: Connection, *, slots: int, lease_s: float, worker: str, now: datetime, vault: Vault
) -> list[Claim]:
    """Claim up to `slots` requests that are due, oldest first, each for `lease_s` seconds.

    Requests that another worker is claiming at this moment are passed over. One statement.
    """
    rows = conn.execute(_CLAIM, {"slots": slots, "lease_s": lease_s, "worker": worker, "now": now})
    return [claimed for row in rows if (claimed := _opened(row, vault)) is not None]


def _opened(row: Row[Any], vault: Vault) -> Claim | None:
    try:
        number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
    except (KeyError, InvalidTag):
        # One row whose key was taken away must not take the attempts of the others along.
        log.warning("number_not_opened", otp_id=str(row.id), seal_key_id=row.seal_key_id)
        return None
    return Claim(
        request_id=row.id,
        attempt=row.attempt,
        progress=Progress(tries=row.tries, unknowns=row.unknowns, send_by=row.send_by),
        created_at=row.created_at,
        country=row.country,
        digits=number.removeprefix("+"),
    )


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
        "latencies": [result.latency_ms for result in results],
        "started": [result.started_at for result in results],
        "finished": [result.finished_at for result in results],
        "statuses": [result.decision.status.value for result in results],
        "reasons": [result.decision.reason.value if result.decision.reason else None for result in results],
        "next_attempts": [result.decision.next_attempt_at for result in results],
        "expiries": [result.expires_at for result in results],
        "final": sorted(status.value for status in FINAL),
        "lease_ran_out": LEASE_RAN_OUT.code,
    }
    return {(row.id, row.attempt) for row in conn.execute(_RECORD, columns)}


def overdue(conn: Connection, *, limit: int) -> list[Overdue]:
    """Return claims whose lease has run out, by Postgres's clock."""
    rows = conn.execute(
        select(_r.id, _r.attempt, _r.tries, _r.unknowns, _r.send_by)
        .where(_r.send_state == SendState.CLAIMED, _r.lease_until < func.clock_timestamp())
        .order_by(_r.lease_until)
        .limit(limit)
    )
    return [
        Overdue(
            request_id=row.id,
            attempt=row.attempt,
            progress=Progress(tries=row.tries, unknowns=row.unknowns, send_by=row.send_by),
        )
        for row in rows
    ]


def next_due(conn: Connection, *, now: datetime) -> datetime | None:
    """Return when the next request that can still be sent falls due, None if there is none."""
    earliest: datetime | None = conn.execute(
        select(func.min(_r.next_attempt_at)).where(_r.send_state == SendState.DUE, _r.send_by > now)
    ).scalar_one()
    return earliest
