"""Everything that can be refused, as one tree; the first line of a docstring is the message.

OtpqueueError
├── InvalidRequest
│   └── InvalidPhoneNumber
├── NotAdmitted
│   ├── NumberNotAllowed
│   ├── LimitExceeded
│   ├── TooManyWrongCodes
│   ├── NumberLocked
│   ├── CountryNotAllowed
│   ├── SendingStopped
│   ├── DailyCapReached
│   └── DestinationPaused
├── Unauthenticated
├── MissingScope
├── RequestNotFound
├── AlertNotFound
├── IdempotencyRefused
│   ├── IdempotencyKeyReused
│   └── IdempotencyInProgress
├── ResendRefused
│   ├── ResendTooSoon
│   ├── ResendTooLate
│   ├── ResendInProgress
│   └── ResendsExhausted
├── CheckRefused
│   ├── CodeIncorrect
│   ├── NotSentYet
│   ├── CheckInProgress
│   ├── AlreadyVerified
│   ├── CodeExpired
│   ├── RequestLocked
│   ├── RequestCancelled
│   └── RequestFailed
└── Unavailable
    ├── ProviderUnavailable
    ├── DatabaseUnavailable
    │   └── DatabaseMisconfigured
    ├── LimitsUnavailable
    └── TooBusy
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one field of the caller's input."""

    field: str
    message: str


class OtpqueueError(Exception):
    """Something was refused."""

    code: ClassVar[str] = "error"

    def __init__(self, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.detail = detail or self.message()
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)

    @classmethod
    def message(cls) -> str:
        """Return what this kind of error says unless it is told more: its docstring's first line."""
        return (cls.__doc__ or "").strip().splitlines()[0]


class InvalidRequest(OtpqueueError):
    """The request's input is not valid; `errors` names each field and how to mend it."""

    code = "invalid_request"

    def __init__(self, errors: list[FieldError], detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail)


class InvalidPhoneNumber(InvalidRequest):
    """The phone number is not one that can exist; send it in E.164, e.g. +447911123456."""

    code = "invalid_phone_number"

    def __init__(self, why: str, *, field: str = "phone_number") -> None:
        super().__init__([FieldError(field, why)])


class NotAdmitted(OtpqueueError):
    """The input is right, but no code is sent: a rule forbids it. Such a refusal is stored, to be counted."""

    def __init__(self, reason: str, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.reason = reason
        """The rule's word in the table of refusals, stable, e.g. `premium_rate_number`."""
        super().__init__(detail, retry_after_s=retry_after_s)


class NumberNotAllowed(NotAdmitted):
    """The phone number is valid, but codes are not sent to it.

    The answer is the same whatever the reason: it must not tell that somebody asked to be left alone.
    """

    code = "number_not_allowed"

    def __init__(self, reason: str, detail: str | None = None, *, e164: str) -> None:
        self.e164 = e164
        super().__init__(reason, detail)


class LimitExceeded(NotAdmitted):
    """This has been asked for too often; try again after the seconds of `Retry-After`."""

    code = "limit_exceeded"

    def __init__(self, limit: str, detail: str, *, retry_after_s: int) -> None:
        self.limit = limit
        """The limit's name in the table of limits."""
        super().__init__(f"limit_{limit}", detail, retry_after_s=retry_after_s)


class TooManyWrongCodes(NotAdmitted):
    """There were too many wrong codes; codes in hand stay good, new ones are sent again later."""

    code = "too_many_wrong_codes"


class NumberLocked(NotAdmitted):
    """There were so many wrong codes in a row for this number that only an operator can let it in again."""

    code = "number_locked"


class CountryNotAllowed(NotAdmitted):
    """Codes are not sent to numbers of this country."""

    code = "country_not_allowed"

    def __init__(self) -> None:
        super().__init__("country_not_allowed")


class SendingStopped(NotAdmitted):
    """The operator has stopped sending for now; codes that were sent can still be verified."""

    code = "sending_stopped"

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("sending_stopped", retry_after_s=retry_after_s)


class DailyCapReached(NotAdmitted):
    """As many codes as may be sent in a day (UTC) have been sent."""

    code = "daily_cap_reached"


class DestinationPaused(NotAdmitted):
    """Codes to numbers like this one are paused for now; try again later, or prove the person another way."""

    code = "destination_paused"


class Unauthenticated(OtpqueueError):
    """The API key is missing, unknown, expired or revoked; send `Authorization: Bearer <api key>`."""

    code = "unauthenticated"


class MissingScope(OtpqueueError):
    """The API key lacks the scope that this call needs."""

    code = "missing_scope"


class RequestNotFound(OtpqueueError):
    """There is no OTP request with this id that belongs to this API key's client."""

    code = "request_not_found"


class AlertNotFound(OtpqueueError):
    """There is no alert with this id."""

    code = "alert_not_found"


class IdempotencyRefused(OtpqueueError):
    """The idempotency key does not go with this call."""


class IdempotencyKeyReused(IdempotencyRefused):
    """This Idempotency-Key came with another body before; a new wish needs a new key."""

    code = "idempotency_key_reused"


class IdempotencyInProgress(IdempotencyRefused):
    """The first call with this Idempotency-Key is still running; try again in a moment."""

    code = "idempotency_in_progress"


class ResendRefused(OtpqueueError):
    """The code cannot be sent again now."""


class ResendTooSoon(ResendRefused):
    """The code was sent a moment ago; wait until `resend_after`."""

    code = "resend_too_soon"


class ResendTooLate(ResendRefused):
    """The code expires too soon for a resend to be of use; make a new request."""

    code = "resend_too_late"


class ResendInProgress(ResendRefused):
    """The code is being sent already; poll the request."""

    code = "resend_in_progress"


class ResendsExhausted(ResendRefused):
    """The code has been sent as often as it may be; make a new request."""

    code = "resends_exhausted"


class CheckRefused(OtpqueueError):
    """The code was not accepted."""


class CodeIncorrect(CheckRefused):
    """The code is not the one that was sent."""

    code = "code_incorrect"

    def __init__(self, checks_left: int) -> None:
        self.checks_left = checks_left
        super().__init__()


class NotSentYet(CheckRefused):
    """No code has been sent yet; poll the request until its status is `sent`."""

    code = "not_sent_yet"


class CheckInProgress(CheckRefused):
    """Another check of this request is in progress; try again in a moment."""

    code = "check_in_progress"


class AlreadyVerified(CheckRefused):
    """The code has been accepted before; a code is accepted once."""

    code = "already_verified"


class CodeExpired(CheckRefused):
    """The request has expired; make a new one."""

    code = "expired"


class RequestLocked(CheckRefused):
    """Too many wrong codes; make a new request."""

    code = "locked"


class RequestCancelled(CheckRefused):
    """The request was cancelled or replaced by a newer one."""

    code = "cancelled"


class RequestFailed(CheckRefused):
    """The code could not be sent; make a new request."""

    code = "failed"


class Unavailable(OtpqueueError):
    """The service cannot do this at the moment."""


class ProviderUnavailable(Unavailable):
    """The SMS provider could not judge the code; try again."""

    code = "provider_unavailable"


class DatabaseUnavailable(Unavailable):
    """The database cannot be reached; try again."""

    code = "database_unavailable"


class DatabaseMisconfigured(DatabaseUnavailable):
    """The database cannot be used as it is set up; an operator must change it.

    `problem` says what to change. It is for the operator: `detail`, which callers see, does not.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(retry_after_s=60)

    def __str__(self) -> str:
        return self.problem


class LimitsUnavailable(Unavailable):
    """What was asked for before cannot be counted, so no code is sent now; try again."""

    code = "limits_unavailable"


class TooBusy(Unavailable):
    """Too many calls are in progress; try again."""

    code = "too_busy"
