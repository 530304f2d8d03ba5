"""Errors of the guide's calls: problem details with the guide's statuses, field names and error codes."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from otpqueue.api.problems import InvalidField, ProblemFormat, ProblemResponse
from otpqueue.domain import errors
from otpqueue.domain.errors import OtpqueueError

_ANSWERS: dict[type[OtpqueueError], tuple[str, int]] = {
    errors.CodeIncorrect: ("WRONG_PIN", 400),
    errors.CodeExpired: ("PIN_EXPIRED", 400),
    errors.RequestNotFound: ("PIN_NOT_FOUND", 400),
    errors.RequestCancelled: ("PIN_NOT_FOUND", 400),
    errors.AlreadyVerified: ("PIN_NOT_FOUND", 400),
    errors.NotSentYet: ("PIN_NOT_SENT", 400),
    errors.RequestFailed: ("PIN_NOT_SENT", 400),
    errors.RequestLocked: ("MAX_ATTEMPTS_EXCEEDED", 400),
    errors.CheckInProgress: ("TOO_MANY_REQUESTS", 429),
    errors.IdempotencyInProgress: ("TOO_MANY_REQUESTS", 429),
    errors.IdempotencyKeyReused: ("BAD_REQUEST", 400),
    errors.LimitExceeded: ("TOO_MANY_REQUESTS", 429),
    errors.TooManyWrongCodes: ("TOO_MANY_REQUESTS", 429),
    errors.NumberLocked: ("NUMBER_LOCKED", 403),
    errors.DestinationPaused: ("TOO_MANY_REQUESTS", 429),
    errors.InvalidPhoneNumber: ("INVALID_PHONE_NUMBER", 400),
    errors.NumberNotAllowed: ("INVALID_PHONE_NUMBER", 400),
    errors.CountryNotAllowed: ("INVALID_PHONE_NUMBER", 400),
    errors.InvalidRequest: ("BAD_REQUEST", 400),
    errors.Unauthenticated: ("UNAUTHORIZED", 401),
    errors.MissingScope: ("FORBIDDEN", 403),
}
"""The guide's error code and status. It has no status other than 400 for a code that is not accepted."""
_BY_CODE = {error.code: answer for error, answer in _ANSWERS.items()}
_FIELDS = {"phone_number": "phoneNumber", "session_id": "sessionId", "code": "otp"}


class GuideProblemResponse(ProblemResponse):
    """Problem details with the members of the guide."""

    model_config = ConfigDict(serialize_by_alias=True)

    success: Literal[False]
    error: str = Field(description="what is wrong, for a person")
    error_code: str = Field(serialization_alias="errorCode", description="the guide's code of the error")


class GuideProblems(ProblemFormat):
    """Writes errors as the guide does."""

    model = GuideProblemResponse

    def status_of(self, error: type[OtpqueueError]) -> int:
        """Return the guide's HTTP status of an error."""
        return find_guide_answer(error)[1]

    def describe(self, error: OtpqueueError) -> BaseModel:
        """Return the problem details of an error, with the guide's names of the fields."""
        found = error.errors if isinstance(error, errors.InvalidRequest) else []
        fields = [InvalidField(field=_FIELDS.get(one.field, one.field), message=one.message) for one in found]
        members = error.members() | {
            "errors": fields,
            "success": False,
            "error": "; ".join(f"{one.field} {one.message}" for one in fields) or error.detail,
            "error_code": find_guide_answer(type(error))[0],
        }
        return self.make(error, **members)


def find_guide_answer(error: type[OtpqueueError]) -> tuple[str, int]:
    """Return the guide's error code and status of an error."""
    rest = "BAD_REQUEST" if error.status < 500 else "SERVICE_UNAVAILABLE"
    return _BY_CODE.get(error.code, (rest, error.status))


GUIDE_PROBLEMS = GuideProblems()
