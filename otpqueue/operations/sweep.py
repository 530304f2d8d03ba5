"""Recover lost work: expired leases, lost wake-ups, and unsent codes past their deadline.

Every statement is conditional, so concurrent sweeps do no harm.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence, Set
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.sending import LEASE_RAN_OUT, SendingPolicy, decide_next
from otpqueue.store import attempts, checks, expiring
from otpqueue.store.engine import connection, run, transaction
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

BATCH = 1000
_LATE_OUTCOME = timedelta(seconds=1.5)
"""More than the pause between two attempts of a worker to record an outcome."""
UNSENT_BATCHES = 20
"""How many batches of unsent requests a sweep expires: more than are accepted until the next one."""


@dataclass(frozen=True, kw_only=True)
class SweepResult:
    """The counts of one sweep."""

    leases: int
    unsent: int
    resends: int
    checks: int
    woke: bool


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Sweeps."""

    engine: Engine
    wake: Callable[[], bool]
    policy: SendingPolicy

    def __call__(self, *, now: datetime) -> SweepResult:
        """Sweep once, up to `BATCH` rows of each kind. The next sweep is seconds away.

        Unsent requests take up to `UNSENT_BATCHES`, so that a backlog of expired ones does not slow down
        claims. Raises DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            lost = [self._lost(claim, now) for claim in attempts.find_expired_leases(conn, limit=BATCH)]
        moved = run(self.engine, lambda conn: attempts.record(conn, lost)) if lost else set()
        _report(lost, moved)
        unsent = self._expire_unsent(now)
        for one in unsent:
            log.info("otp_expired", otp_id=str(one.id), client_id=str(one.client_id), reason=one.reason)
        resends = run(self.engine, lambda conn: expiring.give_up_resends(conn, now=now, limit=BATCH))
        freed = transaction(self.engine, lambda conn: checks.sweep(conn, now=now, limit=BATCH))
        with connection(self.engine) as conn:
            due = attempts.read_next_due(conn, now=now)
        swept = SweepResult(
            leases=len(moved),
            unsent=len(unsent),
            resends=resends,
            checks=freed,
            woke=due is not None and due <= now,
        )
        for what, found in asdict(swept).items():
            metrics.count(metrics.SWEPT, what, by=found)
        metrics.count(metrics.ATTEMPTS, LEASE_RAN_OUT.kind.value, "none", by=swept.leases)
        if swept.woke:
            self.wake()
        if moved or unsent or resends or freed:
            log.warning("swept", **asdict(swept))
        return swept

    def _expire_unsent(self, now: datetime) -> list[expiring.EndedRequest]:
        unsent: list[expiring.EndedRequest] = []
        for _ in range(UNSENT_BATCHES):
            batch = run(self.engine, lambda conn: expiring.expire_unsent(conn, now=now, limit=BATCH))
            unsent += batch
            if len(batch) < BATCH:
                break
        return unsent

    def _lost(self, claim: attempts.ExpiredLease, now: datetime) -> attempts.AttemptResult:
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        # After an outage of Postgres, the worker of an expired lease may still have its outcome and record it
        # within a second. That must happen before the code is sent again.
        again_from = now + _LATE_OUTCOME
        return attempts.AttemptResult(
            request_id=claim.request_id,
            attempt=claim.attempt,
            outcome=LEASE_RAN_OUT,
            decision=decide_next(
                LEASE_RAN_OUT, claim.progress, policy=self.policy, now=again_from, jitter=jitter
            ),
            started_at=None,
            finished_at=now,
            latency_ms=None,
            first=claim.progress.first,
        )


def _report(lost: Sequence[attempts.AttemptResult], moved: Set[tuple[UUID, int]]) -> None:
    for result in lost:
        if (result.request_id, result.attempt) in moved:
            log.warning(
                "otp_send_unknown",
                otp_id=str(result.request_id),
                attempt=result.attempt,
                code=result.outcome.code,
                becomes=result.decision.status.value,
            )
