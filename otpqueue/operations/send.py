"""Send what is due: the pump. The table is the queue; a Celery job only starts this.

A worker process has one Pump. A job claims requests up to the free sender threads, collects what has
finished, records it in one statement, and claims again; after about ten seconds it leaves the claiming to a
successor and only waits for what it has in flight.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Engine

from otpqueue import logs, metrics, traces
from otpqueue.domain.caps import Caps
from otpqueue.domain.circuit import Permit, Sign, sign_of
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import cool_down_s
from otpqueue.domain.sending import (
    RETURNED,
    Evidence,
    Message,
    OutcomeKind,
    SendingPolicy,
    Sms,
    decide,
)
from otpqueue.domain.templates import ProviderIds, Senders
from otpqueue.domain.webhooks import Tell, tell_nobody
from otpqueue.store import attempts, claims, receipts
from otpqueue.store.attempts import Result
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection, run
from otpqueue.store.vault import Vault
from otpqueue.traces import Attributes, Kind, Span, Tracer

log = logs.get_logger(__name__)

_LOOK_AGAIN_S = 0.05
"""While sends are in flight, the table is looked at this often."""

_GATHER_S = 0.01
"""Under load, so long is waited for more outcomes to record in the same statement."""

_ABANDONED_S = 0.2
"""So often a job that waits for what it has in flight looks whether to give up on it."""


@dataclass(frozen=True)
class Sent:
    """What a sender thread did."""

    result: Result
    probe: bool
    """Whether it asked on behalf of all, the circuit being half open."""
    about: Mapping[str, str]
    """Whose request it was, and its span: for the log."""


InFlight = set["Future[Sent]"]


@dataclass(frozen=True)
class Held:
    """How long something has been held, whatever the host's clock does meanwhile."""

    since: datetime
    started: float
    """The same moment on the monotonic clock, in seconds."""

    @property
    def seconds(self) -> float:
        """For how long."""
        return time.monotonic() - self.started

    @property
    def now(self) -> datetime:
        """What time it is, counted from `since`."""
        return self.since + timedelta(seconds=self.seconds)


class Breaker(Protocol):
    """What stops all workers from asking a provider that is not well."""

    def take(self) -> tuple[Permit, float]:
        """Return what may be claimed now and, where that is nothing, for how many seconds it stays so."""

    def note(self, signs: list[tuple[Sign, bool]]) -> None:
        """Note what attempts said of the provider, each with whether it was the probe."""


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
    caps: Caps = field(default_factory=Caps)


class Pump:
    """Sends what is due. Thread-safe: of several jobs one claims, the others tell it to look again."""

    def __init__(
        self,
        *,
        engine: Engine,
        vault: Vault,
        sms: Sms,
        provider_ids: Callable[[], ProviderIds | None],
        breaker: Breaker,
        wake: Callable[[], bool],
        clock: Callable[[], datetime],
        settings: PumpSettings,
        tell: Tell = tell_nobody,
        tracer: Tracer = traces.OFF,
        guard: Callable[[Sequence[Claim], datetime], None] | None = None,
    ) -> None:
        """Keep the parts. `guard` is called with each batch of claims once it is being sent."""
        self._engine, self._vault, self._sms, self._breaker = engine, vault, sms, breaker
        self._provider_ids, self._wake, self._clock, self._settings = provider_ids, wake, clock, settings
        self._tell, self._tracer, self._guard = tell, tracer, guard
        self._senders = ThreadPoolExecutor(settings.threads, thread_name_prefix="sender")
        self._claiming = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._abandoned = threading.Event()
        self._jobs_done = threading.Condition()
        self._jobs = 0
        self._busy = 0
        self._busy_lock = threading.Lock()
        metrics.put(metrics.SENDERS, settings.threads)

    def stop(self) -> None:
        """Claim no more: what is being sent is finished, what is claimed but not sent is given back."""
        self._stop.set()
        self._nudge.set()

    def abandon(self, *, within_s: float) -> int:
        """Stop, and wait for no send that is in flight; return how many were, once the rest is recorded.

        Their leases run out, and they count as unknown. Recording is given up after `within_s` seconds.
        """
        self.stop()
        self._abandoned.set()
        with self._jobs_done:
            self._jobs_done.wait_for(lambda: not self._jobs, timeout=within_s)
        return self._busy

    def run(self) -> None:
        """Send until nothing is due, for about `job_s` seconds, and return when all of it is recorded."""
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
            pause_s = self._claim(ids, in_flight)
            if in_flight:
                self._collect(in_flight, timeout=_LOOK_AGAIN_S)
            elif pause_s:
                self._stop.wait(min(pause_s, end - time.monotonic()))
            elif not self._sleep_until_due(end):
                return

    def _claim(self, ids: ProviderIds, in_flight: InFlight) -> float:
        """Claim what may be claimed; return for how many seconds the circuit forbids it, 0 if it does not."""
        free = self._settings.threads - self._busy
        # Few free slots at a time would make many small claims: wait for a quarter of them.
        if free <= 0 or (in_flight and free < self._settings.threads // 4):
            return 0.0
        permit, pause_s = self._breaker.take()
        if permit is Permit.NOTHING:
            return pause_s
        probe = permit is Permit.PROBE
        claimed = 0
        try:
            claimed = self._claim_up_to(1 if probe else free, ids, in_flight, probe=probe)
        finally:
            if probe and not claimed:
                self._breaker.note([(Sign.NONE, True)])
        return 0.0

    def _claim_up_to(self, slots: int, ids: ProviderIds, in_flight: InFlight, *, probe: bool) -> int:
        held = Held(self._clock(), time.monotonic())
        claimed = run(
            self._engine,
            lambda conn: claims.claim(
                conn,
                slots=slots,
                lease_s=self._settings.lease_s,
                worker=self._settings.worker,
                now=held.since,
                vault=self._vault,
                caps=self._settings.caps,
            ),
        )
        if len(claimed) == slots and not probe:
            self._wake()
        metrics.count(metrics.CLAIMED, by=len(claimed))
        metrics.change(metrics.IN_FLIGHT, len(claimed))
        with self._busy_lock:
            self._busy += len(claimed)
        in_flight.update(self._senders.submit(self._send, claim, ids, held, probe=probe) for claim in claimed)
        if self._guard and claimed:
            self._guard(claimed, held.now)
        return len(claimed)

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

    def _send(self, claim: Claim, ids: ProviderIds, held: Held, *, probe: bool) -> Sent:
        """Make one attempt, which goes on with the trace of the call that wants the code sent."""
        attributes: Attributes = {
            "otpqueue.otp_id": str(claim.request_id),
            "otpqueue.attempt": claim.attempt,
            "otpqueue.send": claim.sends,
            "otpqueue.channel": claim.channel.value,
            "otpqueue.country": claim.country,
        }
        span = self._tracer.begin(
            "send_code", kind=Kind.INTERNAL, parent=claim.trace_context, attributes=attributes
        )
        with logs.bound(otp_id=str(claim.request_id), client_id=str(claim.client_id)), span:
            try:
                result = self._attempt(claim, ids, held)
            except Exception:
                # Its lease runs out, and the attempt is recorded as unknown: that is the truth.
                log.exception("send_crashed", attempt=claim.attempt)
                raise
            _note(span, result)
        return Sent(result, probe, {"client_id": str(claim.client_id), **span.ids})

    def _attempt(self, claim: Claim, ids: ProviderIds, held: Held) -> Result:
        evidence = None
        try:
            late = held.now >= claim.progress.send_by
            if self._stop.is_set() or late or held.seconds > self._settings.lease_s / 2:
                outcome, started_at, latency_ms = RETURNED, None, None
            else:
                started_at, start = held.now, time.monotonic()
                outcome = self._sms.send(self._message(claim, ids))
                latency_ms = round((time.monotonic() - start) * 1000)
                if outcome.kind is OutcomeKind.UNKNOWN:
                    evidence = self._evidence(claim, ids, started_at, held)
        finally:
            metrics.change(metrics.IN_FLIGHT, -1)
            with self._busy_lock:
                self._busy -= 1
        finished_at = held.now
        expires_at = resend_after = None
        if outcome.kind is OutcomeKind.ACCEPTED:
            cool_down = 0 if claim.is_test else cool_down_s(claim.sends)
            resend_after = finished_at + timedelta(seconds=cool_down)
            if started_at and claim.pin_id is None:
                # From when we asked: the provider's own clock began after that, so ours ends first.
                expires_at = started_at + timedelta(seconds=self._settings.code_lifetime_s)
        return Result(
            request_id=claim.request_id,
            client_id=claim.client_id,
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
            is_test=claim.is_test,
        )

    def _evidence(self, claim: Claim, ids: ProviderIds, started_at: datetime, held: Held) -> Evidence | None:
        # It must not outlast the lease: what is known of the attempt is worth more than what is asked.
        if held.seconds > self._settings.lease_s * 0.7:
            return None
        return self._sms.sent_since(to=claim.digits, application_id=ids.application_id, since=started_at)

    def _drain(self, in_flight: InFlight) -> None:
        while in_flight and not self._abandoned.is_set():
            self._collect(in_flight, timeout=_ABANDONED_S)

    def _collect(self, in_flight: InFlight, *, timeout: float) -> None:
        done, others = wait(in_flight, timeout=timeout, return_when=FIRST_COMPLETED)
        if done and others:
            time.sleep(_GATHER_S)
            done |= {future for future in others if future.done()}
        in_flight -= done
        # One that crashed has said so itself.
        sent = [future.result() for future in done if future.exception() is None]
        if sent:
            self._breaker.note([(sign_of(one.result.outcome), one.probe) for one in sent])
            self._record(sent)

    def _record(self, sent: list[Sent]) -> None:
        results = [one.result for one in sent]
        give_up = time.monotonic() + self._settings.lease_s
        while True:
            try:
                moved = run(self._engine, lambda conn: attempts.record(conn, results))
                break
            except DatabaseUnavailable:
                log.warning("record_failed", error="database_unavailable", attempts=len(results))
                if time.monotonic() > give_up or self._abandoned.is_set():
                    return
                self._abandoned.wait(0.5)
        for one in sent:
            _report(one, moved=(one.result.request_id, one.result.attempt) in moved)
        self._tell(
            (one.result.client_id, one.result.decision.status)
            for one in sent
            if one.result.client_id
            and one.result.first
            and (one.result.request_id, one.result.attempt) in moved
        )
        self._match_early_receipts(results)
        if self._stop.is_set() and any(one.outcome.kind is OutcomeKind.RETURNED for one in results):
            self._wake()

    def _match_early_receipts(self, results: list[Result]) -> None:
        named = [one.outcome.external_message_id for one in results if one.outcome.external_message_id]
        if not named:
            return
        try:
            moved = run(self._engine, lambda conn: receipts.match(conn, named, now=self._clock()))
        except DatabaseUnavailable:
            log.warning("receipts_not_matched", messages=len(named))  # `expire` matches what is left over
        else:
            self._tell((one.client_id, one.status) for one in moved)


def _note(span: Span, result: Result) -> None:
    outcome = result.outcome
    span.note(
        {
            "otpqueue.outcome": outcome.kind.value,
            "otpqueue.provider_code": outcome.code,
            "otpqueue.evidence": result.evidence.value if result.evidence else None,
        }
    )
    if outcome.kind in {OutcomeKind.REFUSED, OutcomeKind.UNKNOWN}:
        span.fail(outcome.kind.value)


def _report(sent: Sent, *, moved: bool) -> None:
    result, outcome = sent.result, sent.result.outcome
    answer = metrics.answer_class(outcome.http_status) if outcome.asked else "not_asked"
    metrics.count(metrics.ATTEMPTS, outcome.kind.value, answer)
    fields: dict[str, Any] = {
        "otp_id": str(result.request_id),
        **sent.about,
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
    elif outcome.kind is OutcomeKind.ACCEPTED:
        log.info("otp_sent", **fields)
    elif outcome.kind is OutcomeKind.RETURNED:
        log.info("otp_send_given_back", **fields)
    elif outcome.kind is OutcomeKind.REFUSED:
        log.warning("otp_send_refused", **fields)
    else:
        log.warning("otp_send_unknown", **fields)
