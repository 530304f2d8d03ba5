"""Queries on the outcomes of attempts: record them, and find claims with an expired lease.

Leases are set and compared by Postgres's own clock, since hosts disagree; all other times are arguments.
That clock is `statement_timestamp()`: an index scan cannot use the volatile `clock_timestamp()`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, Row, func, select

from otpqueue.domain.request import Resend, SendState, Status
from otpqueue.domain.sending import Outcome, OutcomeEvidence, OutcomeKind, SendDecision, SendProgress
from otpqueue.store.engine import fetch
from otpqueue.store.schema import otp_requests

_r = otp_requests.c

_RECORD = "SELECT * FROM record_attempts(%(ids)s::uuid[], %(results)s::json)"
_NEXT_DUE = "SELECT next_due(%(now)s) AS at"

AttemptKey = tuple[UUID, int]
"""A request and the number of one of its attempts."""


@dataclass(frozen=True, kw_only=True)
class ExpiredLease:
    """A claim with an expired lease: its worker was killed, or hangs."""

    request_id: UUID
    attempt: int
    progress: SendProgress


@dataclass(frozen=True, kw_only=True)
class AttemptResult:
    """The outcome of an attempt and its effect on the request."""

    request_id: UUID
    attempt: int
    outcome: Outcome
    decision: SendDecision
    started_at: datetime | None
    finished_at: datetime
    latency_ms: int | None
    first: bool
    """Whether no code of this request was sent before."""
    expires_at: datetime | None = None
    """When the code expires; only for an accepted send of a new code."""
    resend_after: datetime | None = None
    """When the next resend is allowed; only for an accepted attempt."""
    evidence: OutcomeEvidence | None = None
    client_id: UUID | None = None
    """The client to notify of the change; None if beat can deliver the notification."""


def record(on: Engine | Connection, results: Sequence[AttemptResult]) -> set[AttemptKey]:
    """Record the outcomes of attempts, in one statement; return those that moved their request.

    Attempts of requests that another session has locked are omitted. `sweep` finds them again.
    """
    if not results:
        return set()
    rows = fetch(on, _RECORD, {"ids": list_request_ids(results), "results": to_json(results)})
    return {(row.request_id, row.attempt) for row in rows if row.became == "moved"}


def list_request_ids(results: Sequence[AttemptResult]) -> list[UUID]:
    """Return the requests of these results, in the form that the SQL functions expect."""
    return [result.request_id for result in results]


def to_json(results: Sequence[AttemptResult]) -> str:
    """Return results in the form that the SQL function `record_attempts` expects. Nulls are omitted."""
    return json.dumps([_columns(result) for result in results])


def _columns(result: AttemptResult) -> dict[str, Any]:
    outcome, decision = result.outcome, result.decision
    columns = {
        "id": str(result.request_id),
        "attempt": result.attempt,
        "outcome": outcome.kind.value,
        "retryable": outcome.retryable if outcome.kind is OutcomeKind.REFUSED else None,
        "code": outcome.code,
        "http_status": outcome.http_status,
        "pin_id": outcome.pin_id,
        "external_message_id": outcome.external_message_id,
        "evidence": result.evidence,
        "latency_ms": result.latency_ms,
        "started_at": _iso(result.started_at),
        "finished_at": _iso(result.finished_at),
        "status": decision.status if result.first else None,
        "reason": decision.reason,
        "resend": _resend(result),
        "kind": decision.kind,
        "next_attempt_at": _iso(decision.next_attempt_at),
        "expires_at": _iso(result.expires_at),
        "resend_after": _iso(result.resend_after),
    }
    return {name: value for name, value in columns.items() if value is not None}


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def find_expired_leases(conn: Connection, *, limit: int) -> list[ExpiredLease]:
    """Return claims with an expired lease, by Postgres's clock."""
    rows = conn.execute(
        select(_r.id, _r.attempt, _r.tries, _r.unknowns, _r.send_by, _r.status)
        .where(_r.send_state == SendState.CLAIMED, _r.lease_until < func.statement_timestamp())
        .order_by(_r.lease_until)
        .limit(limit)
    )
    return [
        ExpiredLease(
            request_id=row.id,
            attempt=row.attempt,
            progress=_progress(row),
        )
        for row in rows
    ]


def read_next_due(on: Engine | Connection, *, now: datetime) -> datetime | None:
    """Return when the next request that can still be sent falls due, or fell due; None if there is none."""
    (row,) = fetch(on, _NEXT_DUE, {"now": now})
    earliest: datetime | None = row.at
    return earliest


def _progress(row: Row[*tuple[Any, ...]]) -> SendProgress:
    return SendProgress(
        tries=row.tries, unknowns=row.unknowns, send_by=row.send_by, first=row.status == Status.QUEUED
    )


def _resend(result: AttemptResult) -> str | None:
    if result.first or result.decision.next_attempt_at is not None:
        return None
    accepted = result.outcome.kind is OutcomeKind.ACCEPTED
    return (Resend.SENT if accepted else Resend.FAILED).value
