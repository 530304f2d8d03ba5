"""Send codes that are due: what the pump of codes claims, sends and records.

One module because the methods of `SendCodes` are read in the order in which the pump calls them.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.caps import Caps
from otpqueue.domain.circuit import classify_outcome
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
from otpqueue.operations.pump import PumpSettings
from otpqueue.operations.pump_user import ClaimAllowance, HoldTimer, PumpUser, TurnResult
from otpqueue.operations.send_permits import CircuitBreaker, ProviderPermits
from otpqueue.operations.send_reports import SendResult, describe_span, report_sends
from otpqueue.store import claims, receipts
from otpqueue.store.attempts import AttemptResult
from otpqueue.store.claims import Claim
from otpqueue.store.engine import run
from otpqueue.store.vault import Vault
from otpqueue.telemetry import logs, metrics, traces
from otpqueue.telemetry.traces import Attributes, SpanKind, Tracer

log = logs.get_logger(__name__)

_CODE_LENGTH = 64
"""How many characters of the provider's code are stored."""

_EVIDENCE_WITHIN = 0.7
"""Evidence is asked for only within this share of the lease: the outcome must be recorded in time."""


@dataclass(frozen=True, kw_only=True)
class SendSettings(PumpSettings):
    """How the codes of one process are sent. Times in seconds."""

    worker: str
    code_lifetime_s: float
    policy: SendingPolicy
    senders: Senders
    caps: Caps = field(default_factory=Caps)


@dataclass
class CodeToSend:
    """A claimed request, and what it is sent with."""

    claim: Claim
    ids: ProviderIds
    is_probe: bool
    span_ids: Mapping[str, str] = field(default_factory=dict)
    """Those of the attempt's span, once it has begun."""

    @property
    def about(self) -> dict[str, str]:
        """The client and the span, for the log."""
        return {"client_id": str(self.claim.client_id), **self.span_ids}

    @property
    def template(self) -> str:
        """The provider's template for it."""
        return self.ids.select_template(language=self.claim.language, country=self.claim.country)


class SendCodes(PumpUser[CodeToSend, SendResult]):
    """Sends codes by the provider's API, as far as the circuit breaker permits."""

    def __init__(
        self,
        *,
        engine: Engine,
        vault: Vault,
        sms: SmsProvider,
        provider_ids: Callable[[], ProviderIds | None],
        breaker: CircuitBreaker,
        clock: Callable[[], datetime],
        settings: SendSettings,
        on_status: StatusCallback = ignore_changes,
        tracer: Tracer = traces.OFF,
        guard: Callable[[Sequence[Claim], datetime], None] | None = None,
    ) -> None:
        """`guard` is called with each batch of claims once it is being sent, in a thread of its own."""
        self._engine, self._vault, self._sms = engine, vault, sms
        self._provider_ids, self._clock, self._settings = provider_ids, clock, settings
        self._on_status, self._tracer, self._guard = on_status, tracer, guard
        self._permits = ProviderPermits(breaker)
        self._guarding = ThreadPoolExecutor(1, thread_name_prefix="guard") if guard else None
        self._ids: ProviderIds | None = None
        """Those of the job that claims."""
        self._last_served: UUID | None = None
        """The client that this process claimed for last."""
        metrics.set_gauge(metrics.SENDERS, settings.threads)

    def prepare_job(self) -> bool:
        """Read the provider's ids; without them nothing is claimed and no try is spent."""
        self._ids = self._provider_ids()
        if self._ids is None:
            log.error("not_provisioned", hint="run `otpqueue provision`")
        return self._ids is not None

    def permit_claims(self, free: int) -> ClaimAllowance:
        """Ask the circuit breaker."""
        return self._permits.permit_claims(free)

    def take_turn(
        self, results: Sequence[SendResult], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[CodeToSend, SendResult]:
        """Record and claim in one call of Postgres."""
        claimed: list[Claim] = []
        try:
            turn = claims.take_turn(
                self._engine,
                [one.result for one in results],
                slots=permit.slots,
                lease_s=self._settings.lease_s,
                worker=self._settings.worker,
                now=now,
                vault=self._vault,
                caps=self._settings.caps,
                after=self._last_served,
            )
            claimed = turn.claims
            if permit.slots:
                self._last_served = turn.last_served
        finally:
            if permit.is_probe and not claimed:
                self._permits.release_probe()
        if claimed:
            metrics.count(metrics.CLAIMED, by=len(claimed))
            metrics.change_gauge(metrics.IN_FLIGHT, len(claimed))
        recorded = [
            replace(one, has_moved=one.key in turn.moved) for one in results if one.key not in turn.locked
        ]
        outcomes = [one.result.outcome for one in recorded]
        return TurnResult(
            claimed=[self._prepare_code(claim, is_probe=permit.is_probe) for claim in claimed],
            has_more=len(claimed) == permit.slots > 0 and not permit.is_probe,
            expected=sum(claim.progress.tries == 1 for claim in claimed),
            next_due=turn.next_due,
            recorded=recorded,
            given_back=sum(outcome.kind is OutcomeKind.RETURNED for outcome in outcomes),
            locked={position for position, one in enumerate(results) if one.key in turn.locked},
            follow_ups=[one.external_message_id for one in outcomes if one.external_message_id],
        )

    def _prepare_code(self, claim: Claim, *, is_probe: bool) -> CodeToSend:
        if self._ids is None:
            raise AssertionError("claimed before prepare_job")
        return CodeToSend(claim, self._ids, is_probe)

    def observe_claims(self, claimed: Sequence[CodeToSend], hold: HoldTimer) -> Future[None] | None:
        """Have the pumping guard count them."""
        if not self._guarding or not self._guard:
            return None
        return self._guarding.submit(self._guard, [code.claim for code in claimed], hold.now)

    def perform_task(self, task: CodeToSend, hold: HoldTimer) -> SendResult:
        """Send a code, unless its deadline has passed."""
        return self._trace_attempt(task, hold, is_returned=False)

    def return_task(self, task: CodeToSend, hold: HoldTimer) -> SendResult:
        """Return the result of an attempt that was not made."""
        return self._trace_attempt(task, hold, is_returned=True)

    def release_task(self, task: CodeToSend) -> None:  # noqa: ARG002 - each counts as one
        """Count one code less in flight."""
        metrics.change_gauge(metrics.IN_FLIGHT, -1)

    def note_results(self, results: Sequence[SendResult]) -> None:
        """Note for the circuit breaker what attempts say of the provider."""
        self._permits.note_signs([(one.sign, one.is_probe) for one in results])

    def follow_up_results(self, names: Sequence[str]) -> None:
        """Match delivery reports that overtook the outcomes of their messages."""
        try:
            early = receipts.find_unmatched(self._engine, names)
            if not early:
                return
            moved = run(self._engine, lambda conn: receipts.match(conn, early, now=self._clock()))
        except DatabaseUnavailable:
            log.warning("receipts_not_matched", messages=len(names))  # `expire` matches the rest
        else:
            self._on_status((one.client_id, one.status) for one in moved)

    def report_recorded(self, results: Sequence[SendResult]) -> None:
        """Log and count attempts, and have clients notified of new statuses."""
        report_sends(results)
        self._on_status(
            (one.result.client_id, one.result.decision.status)
            for one in results
            if one.result.client_id and one.result.first and one.has_moved
        )

    def report_unrecorded(self, results: int, *, error: str) -> None:
        """Log attempts that are recorded later."""
        log.warning("record_failed", error=error, attempts=results)

    def report_refused(self, result: SendResult, error: Exception) -> None:
        """Log an attempt that becomes unknown when its lease expires."""
        log.error("outcome_refused", otp_id=str(result.result.request_id), **result.about, exc_info=error)

    def report_crash(self, task: CodeToSend, error: Exception) -> None:
        """Log an attempt that becomes unknown when its lease expires."""
        log.error(
            "send_crashed",
            otp_id=str(task.claim.request_id),
            **task.about,
            attempt=task.claim.attempt,
            exc_info=error,
        )

    def _trace_attempt(self, task: CodeToSend, hold: HoldTimer, *, is_returned: bool) -> SendResult:
        """Make one attempt, in the trace of the call that asked for the code."""
        claim = task.claim
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
        task.span_ids = span.ids
        with logs.bound_fields(otp_id=str(claim.request_id), client_id=str(claim.client_id)), span:
            result = self._make_attempt(task, hold, is_returned=is_returned)
            describe_span(span, result)
        about = task.about
        if result.outcome.is_misconfigured:
            about |= {"template": task.template}
        sign = classify_outcome(result.outcome, is_retry=claim.progress.tries > 1 and not task.is_probe)
        return SendResult(result, sign, task.is_probe, about)

    def _make_attempt(self, task: CodeToSend, hold: HoldTimer, *, is_returned: bool) -> AttemptResult:
        claim, evidence = task.claim, None
        is_late = hold.now >= claim.progress.send_by
        if is_returned or is_late:
            outcome, started_at, latency_ms = RETURNED, None, None
        else:
            started_at, start = hold.now, time.monotonic()
            outcome = self._sms.send(self._make_message(task))
            latency_ms = round((time.monotonic() - start) * 1000)
            outcome = _name_template(outcome, task)
            if outcome.kind is OutcomeKind.UNKNOWN:
                evidence = self._ask_for_evidence(task, started_at, hold)
        finished_at = hold.now
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

    def _make_message(self, task: CodeToSend) -> OutgoingMessage:
        claim, ids = task.claim, task.ids
        return OutgoingMessage(
            to=claim.digits,
            channel=claim.channel,
            application_id=ids.application_id,
            message_id=ids.get_message_id(language=claim.language, country=claim.country),
            sender=self._settings.senders.select_sender(claim.country),
            pin_id=claim.pin_id,
            is_test=claim.is_test,
        )

    def _ask_for_evidence(
        self, task: CodeToSend, started_at: datetime, hold: HoldTimer
    ) -> OutcomeEvidence | None:
        if hold.seconds > self._settings.lease_s * _EVIDENCE_WITHIN:
            return None
        return self._sms.query_sent_since(
            to=task.claim.digits, application_id=task.ids.application_id, since=started_at
        )


def _name_template(outcome: Outcome, task: CodeToSend) -> Outcome:
    """Return an outcome with a code that names the template, if Infobip does not know that template."""
    if outcome.cause is not RefusalCause.TEMPLATE:
        return outcome
    return replace(outcome, code=f"{TEMPLATE_NOT_FOUND}:{task.template}"[:_CODE_LENGTH])
