"""The outcome of one attempt to send, and what happens to the request after it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from otpqueue.domain.request import Channel, Reason, SendKind, Status


class OutcomeKind(StrEnum):
    """The result of an attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    RETURNED = "returned"
    """Claimed, but released before anything was sent."""


class RefusalCause(StrEnum):
    """What a rejection applies to."""

    KEY = "key"
    """Every send: the API key is invalid."""
    APPLICATION = "application"
    """Every send: the provider does not know the 2FA application."""
    TEMPLATE = "template"
    """Every send with this message template, which the provider does not know."""
    NUMBER = "number"
    """Only this send: the provider knows the application and the template."""
    UNCLEAR = "unclear"
    """Unknown: a 403, or a 404 while the provider's template list is not available."""


NUMBER_NOT_FOUND = "number_not_found"
"""`Outcome.code` of a 404 to one send although the provider knows its application and template."""

TEMPLATE_NOT_FOUND = "template_not_found"
"""`Outcome.code` of a send with a template that the provider does not know. The pump appends its key."""

APPLICATION_NOT_FOUND = "application_not_found"
"""`Outcome.code` of a send with an application that the provider does not know."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one attempt.

    `code` is the provider's identifier, or our own in lower case if it sent none.
    """

    kind: OutcomeKind
    code: str
    http_status: int | None = None
    retryable: bool = False
    cause: RefusalCause | None = None
    """Set for a 401, 403 or 404 by the provider itself. Not set for a resend of an unknown code."""
    retry_after_s: float | None = None
    pin_id: str | None = None
    external_message_id: str | None = None
    """The id of this message in delivery reports. Set only if reports were requested."""
    pin_unknown: bool = False
    """The provider no longer knows the code to resend. Only a fresh code can help."""
    by_provider: bool = True
    """Whether the provider itself answered. False if a proxy or gateway may have answered in its place."""
    asked: bool = True
    """Whether the provider was called."""

    @property
    def is_misconfigured(self) -> bool:
        """Whether the answer shows that an operator must fix our configuration."""
        return self.cause is not None and self.cause is not RefusalCause.NUMBER


RETURNED = Outcome(kind=OutcomeKind.RETURNED, code="given_back", asked=False)
LEASE_RAN_OUT = Outcome(kind=OutcomeKind.UNKNOWN, code="lease_ran_out")


@dataclass(frozen=True, kw_only=True)
class SendingPolicy:
    """When to retry a send, and how often. Times are in seconds."""

    max_attempts: int
    unknown_resends: int
    backoff_base_s: float
    backoff_max_s: float


@dataclass(frozen=True, kw_only=True)
class SendProgress:
    """The progress of sending a request, the current attempt included."""

    tries: int
    unknowns: int
    """Earlier attempts with an unknown outcome."""
    send_by: datetime
    first: bool = True
    """Whether no code was sent yet. If one was, a failed attempt does not change the request's status."""


@dataclass(frozen=True, kw_only=True)
class SendDecision:
    """The new state of the request. `next_attempt_at` is set only while it is `queued`."""

    status: Status
    reason: Reason | None = None
    next_attempt_at: datetime | None = None
    kind: SendKind | None = None
    """What to send at the next attempt, if that changes."""


class OutcomeEvidence(StrEnum):
    """What the provider's logs show about an attempt with an unknown outcome."""

    LEFT = "left"
    """A message was sent to the number at that time."""
    NOT_SEEN = "not_seen"
    """No message is known."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """A message to send. `to` is digits only."""

    to: str = field(repr=False)
    channel: Channel
    application_id: str
    message_id: str
    sender: str | None
    pin_id: str | None = field(default=None, repr=False)
    """Set for a resend: the code to resend."""
    is_test: bool = False
    """Whether it is for a test number. Then no message is sent."""


class SmsProvider(Protocol):
    """A provider that sends codes.

    It returns provider and network failures as values and never raises for them.
    """

    def send(self, message: OutgoingMessage) -> Outcome:
        """Send a fresh code, or resend an earlier one."""

    def query_sent_since(self, *, to: str, application_id: str, since: datetime) -> OutcomeEvidence:
        """Return whether the provider knows of a code that it sent to `to` at or after `since`."""


def decide_next(
    outcome: Outcome, progress: SendProgress, *, policy: SendingPolicy, now: datetime, jitter: float
) -> SendDecision:
    """Return the next state of a queued request after `outcome`. A resend uses the same values.

    `jitter` is a random number from 0 up to 1. The backoff uses full jitter: a random share of a ceiling that
    doubles with each try, so that workers do not retry in step.
    """
    if outcome.kind is OutcomeKind.ACCEPTED:
        return SendDecision(status=Status.SENT)
    if outcome.kind is OutcomeKind.RETURNED:
        return _schedule_retry(now, progress.send_by)
    if outcome.kind is OutcomeKind.UNKNOWN:
        if progress.unknowns >= policy.unknown_resends:
            return SendDecision(status=Status.FAILED, reason=Reason.OUTCOME_UNKNOWN)
    elif outcome.pin_unknown:
        again = _schedule_retry(now, progress.send_by)
        return replace(again, kind=SendKind.FRESH) if again.next_attempt_at else again
    elif not outcome.retryable:
        return SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED)
    if outcome.is_misconfigured:
        return _schedule_retry(
            now + timedelta(seconds=policy.backoff_max_s * (1 + jitter) / 2), progress.send_by
        )
    if progress.tries >= policy.max_attempts:
        return SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED)
    return _schedule_retry(
        now + timedelta(seconds=_compute_delay_s(outcome, progress.tries, policy, jitter)), progress.send_by
    )


def _compute_delay_s(outcome: Outcome, tries: int, policy: SendingPolicy, jitter: float) -> float:
    if outcome.retry_after_s is not None:
        return outcome.retry_after_s
    return min(policy.backoff_max_s, policy.backoff_base_s * 2.0 ** (tries - 1)) * jitter


def _schedule_retry(at: datetime, send_by: datetime) -> SendDecision:
    if at >= send_by:
        return SendDecision(status=Status.EXPIRED, reason=Reason.SEND_DEADLINE)
    return SendDecision(status=Status.QUEUED, next_attempt_at=at)
