"""Every error that a caller can get, as one tree.

The first line of a docstring is the default `detail` of the problem. One module because the tree is read as a
whole, and each class is little more than its code, status and text.

OtpqueueError
├── InvalidRequest
│   ├── InvalidPhoneNumber
│   └── ReturnUrlNotRegistered
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
├── VerificationTokenInvalid
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
    """What is wrong with one field of the input."""

    field: str
    message: str
    missing: bool = False
    """Whether it names an object that does not exist."""


class OtpqueueError(Exception):
    """The call was rejected."""

    code: ClassVar[str] = "error"
    """Stable name of the problem, for programs. Errors that leave the service each have one of their own."""
    status: ClassVar[int] = 500
    """HTTP status."""
    title: ClassVar[str] = "Error"

    def __init__(self, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.detail = detail or self.message()
        self.retry_after_s = retry_after_s
        super().__init__(self.detail)

    def members(self) -> dict[str, object]:
        """Return what the problem details have beside the members of RFC 9457."""
        return {}

    @classmethod
    def message(cls) -> str:
        """Return the default detail: the first line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]


class InvalidRequest(OtpqueueError):
    """The input is not valid. `errors` names each field and how to fix it."""

    code = "invalid_request"
    status = 400
    title = "Invalid request"

    def __init__(self, errors: list[FieldError], detail: str | None = None) -> None:
        self.errors = errors
        super().__init__(detail)

    def members(self) -> dict[str, object]:
        """Return each field that is wrong."""
        return {"errors": [{"field": one.field, "message": one.message} for one in self.errors]}


class InvalidPhoneNumber(InvalidRequest):
    """The phone number is not valid. Send it in E.164, for example +447911123456."""

    code = "invalid_phone_number"
    status = 400
    title = "Invalid phone number"

    def __init__(self, why: str, *, field: str = "phone_number") -> None:
        super().__init__([FieldError(field, why)])


class ReturnUrlNotRegistered(InvalidRequest):
    """The `return_url` is not registered for this client. An operator sets `page.return_urls`."""

    code = "return_url_not_registered"
    status = 400
    title = "Return URL not registered"

    def __init__(self) -> None:
        super().__init__(
            [FieldError("return_url", "is not covered by the client's setting `page.return_urls`")]
        )


class NotAdmitted(OtpqueueError):
    """The input is valid, but an admission rule rejects it. The refusal is stored and counted."""

    def __init__(self, reason: str, detail: str | None = None, *, retry_after_s: int | None = None) -> None:
        self.reason = reason
        """Stable name of the rule in the table of refusals, for example `premium_rate_number`."""
        super().__init__(detail, retry_after_s=retry_after_s)


class NumberNotAllowed(NotAdmitted):
    """The phone number is valid, but codes are not sent to it.

    The answer does not depend on the reason: it must not reveal that a number is on the do-not-send list.
    """

    code = "number_not_allowed"
    status = 422
    title = "Number not allowed"

    def __init__(self, reason: str, detail: str | None = None, *, e164: str) -> None:
        self.e164 = e164
        super().__init__(reason, detail)


class LimitExceeded(NotAdmitted):
    """Too many requests. Retry after the number of seconds in `Retry-After`."""

    code = "limit_exceeded"
    status = 429
    title = "Limit exceeded"

    def __init__(self, limit: str, detail: str, *, retry_after_s: int) -> None:
        self.limit = limit
        """Name of the limit, as in docs/limits.md."""
        super().__init__(f"limit_{limit}", detail, retry_after_s=retry_after_s)

    def members(self) -> dict[str, object]:
        """Return the limit's name."""
        return {"limit": self.limit}


class TooManyWrongCodes(NotAdmitted):
    """Too many wrong codes. Codes already sent remain valid; retry a new request later."""

    code = "too_many_wrong_codes"
    status = 429
    title = "Too many wrong codes"


class NumberLocked(NotAdmitted):
    """Too many consecutive wrong codes. An operator must unlock this number."""

    code = "number_locked"
    status = 403
    title = "Number locked"


class CountryNotAllowed(NotAdmitted):
    """Codes are not sent to numbers of this country."""

    code = "country_not_allowed"
    status = 422
    title = "Country not allowed"

    def __init__(self) -> None:
        super().__init__("country_not_allowed")


class SendingStopped(NotAdmitted):
    """An operator has stopped sending. Codes already sent can still be verified."""

    code = "sending_stopped"
    status = 503
    title = "Sending stopped"

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("sending_stopped", retry_after_s=retry_after_s)


class DailyCapReached(NotAdmitted):
    """Daily sending cap reached. Sending resumes at 00:00 UTC."""

    code = "daily_cap_reached"
    status = 503
    title = "Daily cap reached"


class DestinationPaused(NotAdmitted):
    """Sending to this range of numbers is paused. Retry later, or verify the person another way."""

    code = "destination_paused"
    status = 429
    title = "Destination paused"


class Unauthenticated(OtpqueueError):
    """The API key is missing, unknown, expired or revoked. Send `Authorization: Bearer <api key>`."""

    code = "unauthenticated"
    status = 401
    title = "Not authenticated"


class MissingScope(OtpqueueError):
    """The API key does not have the scope that this call needs."""

    code = "missing_scope"
    status = 403
    title = "Missing scope"


class RequestNotFound(OtpqueueError):
    """No OTP request of this client has this id."""

    code = "request_not_found"
    status = 404
    title = "OTP request not found"


class AlertNotFound(OtpqueueError):
    """No alert has this id."""

    code = "alert_not_found"
    status = 404
    title = "Alert not found"


class VerificationTokenInvalid(OtpqueueError):
    """The token is unknown, expired, already redeemed, or of another client. Create a new page."""

    code = "verification_token_invalid"
    status = 404
    title = "Verification token invalid"


class IdempotencyRefused(OtpqueueError):
    """The call cannot use this Idempotency-Key."""


class IdempotencyKeyReused(IdempotencyRefused):
    """This Idempotency-Key was already used with a different request body. Use a new key."""

    code = "idempotency_key_reused"
    status = 422
    title = "Idempotency key reused"


class IdempotencyInProgress(IdempotencyRefused):
    """The first call with this Idempotency-Key is still in progress. Retry in a moment."""

    code = "idempotency_in_progress"
    status = 409
    title = "Idempotency in progress"


class ResendRefused(OtpqueueError):
    """The code cannot be resent."""


class ResendTooSoon(ResendRefused):
    """The code was sent recently. Wait until `resend_after`."""

    code = "resend_too_soon"
    status = 429
    title = "Resend too soon"


class ResendTooLate(ResendRefused):
    """The code expires too soon to resend it. Make a new request."""

    code = "resend_too_late"
    status = 409
    title = "Resend too late"


class ResendInProgress(ResendRefused):
    """The code is already being sent. Poll the request."""

    code = "resend_in_progress"
    status = 409
    title = "Resend in progress"


class ResendsExhausted(ResendRefused):
    """No resends are left. Make a new request."""

    code = "resends_exhausted"
    status = 409
    title = "No resends left"


class CheckRefused(OtpqueueError):
    """The code was not accepted."""


class CodeIncorrect(CheckRefused):
    """The code is wrong."""

    code = "code_incorrect"
    status = 422
    title = "Code incorrect"

    def __init__(self, checks_left: int) -> None:
        self.checks_left = checks_left
        super().__init__()

    def members(self) -> dict[str, object]:
        """Return how many checks are left."""
        return {"checks_left": self.checks_left}


class NotSentYet(CheckRefused):
    """No code has been sent yet. Poll the request until its status is `sent`."""

    code = "not_sent_yet"
    status = 409
    title = "Not sent yet"


class CheckInProgress(CheckRefused):
    """Another check of this request is in progress. Retry in a moment."""

    code = "check_in_progress"
    status = 409
    title = "Check in progress"


class AlreadyVerified(CheckRefused):
    """The code was already verified. A code can be verified once."""

    code = "already_verified"
    status = 409
    title = "Already verified"


class CodeExpired(CheckRefused):
    """The request has expired. Make a new request."""

    code = "expired"
    status = 410
    title = "Expired"


class RequestLocked(CheckRefused):
    """Too many wrong codes. Make a new request."""

    code = "locked"
    status = 410
    title = "Locked"


class RequestCancelled(CheckRefused):
    """The request was cancelled or replaced by a newer one."""

    code = "cancelled"
    status = 410
    title = "Cancelled"


class RequestFailed(CheckRefused):
    """The code could not be sent. Make a new request."""

    code = "failed"
    status = 410
    title = "Failed"


class Unavailable(OtpqueueError):
    """The service is temporarily unavailable."""


class ProviderUnavailable(Unavailable):
    """The SMS provider could not check the code. Retry."""

    code = "provider_unavailable"
    status = 503
    title = "Provider unavailable"


class DatabaseUnavailable(Unavailable):
    """The database is unavailable. Retry."""

    code = "database_unavailable"
    status = 503
    title = "Database unavailable"


class DatabaseMisconfigured(DatabaseUnavailable):
    """The database is misconfigured. An operator must fix it.

    `problem` says what to change, for the operator. Callers see `detail`, which does not.
    """

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(retry_after_s=60)

    def __str__(self) -> str:
        return self.problem


class LimitsUnavailable(Unavailable):
    """Rate limits cannot be checked, so no code is sent. Retry."""

    code = "limits_unavailable"
    status = 503
    title = "Limits unavailable"


class TooBusy(Unavailable):
    """Too many calls are in progress. Retry."""

    code = "too_busy"
    status = 503
    title = "Too busy"
