"""Tell clients what became of their requests: the pump of webhooks. The table is the queue.

A worker process has one. A job claims deliveries up to the free threads, collects what has been answered,
records it, and claims again; after a while it leaves the claiming to a successor. Nothing is held in Postgres
while a receiver answers, but the lease.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain import webhooks
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.webhooks import WebhookResponse
from otpqueue.operations.recording import KEPT_S
from otpqueue.outbound import PostUndeliverable
from otpqueue.store.engine import run, transaction
from otpqueue.store.vault import Vault
from otpqueue.store.webhooks import deliveries
from otpqueue.store.webhooks.deliveries import DeliveryResult, WebhookDelivery
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

THREADS = 128
"""Deliveries in flight per worker process."""

SHARE = 32
"""How many of them may be to one client: some that are slow leave room for the others."""

_LOOK_AGAIN_S = 0.05
"""While deliveries are in flight, the table is looked at this often."""

_GATHER_S = 0.01
"""Under load, so long is waited for more answers to record in the same transaction."""

_AWAY_S = 0.5
"""Pause before outcomes are recorded again that Postgres has not taken."""

_ABANDONED_S = 0.2
"""So often a job that waits for what it has in flight looks whether to give up on it."""


class PostFunction(Protocol):
    """What posts to a receiver."""

    def post(self, url: str, *, body: bytes, headers: dict[str, str]) -> int:
        """Return the answer's HTTP status. Raises PostUndeliverable."""


def deliver(
    outbound: PostFunction, url: str, *, secrets: Sequence[str], webhook_id: str, text: str, now: datetime
) -> WebhookResponse:
    """Post one signed body and return what came of it; nothing is posted that cannot be signed."""
    if not secrets:
        return WebhookResponse(reason="secret_not_opened")
    headers = webhooks.build_headers(secrets, webhook_id=webhook_id, now=now, text=text)
    try:
        return WebhookResponse(status=outbound.post(url, body=text.encode(), headers=headers))
    except PostUndeliverable as problem:
        return WebhookResponse(reason=problem.reason)


@dataclass(frozen=True, kw_only=True)
class SendWebhooksSettings:
    """How webhooks are sent by one process."""

    lease_s: float
    """How long a worker may hold a delivery: longer than a receiver may take."""
    job_s: float
    """A job claims for so long, then wakes a successor."""
    disable_after: timedelta
    """After so long of nothing but failures an endpoint is disabled."""
    threads: int = THREADS
    share: int = SHARE


@dataclass
class _WebhookJob:
    """What one job has in flight, and what it knows and could not record yet."""

    in_flight: set[Future[DeliveryResult]] = field(default_factory=set)
    unrecorded: list[tuple[float, DeliveryResult]] = field(default_factory=list)
    """Each with when it was known, on the monotonic clock."""


class SendWebhooks:
    """Sends webhooks. Thread-safe: of several jobs one claims, the others tell it to look again."""

    def __init__(
        self,
        *,
        engine: Engine,
        vault: Vault,
        outbound: PostFunction,
        wake: Callable[[], bool],
        clock: Callable[[], datetime],
        settings: SendWebhooksSettings,
    ) -> None:
        self._engine, self._vault, self._outbound = engine, vault, outbound
        self._wake, self._clock, self._settings = wake, clock, settings
        self._senders = ThreadPoolExecutor(settings.threads, thread_name_prefix="webhook")
        self._claiming = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._abandoned = threading.Event()
        self._jobs_done = threading.Condition()
        self._jobs = 0
        self._busy: Counter[UUID] = Counter()
        self._busy_lock = threading.Lock()

    def stop(self) -> None:
        """Claim no more: what is being answered is waited for, what has not been posted is given back."""
        self._stop.set()
        self._nudge.set()

    def abandon(self, *, within_s: float) -> int:
        """Stop, and wait for no receiver; return how many were being waited for, once the rest is recorded.

        Their leases run out, and they are posted again. Recording is given up after `within_s` seconds.
        """
        self.stop()
        self._abandoned.set()
        with self._jobs_done:
            self._jobs_done.wait_for(lambda: not self._jobs, timeout=within_s)
        return self._busy.total()

    def run(self) -> None:
        """Send until nothing is due, for about `job_s` seconds, and return when all of it is recorded.

        Raises DatabaseUnavailable.
        """
        with self._jobs_done:
            self._jobs += 1
        try:
            self._run()
        finally:
            with self._jobs_done:
                self._jobs -= 1
                self._jobs_done.notify_all()

    def _run(self) -> None:
        self._nudge.set()
        # Whoever finds the claiming taken has left its nudge, which the holder looks at after letting go.
        while self._nudge.is_set() and not self._stop.is_set() and self._claiming.acquire(blocking=False):
            job = _WebhookJob()
            try:
                self._nudge.clear()
                self._claim_for_a_while(job)
            finally:
                self._claiming.release()
                self._drain(job)

    def _claim_for_a_while(self, job: _WebhookJob) -> None:
        end = time.monotonic() + self._settings.job_s
        while not self._stop.is_set():
            if time.monotonic() >= end:
                if not self._wake():
                    self._nudge.set()
                return
            claimed = self._claim(job.in_flight)
            if job.in_flight:
                self._collect(job, timeout=_LOOK_AGAIN_S)
            elif not claimed:
                return

    def _claim(self, in_flight: set[Future[DeliveryResult]]) -> int:
        with self._busy_lock:
            busy = dict(self._busy)
        free = self._settings.threads - sum(busy.values())
        # Few free threads at a time would make many small claims: wait for a quarter of them.
        if free <= 0 or (in_flight and free < self._settings.threads // 4):
            return 0
        held_since, now = time.monotonic(), self._clock()
        claimed = run(
            self._engine,
            lambda conn: deliveries.claim(
                conn,
                slots=free,
                share=self._settings.share,
                busy=busy,
                lease_s=self._settings.lease_s,
                now=now,
                vault=self._vault,
            ),
        )
        with self._busy_lock:
            self._busy.update(one.client_id for one in claimed)
        in_flight.update(self._senders.submit(self._deliver, one, held_since) for one in claimed)
        return len(claimed)

    def _deliver(self, delivery: WebhookDelivery, held_since: float) -> DeliveryResult:
        try:
            late = time.monotonic() - held_since > self._settings.lease_s / 2
            answer = None if late or self._stop.is_set() else self._post(delivery)
        finally:
            with self._busy_lock:
                self._busy -= Counter([delivery.client_id])
        now = self._clock()
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        again = answer is not None and not answer.is_success
        return DeliveryResult(
            delivery=delivery,
            answer=answer,
            tried_at=now,
            next_try_at=webhooks.compute_retry_at(delivery.tries, now=now, jitter=jitter) if again else None,
        )

    def _post(self, delivery: WebhookDelivery) -> WebhookResponse:
        return deliver(
            self._outbound,
            delivery.url,
            secrets=delivery.secrets,
            webhook_id=str(delivery.id),
            text=webhooks.build_body(delivery.event, delivery.at, delivery.data),
            now=self._clock(),
        )

    def _drain(self, job: _WebhookJob) -> None:
        """Wait for what is in flight and record it, claiming nothing."""
        while not self._abandoned.is_set() and (job.in_flight or job.unrecorded):
            if job.in_flight:
                self._collect(job, timeout=_ABANDONED_S)
            else:
                self._abandoned.wait(_AWAY_S)
                self._record(job)
        if job.unrecorded:
            self._record(job)

    def _collect(self, job: _WebhookJob, *, timeout: float) -> None:
        done, others = wait(job.in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        if done and others:
            time.sleep(_GATHER_S)
            done |= {future for future in others if future.done()}
        job.in_flight -= done
        known_at = time.monotonic()
        for future in done:
            error = future.exception()
            if error is None:
                job.unrecorded.append((known_at, future.result()))
            else:
                # Its lease runs out, and it is tried again.
                log.error("webhook_crashed", exc_info=error)
        if job.unrecorded:
            self._record(job)

    def _record(self, job: _WebhookJob) -> None:
        """Record what is known, and keep what cannot be recorded now: no receiver is posted to twice."""
        known, job.unrecorded = job.unrecorded, []
        results = [result for _, result in known]
        try:
            ended, locked = transaction(
                self._engine,
                lambda conn: deliveries.record(
                    conn, results, disable_after=self._settings.disable_after, now=self._clock()
                ),
            )
        except DatabaseUnavailable:
            ended, locked = [], {result.delivery.id for result in results}
        if locked:
            log.warning("webhooks_not_recorded", error="database_unavailable", deliveries=len(locked))
        since = time.monotonic() - KEPT_S
        job.unrecorded = [one for one in known if one[1].delivery.id in locked and one[0] > since]
        for result in results:
            if result.delivery.id not in locked:
                _report(result)
        for endpoint in ended:
            log.error(
                "webhook_disabled",
                client_id=str(endpoint.client_id),
                reason=endpoint.reason.value,
                failing_since=endpoint.failing_since.isoformat(),
            )


def _report(result: DeliveryResult) -> None:
    delivery, answer = result.delivery, result.answer
    fields = {
        "webhook_id": str(delivery.id),
        "otp_id": str(delivery.request_id),
        "client_id": str(delivery.client_id),
        "webhook_event": delivery.event,
        "try_number": delivery.tries,
    }
    if answer is None:
        metrics.count(metrics.WEBHOOKS, "given_back")
        log.info("webhook_given_back", **fields)
    elif answer.is_success:
        metrics.count(metrics.WEBHOOKS, "delivered")
        log.info("webhook_delivered", **fields, http_status=answer.status)
    elif result.next_try_at:
        metrics.count(metrics.WEBHOOKS, "failed")
        log.warning(
            "webhook_failed",
            **fields,
            http_status=answer.status,
            problem=answer.reason,
            next_try_at=result.next_try_at.isoformat(),
        )
    else:
        metrics.count(metrics.WEBHOOKS, "given_up")
        log.warning("webhook_given_up", **fields, http_status=answer.status, problem=answer.reason)
