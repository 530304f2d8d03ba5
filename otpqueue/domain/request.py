"""The life of an OTP request: its states, the moves between them, its deadlines and the checks left.

Two small machines live on one row: `status`, what the caller sees, and `send_state`, what the workers see.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """What the caller sees."""

    QUEUED = "queued"
    SENT = "sent"
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    VERIFIED = "verified"
    FAILED = "failed"
    EXPIRED = "expired"
    LOCKED = "locked"
    CANCELLED = "cancelled"


class SendState(StrEnum):
    """What the workers see."""

    IDLE = "idle"
    DUE = "due"
    CLAIMED = "claimed"


class SendKind(StrEnum):
    """What is sent when a request is due."""

    FRESH = "fresh"
    """A new code."""
    RESEND = "resend"
    """The code in hand, once more."""


class Channel(StrEnum):
    """How a code travels."""

    SMS = "sms"
    VOICE = "voice"


class Resend(StrEnum):
    """How the newest resend stands."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a request ended."""

    REPLACED = "replaced"
    """A newer request for the same client, number and session took its place."""
    CODE_CORRECT = "code_correct"
    CANCELLED_BY_CLIENT = "cancelled_by_client"
    ERASED = "erased"
    """All that concerned the number was erased."""
    SEND_DEADLINE = "send_deadline"
    """The code could not leave before `send_by`."""
    CODE_LIFETIME = "code_lifetime"
    """Nobody typed the code before `expires_at`."""
    PROVIDER_EXPIRED = "provider_expired"
    """The provider says that the code has expired, or does not know it."""
    PROVIDER_REFUSED = "provider_refused"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """The code may or may not have left, and the policy forbids to send it again."""
    CHECKS_EXHAUSTED = "checks_exhausted"
    PROVIDER_LOCKED = "provider_locked"
    """The provider takes no more checks of this code."""
    DAILY_CAP = "daily_cap"
    """When its turn came, as many codes as may be sent in a day had been sent."""
    SENDING_STOPPED = "sending_stopped"
    """The operator had stopped sending, and `send_by` passed meanwhile."""
    NUMBER_NOT_ALLOWED = "number_not_allowed"
    """The number was put on the do-not-send list after the request was accepted."""


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.SENT, Status.FAILED, Status.EXPIRED, Status.CANCELLED}),
    Status.SENT: frozenset(
        {
            Status.DELIVERED,
            Status.UNDELIVERED,
            Status.VERIFIED,
            Status.LOCKED,
            Status.EXPIRED,
            Status.CANCELLED,
        }
    ),
    Status.DELIVERED: frozenset({Status.VERIFIED, Status.LOCKED, Status.EXPIRED, Status.CANCELLED}),
    # A receipt can lie: a code that "did not arrive" may be typed in, or reported as delivered later.
    Status.UNDELIVERED: frozenset(
        {Status.DELIVERED, Status.VERIFIED, Status.LOCKED, Status.EXPIRED, Status.CANCELLED}
    ),
    Status.VERIFIED: frozenset(),
    Status.FAILED: frozenset(),
    Status.EXPIRED: frozenset(),
    Status.LOCKED: frozenset(),
    Status.CANCELLED: frozenset(),
}
FINAL = frozenset(status for status, targets in MOVES.items() if not targets)
LIVE = frozenset(MOVES) - FINAL


MAX_SENDS = 5
"""Sends of one request in all, the first included."""

_FIRST_COOL_DOWN_S = 30.0


def cool_down_s(sends: int) -> float:
    """Return how many seconds after the `sends`-th send the next may be asked for: 30, 60, 120, ..."""
    return _FIRST_COOL_DOWN_S * 2.0 ** (sends - 1)


RESEND_HEADROOM = timedelta(seconds=20)
"""A code that expires sooner is not sent again: it could not arrive and be typed in time."""


def sources(target: Status) -> frozenset[Status]:
    """Return the statuses from which a request may move to `target`."""
    return frozenset(status for status, targets in MOVES.items() if target in targets)


CHECKABLE = sources(Status.VERIFIED)


SENDING = "sending"
"""What the caller sees while a worker holds a request that is still queued."""

SHOWN = frozenset({SENDING, *(status.value for status in Status)})


def shown_status(status: Status, send_state: SendState) -> str:
    """Return the status for the caller: `sending` while a worker holds a request that is still queued."""
    if status is Status.QUEUED and send_state is SendState.CLAIMED:
        return SENDING
    return status.value


@dataclass(frozen=True, kw_only=True)
class OtpRequest:
    """One request as it stood when it was read."""

    id: UUID
    client_id: UUID
    phone_number: str | None
    """Masked; None where the key that opens it was taken away."""
    channel: Channel
    status: Status
    send_state: SendState
    reason: Reason | None
    provider_code: str | None
    client_reference: str | None
    created_at: datetime
    send_by: datetime
    sent_at: datetime | None
    expires_at: datetime | None
    verified_at: datetime | None
    checks_allowed: int
    checks_used: int
    check_in_flight: bool
    sends: int
    """How often a code was asked to be sent, the first time included."""
    resend: Resend | None
    resend_channel: Channel | None
    resend_reason: str | None
    """Why the newest resend failed: one of ours, or the provider's word."""
    resend_after: datetime | None
    """When the next resend may be asked for; None before the first send has left."""
    updated_at: datetime
    is_test: bool = False
    """Whether it is for a test number, to which nothing is sent."""
    trace_context: str | None = None
    """Where the trace of its newest accepted call goes on; for no caller."""

    @property
    def shown_status(self) -> str:
        """The status for the caller."""
        return shown_status(self.status, self.send_state)

    @property
    def is_final(self) -> bool:
        """Whether nothing can change any more."""
        return self.status in FINAL

    @property
    def checks_left(self) -> int:
        """How many more codes may be tried."""
        return 0 if self.is_final else self.checks_allowed - self.checks_used
