"""The outcome of one attempt to send, and what follows from it, as values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from otpqueue.domain.request import Channel, Reason, SendKind, Status


class OutcomeKind(StrEnum):
    """What became of an attempt."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"
    RETURNED = "returned"
    """Claimed but given back before anything was sent."""


class RefusalCause(StrEnum):
    """Whom a refusal concerns, where it is more than the message itself."""

    KEY = "key"
    """Every send: the API key is wrong."""
    APPLICATION = "application"
    """Every send: the provider does not know the 2FA application."""
    TEMPLATE = "template"
    """Every send with this message template, which the provider does not know."""
    NUMBER = "number"
    """This send alone: the provider knows both application and template."""
    UNCLEAR = "unclear"
    """Nobody knows: 403, or 404 while the provider does not say what it knows."""


NUMBER_NOT_FOUND = "number_not_found"
"""`Outcome.code` of a 404 to one send although the provider knows its application and template."""

TEMPLATE_NOT_FOUND = "template_not_found"
"""`Outcome.code` of a send with a template that the provider does not know; the pump appends its key."""

APPLICATION_NOT_FOUND = "application_not_found"
"""`Outcome.code` of a send with an application that the provider does not know."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one attempt. `code` is the provider's word, or ours in lower case where it said none."""

    kind: OutcomeKind
    code: str
    http_status: int | None = None
    retryable: bool = False
    cause: RefusalCause | None = None
    """Set for a refusal of 401, 403 or 404 by the provider itself, but for a resend of an unknown code."""
    retry_after_s: float | None = None
    pin_id: str | None = None
    external_message_id: str | None = None
    """What delivery reports call this message; only where reports were asked for."""
    pin_unknown: bool = False
    """A resend of a code that the provider does not know any more: only a fresh one can help."""
    by_provider: bool = True
    """Whether the provider itself said so; a proxy or gateway on the way may have refused in its place."""
    asked: bool = True
    """Whether the provider was asked: what was not put to it says nothing of it."""

    @property
    def misconfigured(self) -> bool:
        """Whether an operator must fix our configuration, as far as the answer says."""
        return self.cause is not None and self.cause is not RefusalCause.NUMBER


RETURNED = Outcome(kind=OutcomeKind.RETURNED, code="given_back", asked=False)
LEASE_RAN_OUT = Outcome(kind=OutcomeKind.UNKNOWN, code="lease_ran_out")


@dataclass(frozen=True, kw_only=True)
class SendingPolicy:
    """How stubbornly a code is sent. Times in seconds."""

    max_attempts: int
    unknown_resends: int
    backoff_base_s: float
    backoff_max_s: float


@dataclass(frozen=True, kw_only=True)
class SendProgress:
    """How far the sending of a request has come, the attempt in question included."""

    tries: int
    unknowns: int
    """Attempts before this one whose outcome is unknown."""
    send_by: datetime
    first: bool = True
    """Whether no code has left yet; if one has, what fails leaves the request's status as it is."""


@dataclass(frozen=True, kw_only=True)
class SendDecision:
    """What becomes of the request. `next_attempt_at` is set only while it stays `queued`."""

    status: Status
    reason: Reason | None = None
    next_attempt_at: datetime | None = None
    kind: SendKind | None = None
    """What to send then, where that changes."""


class OutcomeEvidence(StrEnum):
    """What the provider says later of an attempt whose outcome is unknown."""

    LEFT = "left"
    """Something went to the number at that time."""
    NOT_SEEN = "not_seen"
    """It knows of nothing."""
    NO_ANSWER = "no_answer"


@dataclass(frozen=True, kw_only=True)
class OutgoingMessage:
    """What is to be sent, to whom and how. `to` is digits only."""

    to: str = field(repr=False)
    channel: Channel
    application_id: str
    message_id: str
    sender: str | None
    pin_id: str | None = field(default=None, repr=False)
    """Set for a resend: the code to send once more."""
    is_test: bool = False
    """Whether it is for a test number: then nothing is sent."""


class SmsProvider(Protocol):
    """A provider that sends codes. It never raises for what a provider or a network can do."""

    def send(self, message: OutgoingMessage) -> Outcome:
        """Send a fresh code, or one that was sent before once more."""

    def sent_since(self, *, to: str, application_id: str, since: datetime) -> OutcomeEvidence:
        """Say whether the provider knows of a code that went to `to` at or after `since`."""


def decide(
    outcome: Outcome, progress: SendProgress, *, policy: SendingPolicy, now: datetime, jitter: float
) -> SendDecision:
    """Return what becomes of a request after `outcome`: of a queued one, and in the same words of a resend.

    `jitter` is a random number from 0 up to 1: the back-off is "full jitter", a random share of a ceiling
    that doubles with every try, so that workers do not come back in step.
    """
    if outcome.kind is OutcomeKind.ACCEPTED:
        return SendDecision(status=Status.SENT)
    if outcome.kind is OutcomeKind.RETURNED:
        return _again(now, progress.send_by)
    if outcome.kind is OutcomeKind.UNKNOWN:
        if progress.unknowns >= policy.unknown_resends:
            return SendDecision(status=Status.FAILED, reason=Reason.OUTCOME_UNKNOWN)
    elif outcome.pin_unknown:
        again = _again(now, progress.send_by)
        return replace(again, kind=SendKind.FRESH) if again.next_attempt_at else again
    elif not outcome.retryable:
        return SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED)
    if outcome.misconfigured:
        return _again(now + timedelta(seconds=policy.backoff_max_s * (1 + jitter) / 2), progress.send_by)
    if progress.tries >= policy.max_attempts:
        return SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED)
    return _again(
        now + timedelta(seconds=_delay_s(outcome, progress.tries, policy, jitter)), progress.send_by
    )


def _delay_s(outcome: Outcome, tries: int, policy: SendingPolicy, jitter: float) -> float:
    if outcome.retry_after_s is not None:
        return outcome.retry_after_s
    return min(policy.backoff_max_s, policy.backoff_base_s * 2.0 ** (tries - 1)) * jitter


def _again(at: datetime, send_by: datetime) -> SendDecision:
    if at >= send_by:
        return SendDecision(status=Status.EXPIRED, reason=Reason.SEND_DEADLINE)
    return SendDecision(status=Status.QUEUED, next_attempt_at=at)
