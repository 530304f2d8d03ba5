"""Send what is due: the pump. The table is the queue; a Celery job only starts this.

A worker process has one Pump. A job claims requests up to the free sender threads, collects what has
finished, records it in one statement, and claims again; after about ten seconds it leaves the claiming to a
successor and only waits for what it has in flight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import cool_down_s
from otpqueue.domain.sending import RETURNED, Evidence, Message, OutcomeKind, SendingPolicy, Sms, decide
from otpqueue.domain.templates import ProviderIds, Senders
from otpqueue.logs import get_logger
from otpqueue.store import attempts, receipts
from otpqueue.store.attempts import Claim, Result
from otpqueue.store.engine import connection
from otpqueue.store.vault import Vault

log = get_logger(__name__)

_LOOK_AGAIN_S = 0.05
"""While sends are in flight, the table is looked at this often."""

_GATHER_S = 0.01
"""Under load, so long is waited for more outcomes to record in the same statement."""

InFlight = set["Future[Result]"]


@dataclass(frozen=True, kw_only=True)
class PumpSettings:
    """How the pump of one process works. Times in seconds."""

    worker: str
    threads: int
    lease_s: float
    job_s: float
    code_lifetime_s: float
    policy: SendingPolicy
    senders: Senders


class Pump:
    """Sends what is due. Thread-safe: of several jobs one claims, the others tell it to look again."""

    def __init__(
        self,
        *,
        engine: Engine,
        vault: Vault,
        sms: Sms,
        provider_ids: Callable[[], ProviderIds | None],
        wake: Callable[[], bool],
        clock: Callable[[], datetime],
        settings: PumpSettings,
    ) -> None:
        self._engine, self._vault, self._sms = engine, vault, sms
        self._provider_ids, self._wake, self._clock, self._settings = provider_ids, wake, clock, settings
        self._senders = ThreadPoolExecutor(settings.threads, thread_name_prefix="sender")
        self._claiming = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._busy = 0
        self._busy_lock = threading.Lock()

    def stop(self) -> None:
        """Claim no more: what is being sent is finished, what is claimed but not sent is given back."""
        self._stop.set()
        self._nudge.set()

    def run(self) -> None:
        """Send until nothing is due, for about `job_s` seconds, and return when all of it is recorded."""
        self._nudge.set()
        # Whoever finds the claiming taken has left its nudge, which the holder looks at after letting go.
        while self._nudge.is_set() and not self._stop.is_set() and self._claiming.acquire(blocking=False):
            in_flight: InFlight = set()
            try:
                self._nudge.clear()
                self._claim_for_a_while(in_flight)
            except DatabaseUnavailable:
                # Nothing is lost: the sweep wakes a worker when Postgres is back.
                log.warning("claim_failed", error="database_unavailable")
            finally:
                self._claiming.release()
                self._drain(in_flight)

    def _claim_for_a_while(self, in_flight: InFlight) -> None:
        ids = self._provider_ids()
        if ids is None:
            log.error("not_provisioned", hint="run `otpqueue provision`")
            return
        end = time.monotonic() + self._settings.job_s
        while not self._stop.is_set():
            if time.monotonic() >= end:
                if not self._wake():
                    self._nudge.set()
                return
            self._claim(ids, in_flight)
            if in_flight:
                self._collect(in_flight, timeout=_LOOK_AGAIN_S)
            elif not self._sleep_until_due(end):
                return

    def _claim(self, ids: ProviderIds, in_flight: InFlight) -> None:
        free = self._settings.threads - self._busy
        # Few free slots at a time would make many small claims: wait for a quarter of them.
        if free <= 0 or (in_flight and free < self._settings.threads // 4):
            return
        held_since = time.monotonic()
        with connection(self._engine) as conn:
            claims = attempts.claim(
                conn,
                slots=free,
                lease_s=self._settings.lease_s,
                worker=self._settings.worker,
                now=self._clock(),
                vault=self._vault,
            )
        if len(claims) == free:
            self._wake()
        with self._busy_lock:
            self._busy += len(claims)
        in_flight.update(self._senders.submit(self._send, claim, ids, held_since) for claim in claims)

    def _sleep_until_due(self, end: float) -> bool:
        with connection(self._engine) as conn:
            due = attempts.next_due(conn, now=self._clock())
        if due is None:
            return False
        pause = (due - self._clock()).total_seconds()
        if pause > self._settings.job_s:
            return False
        # Due already, and yet not claimed: all threads are busy with an earlier job's sends.
        pause = pause + 0.001 if pause > 0 else _LOOK_AGAIN_S
        self._nudge.wait(min(pause, end - time.monotonic()))
        self._nudge.clear()
        return True

    def _send(self, claim: Claim, ids: ProviderIds, held_since: float) -> Result:
        evidence = None
        try:
            held = time.monotonic() - held_since
            late = self._clock() >= claim.progress.send_by
            if self._stop.is_set() or late or held > self._settings.lease_s / 2:
                outcome, started_at, latency_ms = RETURNED, None, None
            else:
                started_at, start = self._clock(), time.monotonic()
                outcome = self._sms.send(self._message(claim, ids))
                latency_ms = round((time.monotonic() - start) * 1000)
                if outcome.kind is OutcomeKind.UNKNOWN:
                    evidence = self._evidence(claim, ids, started_at, held_since)
        finally:
            with self._busy_lock:
                self._busy -= 1
        finished_at = self._clock()
        expires_at = resend_after = None
        if outcome.kind is OutcomeKind.ACCEPTED:
            resend_after = finished_at + timedelta(seconds=cool_down_s(claim.sends))
            if started_at and claim.pin_id is None:
                # From when we asked: the provider's own clock began after that, so ours ends first.
                expires_at = started_at + timedelta(seconds=self._settings.code_lifetime_s)
        return Result(
            request_id=claim.request_id,
            attempt=claim.attempt,
            outcome=outcome,
            decision=decide(
                outcome,
                claim.progress,
                policy=self._settings.policy,
                now=finished_at,
                jitter=random.random(),  # noqa: S311 - spreads retries, guards nothing
            ),
            started_at=started_at,
            finished_at=finished_at,
            latency_ms=latency_ms,
            first=claim.progress.first,
            expires_at=expires_at,
            resend_after=resend_after,
            evidence=evidence,
        )

    def _message(self, claim: Claim, ids: ProviderIds) -> Message:
        return Message(
            to=claim.digits,
            channel=claim.channel,
            application_id=ids.application_id,
            message_id=ids.message_id(language=claim.language, country=claim.country),
            sender=self._settings.senders.sender(claim.country),
            pin_id=claim.pin_id,
        )

    def _evidence(
        self, claim: Claim, ids: ProviderIds, started_at: datetime, held_since: float
    ) -> Evidence | None:
        # It must not outlast the lease: what is known of the attempt is worth more than what is asked.
        if time.monotonic() - held_since > self._settings.lease_s * 0.7:
            return None
        return self._sms.sent_since(to=claim.digits, application_id=ids.application_id, since=started_at)

    def _drain(self, in_flight: InFlight) -> None:
        while in_flight:
            self._collect(in_flight, timeout=None)

    def _collect(self, in_flight: InFlight, *, timeout: float | None) -> None:
        done, others = wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        if done and others:
            time.sleep(_GATHER_S)
            done |= {future for future in others if future.done()}
        in_flight -= done
        results = []
        for future in done:
            error = future.exception()
            if error is None:
                results.append(future.result())
            else:
                # Its lease runs out, and the attempt is recorded as unknown: that is the truth.
                log.error("send_crashed", exc_info=error)
        if results:
            self._record(results)

    def _record(self, results: list[Result]) -> None:
        give_up = time.monotonic() + self._settings.lease_s
        while True:
            try:
                with connection(self._engine) as conn:
                    moved = attempts.record(conn, results)
                    self._match_early_receipts(conn, results)
                break
            except DatabaseUnavailable:
                log.warning("record_failed", error="database_unavailable", attempts=len(results))
                if time.monotonic() > give_up:
                    return
                time.sleep(0.5)
        for result in results:
            _report(result, moved=(result.request_id, result.attempt) in moved)
        if self._stop.is_set() and any(one.outcome.kind is OutcomeKind.RETURNED for one in results):
            self._wake()

    def _match_early_receipts(self, conn: Connection, results: list[Result]) -> None:
        named = [one.outcome.external_message_id for one in results if one.outcome.external_message_id]
        receipts.match(conn, named, now=self._clock())


def _report(result: Result, *, moved: bool) -> None:
    outcome = result.outcome
    event = {
        OutcomeKind.ACCEPTED: "otp_sent",
        OutcomeKind.REFUSED: "otp_send_refused",
        OutcomeKind.UNKNOWN: "otp_send_unknown",
        OutcomeKind.RETURNED: "otp_send_given_back",
    }[outcome.kind]
    fields = {
        "otp_id": str(result.request_id),
        "attempt": result.attempt,
        "code": outcome.code,
        "http_status": outcome.http_status,
        "latency_ms": result.latency_ms,
        "becomes": result.decision.status.value if moved else "unchanged",
    }
    if result.evidence:
        fields["evidence"] = result.evidence.value
    if outcome.misconfigured:
        log.error("provider_misconfigured", **fields)
    elif outcome.kind in {OutcomeKind.ACCEPTED, OutcomeKind.RETURNED}:
        log.info(event, **fields)
    else:
        log.warning(event, **fields)
