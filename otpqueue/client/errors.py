"""Every error of the client library, as one tree. Each problem `code` of the API has a class.

OtpqueueClientError
├── NoResponseError
├── InvalidResponseError
├── WaitTimeoutError
├── InvalidWebhookError
└── ProblemError
    ├── InvalidCallError                 400 and every other 4xx
    │   ├── InvalidRequestError          invalid_request
    │   │   └── InvalidPhoneNumberError  invalid_phone_number
    │   ├── MalformedJsonError           malformed_json
    │   ├── MethodNotAllowedError        method_not_allowed
    │   ├── BodyTimeoutError             body_timeout
    │   ├── BodyTooLargeError            body_too_large
    │   ├── UnsupportedMediaTypeError    unsupported_media_type
    │   ├── UriTooLongError              uri_too_long
    │   ├── HeadersTooLargeError         headers_too_large
    │   └── BadHttpError                 bad_http
    ├── AuthenticationError              401
    │   └── UnauthenticatedError         unauthenticated
    ├── ForbiddenError                   403
    │   ├── MissingScopeError            missing_scope
    │   ├── HttpsRequiredError           https_required
    │   └── NumberLockedError            number_locked
    ├── NotFoundError                    404
    │   ├── RequestNotFoundError         request_not_found
    │   └── PathNotFoundError            not_found
    ├── ConflictError                    409
    │   ├── NotSentYetError              not_sent_yet
    │   ├── CheckInProgressError         check_in_progress
    │   ├── AlreadyVerifiedError         already_verified
    │   ├── IdempotencyInProgressError   idempotency_in_progress
    │   ├── ResendInProgressError        resend_in_progress
    │   ├── ResendTooLateError           resend_too_late
    │   └── ResendsExhaustedError        resends_exhausted
    ├── RequestEndedError                410
    │   ├── CodeExpiredError             expired
    │   ├── RequestLockedError           locked
    │   ├── RequestCancelledError        cancelled
    │   └── RequestFailedError           failed
    ├── UnprocessableError               422
    │   ├── CodeIncorrectError           code_incorrect
    │   ├── NumberNotAllowedError        number_not_allowed
    │   ├── CountryNotAllowedError       country_not_allowed
    │   └── IdempotencyKeyReusedError    idempotency_key_reused
    ├── TooManyRequestsError             429
    │   ├── LimitExceededError           limit_exceeded
    │   ├── TooManyWrongCodesError       too_many_wrong_codes
    │   ├── ResendTooSoonError           resend_too_soon
    │   └── DestinationPausedError       destination_paused
    └── ServerError                      5xx
        ├── InternalServerError          internal_error
        └── ServiceUnavailableError      502, 503, 504
            ├── ProviderUnavailableError provider_unavailable
            ├── DatabaseUnavailableError database_unavailable
            ├── LimitsUnavailableError   limits_unavailable
            ├── TooBusyError             too_busy
            ├── SendingStoppedError      sending_stopped
            └── DailyCapReachedError     daily_cap_reached

A code that this version does not know is raised as the class of its status.

One module because the tree is read as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from otpqueue.client.models import PasscodeRequest


class OtpqueueClientError(Exception):
    """A call did not succeed."""


class NoResponseError(OtpqueueClientError):
    """The API did not answer, after all retries. `__cause__` is the error of httpx.

    The call may have succeeded. Repeat it with the same `idempotency_key`.
    """


class InvalidResponseError(OtpqueueClientError):
    """The response is not one of otpqueue's. Check the base URL and the proxies in between."""


class WaitTimeoutError(OtpqueueClientError, TimeoutError):
    """The awaited state was not reached in time. `request` is the last known state."""

    def __init__(self, request: PasscodeRequest) -> None:
        self.request = request
        super().__init__(request)

    def __str__(self) -> str:
        return f"Request {self.request.id} is still {self.request.status}."


class InvalidWebhookError(OtpqueueClientError):
    """The webhook is not genuine or too old. Answer 401 and ignore it."""


@dataclass(frozen=True, kw_only=True)
class InvalidInput:
    """A field of the call that is not valid."""

    field: str
    message: str


@dataclass(frozen=True, kw_only=True)
class ProblemDetails:
    """An error response: problem details (RFC 9457) and its headers."""

    status: int
    """HTTP status."""
    code: str | None
    """Stable name of the problem; None if the response has no problem details, as from a proxy."""
    title: str
    detail: str
    """What is wrong, and what to do. For developers, not for end users."""
    errors: tuple[InvalidInput, ...] = ()
    """The fields that are not valid."""
    retry_after: float | None = None
    """`Retry-After` in seconds."""
    request_id: str | None = None
    """`X-Request-Id`: the id of the call in the logs of otpqueue."""
    members: Mapping[str, Any] = field(default_factory=dict)
    """All members of the body."""


class ProblemError(OtpqueueClientError):
    """The API rejected the call."""

    problem_code: ClassVar[str]
    """The code that this class is raised for."""

    def __init__(self, problem: ProblemDetails) -> None:
        self.problem = problem
        super().__init__(problem)

    @property
    def status(self) -> int:
        """HTTP status."""
        return self.problem.status

    @property
    def code(self) -> str | None:
        """Stable name of the problem; None if the response has no problem details."""
        return self.problem.code

    @property
    def detail(self) -> str:
        """What is wrong, and what to do."""
        return self.problem.detail

    @property
    def errors(self) -> tuple[InvalidInput, ...]:
        """The fields that are not valid."""
        return self.problem.errors

    @property
    def field(self) -> str | None:
        """The first field that is not valid."""
        return self.problem.errors[0].field if self.problem.errors else None

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait before another call, if the API names them."""
        return self.problem.retry_after

    @property
    def request_id(self) -> str | None:
        """The id of the call in the logs of otpqueue."""
        return self.problem.request_id

    def __str__(self) -> str:
        problem = self.problem
        fields = "".join(f" {one.field} {one.message}." for one in problem.errors)
        call = f" (call {problem.request_id})" if problem.request_id else ""
        return f"{problem.status} {problem.code or problem.title}: {problem.detail}{fields}{call}"


class InvalidCallError(ProblemError):
    """The call is not valid: a mistake in the calling program, or in what a user entered."""


class InvalidRequestError(InvalidCallError):
    """The input is not valid. `errors` names each field."""

    problem_code = "invalid_request"


class InvalidPhoneNumberError(InvalidRequestError):
    """The phone number is not valid."""

    problem_code = "invalid_phone_number"


class MalformedJsonError(InvalidCallError):
    """The body is not a JSON object."""

    problem_code = "malformed_json"


class MethodNotAllowedError(InvalidCallError):
    """The path does not support the method."""

    problem_code = "method_not_allowed"


class BodyTimeoutError(InvalidCallError):
    """The body did not arrive in time."""

    problem_code = "body_timeout"


class BodyTooLargeError(InvalidCallError):
    """The body is too large."""

    problem_code = "body_too_large"


class UnsupportedMediaTypeError(InvalidCallError):
    """The body is not sent as JSON."""

    problem_code = "unsupported_media_type"


class UriTooLongError(InvalidCallError):
    """The URL is too long."""

    problem_code = "uri_too_long"


class HeadersTooLargeError(InvalidCallError):
    """The headers are too large, or too many."""

    problem_code = "headers_too_large"


class BadHttpError(InvalidCallError):
    """The HTTP request is not valid."""

    problem_code = "bad_http"


class AuthenticationError(ProblemError):
    """The API did not accept the credentials."""


class UnauthenticatedError(AuthenticationError):
    """The API key is missing, unknown, expired or revoked."""

    problem_code = "unauthenticated"

    @property
    def reason(self) -> str | None:
        """Which of these it is, if the API names it, for example `expired_key`."""
        return self.problem.members.get("reason")


class ForbiddenError(ProblemError):
    """The call is not permitted."""


class MissingScopeError(ForbiddenError):
    """The API key does not have the scope that this call needs."""

    problem_code = "missing_scope"


class HttpsRequiredError(ForbiddenError):
    """The base URL must begin with `https://`. Replace the API key: it was sent unencrypted."""

    problem_code = "https_required"


class NumberLockedError(ForbiddenError):
    """Too many consecutive wrong codes. An operator must unlock the number."""

    problem_code = "number_locked"


class NotFoundError(ProblemError):
    """The API does not know what the call names."""


class RequestNotFoundError(NotFoundError):
    """No request of this client has this id."""

    problem_code = "request_not_found"


class PathNotFoundError(NotFoundError):
    """The path does not exist. Check the base URL."""

    problem_code = "not_found"


class ConflictError(ProblemError):
    """The request's state does not permit the call now."""


class NotSentYetError(ConflictError):
    """No code has been sent yet."""

    problem_code = "not_sent_yet"


class CheckInProgressError(ConflictError):
    """Another check of the request is in progress."""

    problem_code = "check_in_progress"


class AlreadyVerifiedError(ConflictError):
    """The code was already verified."""

    problem_code = "already_verified"


class IdempotencyInProgressError(ConflictError):
    """The first call with this Idempotency-Key is still in progress."""

    problem_code = "idempotency_in_progress"


class ResendInProgressError(ConflictError):
    """The code is already being sent."""

    problem_code = "resend_in_progress"


class ResendTooLateError(ConflictError):
    """The code expires too soon to resend it. Make a new request."""

    problem_code = "resend_too_late"


class ResendsExhaustedError(ConflictError):
    """No resends are left. Make a new request."""

    problem_code = "resends_exhausted"


class RequestEndedError(ProblemError):
    """The request has ended. Make a new request."""


class CodeExpiredError(RequestEndedError):
    """The request has expired."""

    problem_code = "expired"


class RequestLockedError(RequestEndedError):
    """Too many wrong codes for this request."""

    problem_code = "locked"


class RequestCancelledError(RequestEndedError):
    """The request was cancelled or replaced by a newer one."""

    problem_code = "cancelled"


class RequestFailedError(RequestEndedError):
    """The code could not be sent."""

    problem_code = "failed"


class UnprocessableError(ProblemError):
    """The call is valid, but the API does not accept its content."""


class CodeIncorrectError(UnprocessableError):
    """The code is wrong, or belongs to another session."""

    problem_code = "code_incorrect"

    @property
    def checks_left(self) -> int:
        """How many more codes can be checked."""
        return int(self.problem.members.get("checks_left", 0))


class NumberNotAllowedError(UnprocessableError):
    """Codes are not sent to this number."""

    problem_code = "number_not_allowed"


class CountryNotAllowedError(UnprocessableError):
    """Codes are not sent to numbers of this country."""

    problem_code = "country_not_allowed"


class IdempotencyKeyReusedError(UnprocessableError):
    """The Idempotency-Key was already used with a different body."""

    problem_code = "idempotency_key_reused"


class TooManyRequestsError(ProblemError):
    """The call comes too soon. Retry after `retry_after` seconds."""


class LimitExceededError(TooManyRequestsError):
    """A limit is exceeded."""

    problem_code = "limit_exceeded"

    @property
    def limit(self) -> str | None:
        """Name of the limit."""
        return self.problem.members.get("limit")


class TooManyWrongCodesError(TooManyRequestsError):
    """Too many wrong codes for this number or address. Codes already sent remain valid."""

    problem_code = "too_many_wrong_codes"


class ResendTooSoonError(TooManyRequestsError):
    """The code was sent recently."""

    problem_code = "resend_too_soon"


class DestinationPausedError(TooManyRequestsError):
    """Sending to this range of numbers is paused."""

    problem_code = "destination_paused"


class ServerError(ProblemError):
    """The service failed."""


class InternalServerError(ServerError):
    """An error in otpqueue, which it has logged."""

    problem_code = "internal_error"


class ServiceUnavailableError(ServerError):
    """The service is temporarily unavailable."""


class ProviderUnavailableError(ServiceUnavailableError):
    """Infobip could not check the code."""

    problem_code = "provider_unavailable"


class DatabaseUnavailableError(ServiceUnavailableError):
    """The database of otpqueue is unavailable."""

    problem_code = "database_unavailable"


class LimitsUnavailableError(ServiceUnavailableError):
    """Rate limits cannot be checked, so no code is sent."""

    problem_code = "limits_unavailable"


class TooBusyError(ServiceUnavailableError):
    """Too many calls are in progress."""

    problem_code = "too_busy"


class SendingStoppedError(ServiceUnavailableError):
    """An operator has stopped sending. Codes already sent can still be verified."""

    problem_code = "sending_stopped"


class DailyCapReachedError(ServiceUnavailableError):
    """The daily sending cap is reached. Sending resumes at 00:00 UTC."""

    problem_code = "daily_cap_reached"


def _expand_classes(error: type[ProblemError]) -> Iterator[type[ProblemError]]:
    if "problem_code" in vars(error):
        yield error
    for kind in error.__subclasses__():
        yield from _expand_classes(kind)


ERRORS_BY_CODE: Mapping[str, type[ProblemError]] = {
    error.problem_code: error for error in _expand_classes(ProblemError)
}
"""The class of each known problem code."""

ERRORS_BY_STATUS: Mapping[int, type[ProblemError]] = {
    401: AuthenticationError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: RequestEndedError,
    422: UnprocessableError,
    429: TooManyRequestsError,
    502: ServiceUnavailableError,
    503: ServiceUnavailableError,
    504: ServiceUnavailableError,
}
"""The class of unknown codes by HTTP status. Other 4xx are an InvalidCallError, other 5xx a ServerError."""


def build_error(problem: ProblemDetails) -> ProblemError:
    """Return the error of a problem."""
    known = ERRORS_BY_CODE.get(problem.code or "")
    rest = ServerError if problem.status >= 500 else InvalidCallError
    return (known or ERRORS_BY_STATUS.get(problem.status, rest))(problem)
