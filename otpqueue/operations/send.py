"""Send what is due: the pump. The table is the queue; a Celery job only starts this.

A worker process has one Pump. A job takes turns: each records what has finished and claims requests up to the
free sender threads, in one call of Postgres. Finished sends, nudges and a stop are events that it waits for.

After its last request a job lingers: it keeps looking for a second, and says so in Redis, so that callers
nudge it instead of publishing a job. After about ten seconds it leaves the claiming to a successor and only
waits for what it has in flight.
"""

from __future__ import annotations

import math
import queue
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.caps import Caps
from otpqueue.domain.circuit import CircuitSignal, ClaimPermit, classify_outcome
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import get_cool_down_s
from otpqueue.domain.sending import (
    RETURNED,
    TEMPLATE_NOT_FOUND,
    Outcome,
    OutcomeEvidence,
    OutcomeKind,
    OutgoingMessage,
    RefusalCause,
    SendingPolicy,
    SmsProvider,
    decide_next,
)
from otpqueue.domain.templates import ProviderIds, Senders
from otpqueue.domain.webhooks import StatusCallback, ignore_changes
from otpqueue.operations.nudges import LookSchedule, NudgeListener, Nudges
from otpqueue.store import claims, receipts
from otpqueue.store.attempts import AttemptKey, AttemptResult
from otpqueue.store.claims import Claim
from otpqueue.store.engine import run
from otpqueue.store.vault import Vault
from otpqueue.telemetry import logs, metrics, traces
from otpqueue.telemetry.traces import Attributes, Span, SpanKind, Tracer

log = logs.get_logger(__name__)

_PACE_S = (0.002, 0.02)
"""Shortest and longest pause between two turns: twice as long as the turn took, within these bounds.

So turns grow fatter the more there is to do, and Postgres is never kept busy by turns alone.
"""

_GATHER_S = 0.01
"""While sends are in flight, wait this long to record more outcomes in the same turn."""

_AGAIN_S = 0.05
"""Pause before another try: of a claim while all threads are busy, of recording a locked request."""

_AWAY_S = 0.5
"""Pause before outcomes are recorded again while Postgres is away."""

_PERMIT_S = 0.1
"""How long the circuit's word that all may be claimed is good for, unless an attempt fails meanwhile."""

_BLOCKED_S = 0.5
"""How often the circuit is asked while it forbids all claims."""

_EARLY_RECEIPTS_S = 0.1
"""How long after an outcome was recorded delivery reports are looked for that overtook it."""

_LAST_LOOK_S = 0.1
"""How long after the end of its lingering a job looks once more."""

_CALL_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between jobs that are published for colleagues while claims take all there is room for."""

_CALLS_OVER_S = 5.0
"""After this long without such a claim the next one publishes at once."""

_CODE_LENGTH = 64
"""Of the provider's words no more is stored."""

_ABANDONED_S = 0.2
"""How often a job that waits for what it has in flight looks whether to give up on it."""


@dataclass(frozen=True)
class SendResult:
    """What a sender thread did."""

    result: AttemptResult
    sign: CircuitSignal
    """What it says of the provider."""
    probe: bool
    """Whether it asked on behalf of all, the circuit being half open."""
    about: Mapping[str, str]
    """Whose request it was, and its span: for the log."""
    at: float
    """When it was over, on the monotonic clock, in seconds."""

    @property
    def key(self) -> AttemptKey:
        """Which attempt it was."""
        return self.result.request_id, self.result.attempt


class JobSignal(Enum):
    """What a job may be told besides finished sends and nudges."""

    STOP = "stop"
    LOOK = "look"
    """Another job has come: there are rows."""
    CRASHED = "crashed"
    """A sender thread has ended without an outcome."""


Event = SendResult | JobSignal | int
"""A finished send, a signal, or how many nudges there were."""


@dataclass(frozen=True)
class HoldTimer:
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


class CircuitBreaker(Protocol):
    """What stops all workers from asking a provider that is not well."""

    def claim(self) -> tuple[ClaimPermit, float]:
        """Return what may be claimed now and, where that is nothing, for how many seconds it stays so."""

    def record_signals(self, signs: list[tuple[CircuitSignal, bool]]) -> None:
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
    linger_s: float = 0.0
    """How long a job keeps looking after its last request; 0 ends it at once."""


class _Job:
    """What one job has in flight, and what is still to be done about it. Times of the monotonic clock."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.nudges = 0
        self.is_hurried = False
        """Whether it is to look now."""
        self.in_flight = 0
        self.signs: list[tuple[CircuitSignal, bool]] = []
        """What finished attempts say of the provider, not noted yet."""
        self.finished: list[SendResult] = []
        """What is still to be recorded."""
        self.record_at = 0.0
        self.has_locked = False
        """Whether some of it could not be recorded, since another session holds the request."""
        self.unmatched: list[str] = []
        """Messages whose delivery report may have overtaken the outcome."""
        self.match_at = 0.0
        self.turn_at = 0.0
        """No turn before this."""
        self.guarded: Future[None] | None = None
        """The guard's counting of the newest claims, which comes after that of all others."""

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is in flight or to be recorded."""
        return not self.in_flight and not self.finished

    @property
    def record_due(self) -> float:
        """Return when what has finished is to be recorded."""
        if not self.finished:
            return math.inf
        return self.record_at if self.in_flight or self.has_locked else 0.0

    def wait(self, until: float) -> None:
        """Wait for one event, or until that time; take it and all others that have come by then."""
        seconds = until - time.monotonic()
        with suppress(queue.Empty):
            event = self.events.get(timeout=seconds) if seconds > 0 else self.events.get_nowait()
            while True:
                self._take(event)
                event = self.events.get_nowait()

    def _take(self, event: Event) -> None:
        if isinstance(event, SendResult):
            self.in_flight -= 1
            self.signs.append((event.sign, event.probe))
            if not self.finished:
                self.record_at = time.monotonic() + _GATHER_S
            self.finished.append(event)
        elif isinstance(event, int):
            self.nudges += event
        elif event is JobSignal.CRASHED:
            self.in_flight -= 1
        elif event is JobSignal.LOOK:
            self.is_hurried = True


class Pump:
    """Sends what is due. Thread-safe: of several jobs one claims, the others tell it to look again."""

    def __init__(
        self,
        *,
        engine: Engine,
        vault: Vault,
        sms: SmsProvider,
        provider_ids: Callable[[], ProviderIds | None],
        breaker: CircuitBreaker,
        wake: Callable[[], bool],
        clock: Callable[[], datetime],
        settings: PumpSettings,
        on_status: StatusCallback = ignore_changes,
        tracer: Tracer = traces.OFF,
        nudges: Nudges | None = None,
        guard: Callable[[Sequence[Claim], datetime], None] | None = None,
    ) -> None:
        """`wake` publishes a job: for a successor, or a colleague. Without `nudges` the table is polled.

        `guard` is called with each batch of claims once it is being sent, in a thread of its own.
        """
        self._engine, self._vault, self._sms, self._breaker = engine, vault, sms, breaker
        self._provider_ids, self._wake, self._clock, self._settings = provider_ids, wake, clock, settings
        self._on_status, self._tracer, self._guard = on_status, tracer, guard
        self._listener = NudgeListener(nudges, self._tell_claimer) if nudges and settings.linger_s else None
        self._senders = ThreadPoolExecutor(settings.threads, thread_name_prefix="sender")
        self._guarding = ThreadPoolExecutor(1, thread_name_prefix="guard") if guard else None
        self._claiming = threading.Lock()
        self._claimer: _Job | None = None
        self._claimer_lock = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._abandoned = threading.Event()
        self._jobs_done = threading.Condition()
        self._jobs = 0
        self._busy = 0
        self._busy_lock = threading.Lock()
        self._permit_until = 0.0
        self._last_served: UUID | None = None
        """The client whose turn to be claimed for was last, of this process."""
        self._calls, self._call_at, self._filled_at = 0, 0.0, 0.0
        metrics.set_gauge(metrics.SENDERS, settings.threads)

    def stop(self) -> None:
        """Claim no more: what is being sent is finished, what is claimed but not sent is given back."""
        self._stop.set()
        self._nudge.set()
        self._tell_claimer(JobSignal.STOP)

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
        self._tell_claimer(JobSignal.LOOK)
        # Whoever finds the claiming taken has left its nudge, which the holder looks at after letting go.
        while self._nudge.is_set() and not self._stop.is_set() and self._claiming.acquire(blocking=False):
            job = _Job()
            try:
                self._nudge.clear()
                self._claim_for_a_while(job)
            except DatabaseUnavailable:
                # Nothing is lost: the sweep wakes a worker when Postgres is back.
                log.warning("claim_failed", error="database_unavailable")
            finally:
                self._claiming.release()
                self._drain(job)

    def _tell_claimer(self, event: Event) -> bool:
        """Tell the job that claims; return whether there is one."""
        with self._claimer_lock:
            if self._claimer is None:
                return False
            self._claimer.events.put(event)
            return True

    def _claim_for_a_while(self, job: _Job) -> None:
        ids = self._provider_ids()
        if ids is None:
            log.error("not_provisioned", hint="run `otpqueue provision`")
            return
        end = time.monotonic() + self._settings.job_s
        self._claimer = job
        if self._listener:
            self._listener.start()
        try:
            self._take_turns(job, ids, end)
        finally:
            if self._listener:
                self._listener.stop()
            with self._claimer_lock:
                self._claimer = None
            job.wait(0)
            if job.nudges:
                self._nudge.set()

    def _take_turns(self, job: _Job, ids: ProviderIds, end: float) -> None:
        looks = LookSchedule(
            now=time.monotonic(), linger_s=self._settings.linger_s, horizon_s=self._settings.job_s
        )
        while not self._stop.is_set():
            self._await_turn(job, looks, end)
            if self._stop.is_set():
                return
            if time.monotonic() >= end:
                self._hand_over()
                return
            self._take_turn(job, looks, ids)
            if self._is_over(job, looks) and not self._look_once_more(job, looks, ids):
                return

    def _hand_over(self) -> None:
        if not self._wake():
            self._nudge.set()
        elif self._listener:
            self._listener.hand_over()

    def _is_over(self, job: _Job, looks: LookSchedule) -> bool:
        return job.is_idle and looks.is_over(time.monotonic())

    def _look_once_more(self, job: _Job, looks: LookSchedule, ids: ProviderIds) -> bool:
        """Stop lingering; return whether a caller who saw the flag before has committed since."""
        if not self._listener:
            return False
        self._listener.stop()
        until = time.monotonic() + _LAST_LOOK_S
        while not job.nudges and not self._stop.is_set() and time.monotonic() < until:
            job.wait(until)
        looks.hurry(time.monotonic())
        self._take_turn(job, looks, ids)
        if self._is_over(job, looks):
            return False
        self._listener.start()
        return True

    def _await_turn(self, job: _Job, looks: LookSchedule, end: float) -> None:
        pause_s = job.turn_at - time.monotonic()
        if pause_s > 0:
            # What comes meanwhile need not wake this thread once for each.
            time.sleep(pause_s)
        job.wait(0)
        while not self._stop.is_set():
            now = time.monotonic()
            if job.nudges:
                looks.nudged(now, job.nudges)
                job.nudges = 0
            if job.is_hurried:
                looks.hurry(now)
                job.is_hurried = False
            due = min(end, self._turn_due(job, looks, now))
            if due <= now:
                return
            job.wait(due)

    def _turn_due(self, job: _Job, looks: LookSchedule, now: float) -> float:
        due = looks.at if self._has_room(job) else now + _AGAIN_S
        return min(due, job.record_due, job.match_at if job.unmatched else math.inf)

    def _has_room(self, job: _Job) -> bool:
        # Few free slots at a time would make many small claims: wait for a quarter of them.
        free = self._settings.threads - self._busy
        return free > 0 and not (job.in_flight and free < self._settings.threads // 4)

    def _take_turn(self, job: _Job, looks: LookSchedule, ids: ProviderIds) -> None:
        now = time.monotonic()
        if job.unmatched and now >= job.match_at:
            self._match_early_receipts(job)
        self._note_signs(job)
        slots, probe = 0, False
        if self._has_room(job) and now >= min(looks.at, job.record_due):
            slots, probe = self._permitted(looks, now)
        if not slots:
            if now >= job.record_due:
                self._turn(job, slots=0, now=self._clock())
            return
        claimed = 0
        try:
            claimed = self._record_and_claim(job, looks, ids, slots=slots, probe=probe)
        finally:
            if probe and not claimed:
                self._breaker.record_signals([(CircuitSignal.NONE, True)])

    def _permitted(self, looks: LookSchedule, now: float) -> tuple[int, bool]:
        """Return how many requests may be claimed now, and whether as the probe."""
        if now >= self._permit_until:
            permit, pause_s = self._breaker.claim()
            if permit is ClaimPermit.NOTHING:
                looks.put_off(now + min(pause_s, _BLOCKED_S))
                return 0, False
            if permit is ClaimPermit.PROBE:
                return 1, True
            self._permit_until = now + _PERMIT_S
        return self._settings.threads - self._busy, False

    def _note_signs(self, job: _Job) -> None:
        if job.signs:
            signs, job.signs = job.signs, []
            self._breaker.record_signals(signs)
            if any(sign is not CircuitSignal.ALIVE for sign, _ in signs):
                self._permit_until = 0.0

    def _record_and_claim(
        self, job: _Job, looks: LookSchedule, ids: ProviderIds, *, slots: int, probe: bool
    ) -> int:
        self._nudge.clear()
        held = HoldTimer(self._clock(), time.monotonic())
        turn = self._turn(job, slots=slots, now=held.since)
        now = time.monotonic()
        found = turn.claims
        is_full = len(found) == slots and not probe
        looks.looked(
            now,
            found=len(found),
            expected=sum(claim.progress.tries == 1 for claim in found),
            more=is_full,
            next_due_in_s=(turn.next_due - self._clock()).total_seconds() if turn.next_due else None,
            is_heard=self._listener is not None and self._listener.is_heard,
        )
        if self._listener:
            self._listener.looked()
        if is_full:
            self._call_colleague(now)
        if found:
            metrics.count(metrics.CLAIMED, by=len(found))
            metrics.change_gauge(metrics.IN_FLIGHT, len(found))
            with self._busy_lock:
                self._busy += len(found)
            job.in_flight += len(found)
            for claim in found:
                self._senders.submit(self._send, job, claim, ids, held, probe=probe)
            if self._guarding and self._guard:
                job.guarded = self._guarding.submit(self._guard, found, held.now)
        return len(found)

    def _call_colleague(self, now: float) -> None:
        """Publish a job; less and less often, while there is more to send than there are threads."""
        if now - self._filled_at > _CALLS_OVER_S:
            self._calls = 0
        self._filled_at = now
        if now >= self._call_at or not self._calls:
            self._wake()
            self._call_at = now + _CALL_PAUSES_S[min(self._calls, len(_CALL_PAUSES_S) - 1)]
            self._calls += 1

    def _turn(self, job: _Job, *, slots: int, now: datetime) -> claims.PumpTurn:
        batch, job.finished = job.finished, []
        begun = time.monotonic()
        try:
            turn = claims.take_turn(
                self._engine,
                [one.result for one in batch],
                slots=slots,
                lease_s=self._settings.lease_s,
                worker=self._settings.worker,
                now=now,
                vault=self._vault,
                caps=self._settings.caps,
                after=self._last_served,
            )
        except Exception:
            job.finished = batch + job.finished
            raise
        if slots:
            self._last_served = turn.last_served
        took_s = time.monotonic() - begun
        job.turn_at = begun + took_s + min(max(2 * took_s, _PACE_S[0]), _PACE_S[1])
        if batch:
            self._recorded(job, batch, turn)
        return turn

    def _recorded(self, job: _Job, batch: list[SendResult], turn: claims.PumpTurn) -> None:
        locked = [one for one in batch if one.key in turn.locked] if turn.locked else []
        if locked:
            batch = [one for one in batch if one.key not in turn.locked]
            self._keep(job, locked)
        job.has_locked = bool(locked)
        _report(batch, moved=turn.moved)
        self._on_status(
            (one.result.client_id, one.result.decision.status)
            for one in batch
            if one.result.client_id and one.result.first and one.key in turn.moved
        )
        named = [one.result.outcome.external_message_id for one in batch]
        if not job.unmatched:
            job.match_at = time.monotonic() + _EARLY_RECEIPTS_S
        job.unmatched += [name for name in named if name]
        if self._stop.is_set() and any(one.result.outcome.kind is OutcomeKind.RETURNED for one in batch):
            self._wake()

    def _drain(self, job: _Job) -> None:
        """Wait for what is in flight and record it, claiming nothing."""
        while not job.is_idle and not self._abandoned.is_set():
            job.wait(min(job.record_due, time.monotonic() + _ABANDONED_S))
            self._note_signs(job)
            if time.monotonic() >= job.record_due:
                self._record(job)
        job.wait(0)
        if job.finished:
            self._record(job)
        self._match_early_receipts(job)
        if job.guarded and not self._abandoned.is_set():
            job.guarded.result()

    def _record(self, job: _Job) -> None:
        try:
            self._turn(job, slots=0, now=self._clock())
        except DatabaseUnavailable:
            log.warning("record_failed", error="database_unavailable", attempts=len(job.finished))
            finished, job.finished = job.finished, []
            self._keep(job, finished)
            self._abandoned.wait(_AWAY_S)
        except Exception:  # noqa: BLE001 - whatever it is, each outcome is tried again by itself
            self._record_singly(job)

    def _record_singly(self, job: _Job) -> None:
        """Record outcomes one by one, since Postgres refuses one of them for good; that one is dropped."""
        kept: list[SendResult] = []
        finished, job.finished = job.finished, []
        for position, one in enumerate(finished):
            job.finished = [one]
            try:
                self._turn(job, slots=0, now=self._clock())
            except DatabaseUnavailable:
                kept += finished[position:]
                break
            except Exception:
                # Its lease expires, and the attempt is recorded as unknown.
                log.exception("outcome_refused", otp_id=str(one.result.request_id), **one.about)
            else:
                kept += job.finished
        job.finished = []
        self._keep(job, kept)
        job.has_locked = bool(job.finished)

    def _keep(self, job: _Job, outcomes: list[SendResult]) -> None:
        """Keep outcomes to record them later, as long as anybody can make use of them."""
        since = time.monotonic() - self._settings.code_lifetime_s
        job.finished += [one for one in outcomes if one.at > since]
        job.record_at = time.monotonic() + _AGAIN_S

    def _match_early_receipts(self, job: _Job) -> None:
        named, job.unmatched = job.unmatched, []
        if not named:
            return
        try:
            early = receipts.unmatched(self._engine, named)
            if not early:
                return
            moved = run(self._engine, lambda conn: receipts.match(conn, early, now=self._clock()))
        except DatabaseUnavailable:
            log.warning("receipts_not_matched", messages=len(named))  # `expire` matches what is left over
        else:
            self._on_status((one.client_id, one.status) for one in moved)

    def _send(self, job: _Job, claim: Claim, ids: ProviderIds, held: HoldTimer, *, probe: bool) -> None:
        """Make one attempt, which goes on with the trace of the call that wants the code sent."""
        attributes: Attributes = {
            "otpqueue.otp_id": str(claim.request_id),
            "otpqueue.attempt": claim.attempt,
            "otpqueue.send": claim.sends,
            "otpqueue.channel": claim.channel.value,
            "otpqueue.country": claim.country,
        }
        span = self._tracer.start_span(
            "send_code", kind=SpanKind.INTERNAL, parent=claim.trace_context, attributes=attributes
        )
        with logs.bound_fields(otp_id=str(claim.request_id), client_id=str(claim.client_id)), span:
            try:
                result = self._attempt(claim, ids, held)
            except Exception:
                # Its lease expires, and the attempt is recorded as unknown: that is the truth.
                log.exception("send_crashed", attempt=claim.attempt)
                job.events.put(JobSignal.CRASHED)
                return
            _note(span, result)
        about = {"client_id": str(claim.client_id), **span.ids}
        if result.outcome.is_misconfigured:
            about |= {"template": ids.select_template(language=claim.language, country=claim.country)}
        sign = classify_outcome(result.outcome, is_retry=claim.progress.tries > 1 and not probe)
        job.events.put(SendResult(result, sign, probe, about, time.monotonic()))

    def _attempt(self, claim: Claim, ids: ProviderIds, held: HoldTimer) -> AttemptResult:
        evidence = None
        try:
            late = held.now >= claim.progress.send_by
            if self._stop.is_set() or late or held.seconds > self._settings.lease_s / 2:
                outcome, started_at, latency_ms = RETURNED, None, None
            else:
                started_at, start = held.now, time.monotonic()
                outcome = self._sms.send(self._message(claim, ids))
                latency_ms = round((time.monotonic() - start) * 1000)
                outcome = _with_template(outcome, claim, ids)
                if outcome.kind is OutcomeKind.UNKNOWN:
                    evidence = self._evidence(claim, ids, started_at, held)
        finally:
            metrics.change_gauge(metrics.IN_FLIGHT, -1)
            with self._busy_lock:
                self._busy -= 1
        finished_at = held.now
        expires_at = resend_after = None
        if outcome.kind is OutcomeKind.ACCEPTED:
            cool_down = 0 if claim.is_test else get_cool_down_s(claim.sends)
            resend_after = finished_at + timedelta(seconds=cool_down)
            if started_at and claim.pin_id is None:
                # From when we asked: the provider's own clock began after that, so ours ends first.
                expires_at = started_at + timedelta(seconds=self._settings.code_lifetime_s)
        return AttemptResult(
            request_id=claim.request_id,
            client_id=claim.client_id,
            attempt=claim.attempt,
            outcome=outcome,
            decision=decide_next(
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

    def _message(self, claim: Claim, ids: ProviderIds) -> OutgoingMessage:
        return OutgoingMessage(
            to=claim.digits,
            channel=claim.channel,
            application_id=ids.application_id,
            message_id=ids.get_message_id(language=claim.language, country=claim.country),
            sender=self._settings.senders.select_sender(claim.country),
            pin_id=claim.pin_id,
            is_test=claim.is_test,
        )

    def _evidence(
        self, claim: Claim, ids: ProviderIds, started_at: datetime, held: HoldTimer
    ) -> OutcomeEvidence | None:
        # It must not outlast the lease: what is known of the attempt is worth more than what is asked.
        if held.seconds > self._settings.lease_s * 0.7:
            return None
        return self._sms.query_sent_since(
            to=claim.digits, application_id=ids.application_id, since=started_at
        )


def _with_template(outcome: Outcome, claim: Claim, ids: ProviderIds) -> Outcome:
    """Return an outcome whose code names the template that the provider does not know, if it is that."""
    if outcome.cause is not RefusalCause.TEMPLATE:
        return outcome
    template = ids.select_template(language=claim.language, country=claim.country)
    return replace(outcome, code=f"{TEMPLATE_NOT_FOUND}:{template}"[:_CODE_LENGTH])


def _note(span: Span, result: AttemptResult) -> None:
    outcome = result.outcome
    span.set_attributes(
        {
            "otpqueue.outcome": outcome.kind.value,
            "otpqueue.provider_code": outcome.code,
            "otpqueue.evidence": result.evidence.value if result.evidence else None,
        }
    )
    if outcome.kind in {OutcomeKind.REFUSED, OutcomeKind.UNKNOWN}:
        span.mark_failed(outcome.kind.value)


def _report(batch: Sequence[SendResult], *, moved: Set[AttemptKey]) -> None:
    attempts: Counter[tuple[str, str]] = Counter()
    for one in batch:
        outcome = one.result.outcome
        answer = metrics.classify_status(outcome.http_status) if outcome.asked else "not_asked"
        attempts[outcome.kind.value, answer] += 1
        _report_one(one, moved=one.key in moved)
    for labels, number in attempts.items():
        metrics.count(metrics.ATTEMPTS, *labels, by=number)


def _report_one(sent: SendResult, *, moved: bool) -> None:
    result, outcome = sent.result, sent.result.outcome
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
    if outcome.is_misconfigured:
        log.error("provider_misconfigured", **fields, cause=outcome.cause)
    elif outcome.kind is OutcomeKind.ACCEPTED:
        log.info("otp_sent", **fields)
    elif outcome.kind is OutcomeKind.RETURNED:
        log.info("otp_send_given_back", **fields)
    elif outcome.kind is OutcomeKind.REFUSED:
        log.warning("otp_send_refused", **fields)
    else:
        log.warning("otp_send_unknown", **fields)
