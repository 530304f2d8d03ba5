"""Logs and metrics of the outcomes of attempts to send codes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from otpqueue.domain.circuit import CircuitSignal
from otpqueue.domain.sending import OutcomeKind
from otpqueue.store.attempts import AttemptKey, AttemptResult
from otpqueue.telemetry import logs, metrics
from otpqueue.telemetry.traces import Span

log = logs.get_logger(__name__)


@dataclass(frozen=True)
class SendResult:
    """The result of one attempt to send a code."""

    result: AttemptResult
    sign: CircuitSignal
    """What it says of the provider."""
    is_probe: bool
    """Whether it found out for all workers if the provider is back: the circuit was half open."""
    about: Mapping[str, str]
    """The client and the span, for the log."""
    has_moved: bool = False
    """Once it is recorded: whether the request changed with it."""

    @property
    def key(self) -> AttemptKey:
        """The attempt's key."""
        return self.result.request_id, self.result.attempt


def report_sends(sends: Sequence[SendResult]) -> None:
    """Log and count attempts that are recorded."""
    attempts: Counter[tuple[str, str]] = Counter()
    for one in sends:
        outcome = one.result.outcome
        answer = metrics.classify_status(outcome.http_status) if outcome.asked else "not_asked"
        attempts[outcome.kind.value, answer] += 1
        _log_send(one)
    for labels, number in attempts.items():
        metrics.count(metrics.ATTEMPTS, *labels, by=number)


def _log_send(sent: SendResult) -> None:
    result, outcome = sent.result, sent.result.outcome
    fields: dict[str, Any] = {
        "otp_id": str(result.request_id),
        **sent.about,
        "attempt": result.attempt,
        "code": outcome.code,
        "http_status": outcome.http_status,
        "latency_ms": result.latency_ms,
        "becomes": result.decision.status.value if sent.has_moved else "unchanged",
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


def describe_span(span: Span, result: AttemptResult) -> None:
    """Add the outcome of an attempt to its span."""
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
