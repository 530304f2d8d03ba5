"""The error with which a check is answered."""

from __future__ import annotations

from datetime import datetime

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.errors import (
    AlreadyVerified,
    CheckInProgress,
    CheckRefused,
    CodeExpired,
    CodeIncorrect,
    NotSentYet,
    ProviderUnavailable,
    RequestCancelled,
    RequestFailed,
    RequestLocked,
)
from otpqueue.domain.request import OtpRequest, Status

ENDED: dict[Status, type[CheckRefused]] = {
    Status.VERIFIED: AlreadyVerified,
    Status.EXPIRED: CodeExpired,
    Status.LOCKED: RequestLocked,
    Status.CANCELLED: RequestCancelled,
    Status.FAILED: RequestFailed,
}
"""The error of a call for a request that has ended."""


def build_refusal(
    request: OtpRequest, *, belongs: bool, now: datetime, hint: str | None = None
) -> CheckRefused:
    """Return the error of a check that is not made. A `hint` replaces the detail of a foreign check."""
    if request.status in ENDED:
        return ENDED[request.status]()
    if request.expires_at is None:
        return NotSentYet(retry_after_s=1)
    if request.expires_at <= now:
        return CodeExpired()
    if request.check_in_flight:
        return CheckInProgress(retry_after_s=1)
    if not belongs:
        # The error of a wrong code that cost a check, at no cost. The code was not compared, and the owner
        # keeps all checks.
        return CodeIncorrect(max(request.checks_left - 1, 0), hint)
    if request.checks_left <= 0:
        return RequestLocked()
    return CheckInProgress(retry_after_s=1)


def build_hint(*, has_session: bool, has_number: bool) -> str:
    """Return why a check does not belong to its request, for a developer, from what the call has."""
    if has_session:
        wrong = "session id or number" if has_number else "session id"
        return f"The code was not checked: the {wrong} is not that of the request. Send what the request had."
    if has_number:
        return (
            "The code was not checked: the request was made with a session id, or for another number. Send "
            "what the request had."
        )
    return (
        "The code was not checked: the request was made with a session id, and this call has none. Send the "
        "same session id."
    )


def build_verdict_error(request: OtpRequest, verdict: CheckVerdict) -> CheckRefused | ProviderUnavailable:
    """Return the error of a check that was made, from its verdict."""
    if verdict in {CheckVerdict.UNJUDGED, CheckVerdict.UNKNOWN}:
        return ProviderUnavailable(retry_after_s=2)
    if verdict is CheckVerdict.WRONG and request.status in {
        Status.SENT,
        Status.DELIVERED,
        Status.UNDELIVERED,
        Status.LOCKED,
    }:
        return CodeIncorrect(request.checks_left)
    return ENDED.get(request.status, CheckInProgress)()
