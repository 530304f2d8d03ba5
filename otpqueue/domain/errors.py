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
from enum import StrEnum
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
    cause: ClassVar[str]
    """What leads to the problem, for the page of problem codes. Text in backticks is code."""
    remedy: ClassVar[str]
    """What the caller does about it, and the operator if the caller cannot."""

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
    cause = (
        "A field of the body, a query parameter or a header has a value that the call does not accept, or "
        "is not known to it. `errors` names each one."
    )
    remedy = "Correct the fields in `errors`. A retry without a change fails again."

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
    cause = "The number is not possible in its country, has no `+` and no `country`, or has an extension."
    remedy = (
        "Ask the person to check the number. Send it in E.164, or send the national number and `country`."
    )

    def __init__(self, why: str, *, field: str = "phone_number") -> None:
        super().__init__([FieldError(field, why)])


class ReturnUrlNotRegistered(InvalidRequest):
    """The `return_url` is not registered for this client. An operator sets `page.return_urls`."""

    code = "return_url_not_registered"
    status = 400
    title = "Return URL not registered"
    cause = "No entry of the client's setting `page.return_urls` has this scheme, host, port and path."
    remedy = (
        "The operator registers the URL: `otpqueue clients set CLIENT page.return_urls=URL`. A path that "
        "ends with `/` covers all paths below it."
    )

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
    cause = (
        "The number is premium-rate, shared-cost, toll-free or another kind that gets no codes, or an "
        "operator blocked it. The answer is the same in all cases."
    )
    remedy = (
        "Offer another number or another way to verify. An operator can look up the reason with `otpqueue "
        "numbers status`."
    )

    def __init__(self, reason: str, detail: str | None = None, *, e164: str) -> None:
        self.e164 = e164
        super().__init__(reason, detail)


class LimitExceeded(NotAdmitted):
    """Too many requests. Retry after the number of seconds in `Retry-After`."""

    code = "limit_exceeded"
    status = 429
    title = "Limit exceeded"
    cause = (
        "A limit on requests was reached: of the number, the `client_ip`, the API key or the client. "
        "`limit` names it."
    )
    remedy = (
        "Wait for the number of seconds in `Retry-After`. If a normal load reaches `limit`, ask the "
        "operator to raise it."
    )

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
    cause = (
        "Too many wrong codes were entered for this number or from this `client_ip` in the last hour, or a "
        "large share of the client's codes is wrong."
    )
    remedy = "Let the person enter the code that they already have. Make a new request after `Retry-After`."


class NumberLocked(NotAdmitted):
    """Too many consecutive wrong codes. An operator must unlock this number."""

    code = "number_locked"
    status = 403
    title = "Number locked"
    cause = "The last 100 codes that were entered for this number were wrong."
    remedy = "Retries fail until an operator runs `otpqueue numbers unlock`. Verify the person another way."


class CountryNotAllowed(NotAdmitted):
    """Codes are not sent to numbers of this country."""

    code = "country_not_allowed"
    status = 422
    title = "Country not allowed"
    cause = "The operator's lists of countries exclude the country of the number."
    remedy = (
        "Offer another number or another way to verify. The operator sets `OTPQUEUE_COUNTRIES_ALLOWED` and "
        "`OTPQUEUE_COUNTRIES_BLOCKED`."
    )

    def __init__(self) -> None:
        super().__init__("country_not_allowed")


class SendingStopped(NotAdmitted):
    """An operator has stopped sending. Codes already sent can still be verified."""

    code = "sending_stopped"
    status = 503
    title = "Sending stopped"
    cause = "An operator ran `otpqueue stop-sending` for all requests, for this client or for this country."
    remedy = "Retry after `Retry-After`. The operator runs `otpqueue resume-sending`."

    def __init__(self, *, retry_after_s: int) -> None:
        super().__init__("sending_stopped", retry_after_s=retry_after_s)


class DailyCapReached(NotAdmitted):
    """Daily sending cap reached. Sending resumes at 00:00 UTC."""

    code = "daily_cap_reached"
    status = 503
    title = "Daily cap reached"
    cause = "The service, this client or this country has used its daily cap of codes."
    remedy = "Retry after `Retry-After`. The operator can raise the cap (`OTPQUEUE_DAILY_CAP`)."


class DestinationPaused(NotAdmitted):
    """Sending to this range of numbers is paused. Retry later, or verify the person another way."""

    code = "destination_paused"
    status = 429
    title = "Destination paused"
    cause = "The pumping guard found too many unverified codes in this range of numbers."
    remedy = (
        "Retry after `Retry-After`, or verify the person another way. An operator can allow the range with "
        "`otpqueue guard allow`."
    )


class CredentialFault(StrEnum):
    """Why the credentials of a call are not accepted: the member `reason` of `unauthenticated`.

    Only a caller with the whole key learns that it has expired or was revoked: its hash must be stored.
    """

    NO_CREDENTIALS = "no_credentials"
    WRONG_SCHEME = "wrong_scheme"
    MALFORMED_KEY = "malformed_key"
    UNKNOWN_KEY = "unknown_key"
    EXPIRED_KEY = "expired_key"
    REVOKED_KEY = "revoked_key"
    WRONG_TOKEN = "wrong_token"  # noqa: S105 - a word
    WRONG_PASSWORD = "wrong_password"  # noqa: S105 - a word
    NOT_CONFIGURED = "not_configured"


FAULT_DETAILS = {
    CredentialFault.NO_CREDENTIALS: "The call has no Authorization header. "
    "Send `Authorization: Bearer <api key>`.",
    CredentialFault.WRONG_SCHEME: "The Authorization header does not begin with `Bearer `. "
    "Send `Authorization: Bearer <api key>`.",
    CredentialFault.MALFORMED_KEY: "The text after `Bearer` is not an API key. Send the whole key, "
    "without quotation marks, spaces or line breaks.",
    CredentialFault.UNKNOWN_KEY: "No API key of this service is equal to this one. Check that the key is "
    "complete and belongs to this deployment.",
    CredentialFault.EXPIRED_KEY: "This API key has expired. Use its successor, or ask the operator for a "
    "new key.",
    CredentialFault.REVOKED_KEY: "This API key was revoked. Ask the operator for a new key.",
    CredentialFault.WRONG_TOKEN: "This is not the token of OTPQUEUE_METRICS_TOKEN. "
    "Send `Authorization: Bearer <token>`.",
    CredentialFault.WRONG_PASSWORD: "The user or password for delivery reports is wrong.",
    CredentialFault.NOT_CONFIGURED: "Delivery reports are not accepted: OTPQUEUE_RECEIPTS_USER is not set.",
}
"""The `detail` of each fault."""


class Unauthenticated(OtpqueueError):
    """The credentials are missing or not accepted. Send `Authorization: Bearer <api key>`."""

    code = "unauthenticated"
    status = 401
    title = "Not authenticated"
    cause = "The call has no credentials, or credentials that are not accepted. `reason` names which."
    remedy = "Do what `detail` says. Retries with the same credentials fail."

    def __init__(self, reason: CredentialFault, detail: str | None = None) -> None:
        self.reason = reason
        super().__init__(detail or FAULT_DETAILS[reason])

    def members(self) -> dict[str, object]:
        """Return which cause applies."""
        return {"reason": self.reason.value}


class MissingScope(OtpqueueError):
    """The API key does not have the scope that this call needs."""

    code = "missing_scope"
    status = 403
    title = "Missing scope"
    cause = "The API key is valid, but this call needs another scope. `detail` names it."
    remedy = "Use a key with this scope. The operator creates one with `otpqueue keys create --scope`."


class RequestNotFound(OtpqueueError):
    """No OTP request of this client has this id."""

    code = "request_not_found"
    status = 404
    title = "OTP request not found"
    cause = "The id is wrong, the request belongs to another client, or its retention has ended."
    remedy = (
        "Use the `id` of the 202 response with an API key of the same client. If the request is gone, make "
        "a new one."
    )


class AlertNotFound(OtpqueueError):
    """No alert has this id."""

    code = "alert_not_found"
    status = 404
    title = "Alert not found"
    cause = "The id is wrong, or the retention of the alert has ended."
    remedy = "Use an `id` from `GET /v1/alerts`."


class VerificationTokenInvalid(OtpqueueError):
    """The token is unknown, expired, already redeemed, or of another client. Create a new page."""

    code = "verification_token_invalid"
    status = 404
    title = "Verification token invalid"
    cause = (
        "The token is not complete, is older than five minutes, was redeemed before, or is of a page of "
        "another client. The answer is the same in all cases."
    )
    remedy = (
        "Do not accept the person. Create a new page, and redeem its token once, with a key of the same "
        "client."
    )


class IdempotencyRefused(OtpqueueError):
    """The call cannot use this Idempotency-Key."""


class IdempotencyKeyReused(IdempotencyRefused):
    """This Idempotency-Key was already used with a different request body. Use a new key."""

    code = "idempotency_key_reused"
    status = 422
    title = "Idempotency key reused"
    cause = "An earlier call of this client used the same `Idempotency-Key` with other fields."
    remedy = "Create a new key for each new call. Repeat a call with exactly the same body."


class IdempotencyInProgress(IdempotencyRefused):
    """The first call with this Idempotency-Key is still in progress. Retry in a moment."""

    code = "idempotency_in_progress"
    status = 409
    title = "Idempotency in progress"
    cause = "The first call with this `Idempotency-Key` has not been answered yet."
    remedy = "Repeat the call after `Retry-After`. It gets the answer of the first call."


class ResendRefused(OtpqueueError):
    """The code cannot be resent."""


class ResendTooSoon(ResendRefused):
    """The code was sent recently. Wait until `resend_after`."""

    code = "resend_too_soon"
    status = 429
    title = "Resend too soon"
    cause = "The pause after the last send has not passed: 30 seconds, then 60, 120 and 240."
    remedy = "Show a countdown to `resend_after`. Retry after `Retry-After`."


class ResendTooLate(ResendRefused):
    """The code expires too soon to resend it. Make a new request."""

    code = "resend_too_late"
    status = 409
    title = "Resend too late"
    cause = "The code expires in less than 20 seconds, so a resent code could not be used."
    remedy = "Make a new request."


class ResendInProgress(ResendRefused):
    """The code is already being sent. Poll the request."""

    code = "resend_in_progress"
    status = 409
    title = "Resend in progress"
    cause = "A worker is still sending the code of an earlier call."
    remedy = "Poll the request. Resend when the pause has passed."


class ResendsExhausted(ResendRefused):
    """No resends are left. Make a new request."""

    code = "resends_exhausted"
    status = 409
    title = "No resends left"
    cause = "The code was sent five times, which is the maximum."
    remedy = "Make a new request, or verify the person another way."


class CheckRefused(OtpqueueError):
    """The code was not accepted."""


class CodeIncorrect(CheckRefused):
    """The code is wrong."""

    code = "code_incorrect"
    status = 422
    title = "Code incorrect"
    cause = (
        "The code is not the one that was sent, or `session_id` or `phone_number` is not that of the "
        "request. Both are answered alike."
    )
    remedy = (
        "Let the person correct the code while `checks_left` is above 0. Send the same `session_id` as with "
        "the request."
    )

    def __init__(self, checks_left: int, detail: str | None = None) -> None:
        self.checks_left = checks_left
        super().__init__(detail)

    def members(self) -> dict[str, object]:
        """Return how many checks are left."""
        return {"checks_left": self.checks_left}


class NotSentYet(CheckRefused):
    """No code has been sent yet. Poll the request until its status is `sent`."""

    code = "not_sent_yet"
    status = 409
    title = "Not sent yet"
    cause = "No code of this request has been sent, so no code can be correct."
    remedy = "Poll the request until it is `sent`, then check the code."


class CheckInProgress(CheckRefused):
    """Another check of this request is in progress. Retry in a moment."""

    code = "check_in_progress"
    status = 409
    title = "Check in progress"
    cause = "Another call checks a code of the same request at this moment."
    remedy = "Retry after `Retry-After`. Disable the button of your form while a check is in progress."


class AlreadyVerified(CheckRefused):
    """The code was already verified. A code can be verified once."""

    code = "already_verified"
    status = 409
    title = "Already verified"
    cause = "A correct code of this request was accepted before."
    remedy = (
        "Do not accept the person again. If an answer was lost, repeat the call with the same "
        "`Idempotency-Key`."
    )


class CodeExpired(CheckRefused):
    """The request has expired. Make a new request."""

    code = "expired"
    status = 410
    title = "Expired"
    cause = "The code was not sent within 90 seconds, or not entered within 5 minutes."
    remedy = "Make a new request."


class RequestLocked(CheckRefused):
    """Too many wrong codes. Make a new request."""

    code = "locked"
    status = 410
    title = "Locked"
    cause = "All checks of this request were used for wrong codes."
    remedy = "Make a new request."


class RequestCancelled(CheckRefused):
    """The request was cancelled or replaced by a newer one."""

    code = "cancelled"
    status = 410
    title = "Cancelled"
    cause = (
        "Your application cancelled the request, or a newer request of the same number and session replaced "
        "it."
    )
    remedy = "Check the code of the newest request, or make a new one."


class RequestFailed(CheckRefused):
    """The code could not be sent. Make a new request."""

    code = "failed"
    status = 410
    title = "Failed"
    cause = (
        "Infobip rejected the message, or all attempts to send failed. `reason` and `provider_code` of the "
        "request name the cause."
    )
    remedy = "Make a new request, with another number or channel if `provider_code` names the number."


class Unavailable(OtpqueueError):
    """The service is temporarily unavailable."""


class ProviderUnavailable(Unavailable):
    """The SMS provider could not check the code. Retry."""

    code = "provider_unavailable"
    status = 503
    title = "Provider unavailable"
    cause = "Infobip did not answer, or answered with an error. The check may be counted."
    remedy = "Retry after `Retry-After` with the same code."


class DatabaseUnavailable(Unavailable):
    """The database is unavailable. Retry."""

    code = "database_unavailable"
    status = 503
    title = "Database unavailable"
    cause = (
        "PostgreSQL does not answer, or has no free connection. Nothing was accepted unless an earlier "
        "answer confirmed it."
    )
    remedy = "Retry after `Retry-After` with the same `Idempotency-Key`. The operator checks `/health`."


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
    cause = "Redis does not answer. Codes can still be checked."
    remedy = "Retry after `Retry-After`. The operator checks `/health`."


class TooBusy(Unavailable):
    """Too many calls are in progress. Retry."""

    code = "too_busy"
    status = 503
    title = "Too busy"
    cause = "All threads of this server are in use."
    remedy = "Retry after `Retry-After`, with a growing pause."
