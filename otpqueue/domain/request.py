"""The life cycle of an OTP request: states, transitions, deadlines and remaining checks.

A row has two states: `status`, which the caller sees, and `send_state`, which the workers use.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """The status that the caller sees."""

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
    """The state that the workers use."""

    IDLE = "idle"
    DUE = "due"
    CLAIMED = "claimed"


class SendKind(StrEnum):
    """What a worker sends for a due request."""

    FRESH = "fresh"
    """A new code."""
    RESEND = "resend"
    """The current code again."""


class Channel(StrEnum):
    """How a code is sent."""

    SMS = "sms"
    VOICE = "voice"


class Resend(StrEnum):
    """The state of the newest resend."""

    PENDING = "pending"
    SENT = "sent"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a request ended."""

    REPLACED = "replaced"
    """A newer request for the same client, number and session replaced it."""
    CODE_CORRECT = "code_correct"
    CANCELLED_BY_CLIENT = "cancelled_by_client"
    CANCELLED_BY_OPERATOR = "cancelled_by_operator"
    ERASED = "erased"
    """An operator erased all data of the number."""
    SEND_DEADLINE = "send_deadline"
    """No code was sent before `send_by`."""
    CODE_LIFETIME = "code_lifetime"
    """No correct code was entered before `expires_at`."""
    PROVIDER_EXPIRED = "provider_expired"
    """The provider reports that the code has expired, or does not know it."""
    PROVIDER_REFUSED = "provider_refused"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    OUTCOME_UNKNOWN = "outcome_unknown"
    """It is unknown whether the code was sent, and the policy forbids another send."""
    CHECKS_EXHAUSTED = "checks_exhausted"
    PROVIDER_LOCKED = "provider_locked"
    """The provider accepts no more checks of this code."""
    DAILY_CAP = "daily_cap"
    """A daily cap was reached before a worker claimed the request."""
    SENDING_STOPPED = "sending_stopped"
    """An operator had stopped sending until after `send_by`."""
    NUMBER_NOT_ALLOWED = "number_not_allowed"
    """An operator put the number on the do-not-send list after the request was accepted."""


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
    # Reports can be wrong: a code that was reported undelivered may be entered, or reported delivered later.
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
"""How many times one request may be sent, the first send included."""

_FIRST_COOL_DOWN_S = 30.0


def get_cool_down_s(sends: int) -> float:
    """Return the seconds between the `sends`-th send and the earliest next resend: 30, 60, 120, ..."""
    return _FIRST_COOL_DOWN_S * 2.0 ** (sends - 1)


RESEND_HEADROOM = timedelta(seconds=20)
"""A code that expires within this time is not resent: it could not arrive and be entered in time."""


def find_sources(target: Status) -> frozenset[Status]:
    """Return the statuses from which a request may move to `target`."""
    return frozenset(status for status, targets in MOVES.items() if target in targets)


CHECKABLE = find_sources(Status.VERIFIED)


SENDING = "sending"
"""The shown status of a queued request while a worker has claimed it."""

SHOWN = frozenset({SENDING, *(status.value for status in Status)})


def get_shown_status(status: Status, send_state: SendState) -> str:
    """Return the status for the caller: `sending` while a worker has claimed a queued request."""
    if status is Status.QUEUED and send_state is SendState.CLAIMED:
        return SENDING
    return status.value


@dataclass(frozen=True, slots=True, kw_only=True)
class OtpRequest:
    """A snapshot of one request."""

    id: UUID
    client_id: UUID
    phone_number: str | None
    """Masked. None if the key that decrypts it is no longer configured."""
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
    """How many sends were requested, the first one included."""
    resend: Resend | None
    resend_channel: Channel | None
    resend_reason: str | None
    """Why the newest resend failed: a `Reason`, or the provider's code."""
    resend_after: datetime | None
    """When the next resend may be requested. None before the first send."""
    updated_at: datetime
    is_test: bool = False
    """Whether it is for a test number, to which no message is sent."""
    trace_context: str | None = None
    """The trace context of its newest accepted call. Callers do not see it."""

    @property
    def shown_status(self) -> str:
        """The status for the caller."""
        return get_shown_status(self.status, self.send_state)

    @property
    def is_final(self) -> bool:
        """Whether the status can no longer change."""
        return self.status in FINAL

    @property
    def checks_left(self) -> int:
        """How many more codes may be checked."""
        return 0 if self.is_final else self.checks_allowed - self.checks_used
