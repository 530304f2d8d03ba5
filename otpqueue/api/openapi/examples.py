"""Examples of the OpenAPI document: bodies and answers by operation, and each problem.

`examples.json` has answers of a running service. Tests compare them with the schemas.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files
from typing import Any

from otpqueue.api.problems import ProblemFormat
from otpqueue.domain import errors
from otpqueue.domain.errors import CredentialFault, FieldError, OtpqueueError
from otpqueue.domain.request import Reason, Status
from otpqueue.domain.webhooks import TEST

_STORED: dict[str, Any] = json.loads(
    (files("otpqueue.api.openapi") / "examples.json").read_text(encoding="utf-8")
)

BODIES: dict[str, dict[str, Any]] = _STORED["bodies"]
"""By operation id and name of the example."""
RESPONSES: dict[str, dict[int, dict[str, Any]]] = {
    operation: {int(status): found for status, found in by_status.items()}
    for operation, by_status in _STORED["responses"].items()
}
"""By operation id, status and name of the example."""

REQUEST_ID = "01a205d1-1a52-7a30-9a5b-3f0c2f2f4a11"
PATH_PARAMETERS = {"request_id": REQUEST_ID, "alert_id": "01a205d2-77c1-7d03-8f6e-2b1d4c9e5a07"}

_EVENT = {
    "id": REQUEST_ID,
    "status": "sent",
    "reason": None,
    "provider_code": None,
    "phone_number": "+44********23",
    "channel": "sms",
    "client_reference": "order-4711",
    "created_at": "2026-11-25T21:35:08.035Z",
    "sent_at": "2026-11-25T21:35:08.145Z",
    "expires_at": "2026-11-25T21:40:08.041Z",
}
_REASONS = {
    Status.CANCELLED: Reason.REPLACED,
    Status.EXPIRED: Reason.CODE_LIFETIME,
    Status.FAILED: Reason.PROVIDER_REFUSED,
    Status.LOCKED: Reason.CHECKS_EXHAUSTED,
    Status.VERIFIED: Reason.CODE_CORRECT,
}
_NUMBER = "+447700900123"
_PROBLEMS: dict[type[OtpqueueError], Callable[[], OtpqueueError]] = {
    errors.InvalidRequest: lambda: errors.InvalidRequest([FieldError("phone_number", "is required")]),
    errors.InvalidPhoneNumber: lambda: errors.InvalidPhoneNumber(
        "is not a phone number; send it in E.164, for example +447911123456"
    ),
    errors.NumberNotAllowed: lambda: errors.NumberNotAllowed("premium_rate_number", e164=_NUMBER),
    errors.LimitExceeded: lambda: errors.LimitExceeded(
        "number_15m",
        "At most 3 in 15 minutes: requests for one phone number. Try again in 843 seconds.",
        retry_after_s=843,
    ),
    errors.TooManyWrongCodes: lambda: errors.TooManyWrongCodes("number_wrong_codes"),
    errors.NumberLocked: lambda: errors.NumberLocked("number_locked"),
    errors.SendingStopped: lambda: errors.SendingStopped(retry_after_s=60),
    errors.DailyCapReached: lambda: errors.DailyCapReached("daily_cap"),
    errors.DestinationPaused: lambda: errors.DestinationPaused("guard_block"),
    errors.Unauthenticated: lambda: errors.Unauthenticated(CredentialFault.NO_CREDENTIALS),
    errors.MissingScope: lambda: errors.MissingScope("This call needs an API key with the scope send."),
    errors.CodeIncorrect: lambda: errors.CodeIncorrect(4),
}
"""Errors that need more than their class."""


def build_problem(error: type[OtpqueueError], form: ProblemFormat) -> dict[str, Any]:
    """Return the problem details of an error as the API writes them."""
    problem = _PROBLEMS.get(error, error)()
    described: dict[str, Any] = json.loads(form.describe(problem).model_dump_json(exclude_unset=True))
    return described


def build_event(event: str) -> dict[str, Any]:
    """Return a webhook of an event type."""
    data: dict[str, Any] = {"client": "shop"}
    if event != TEST:
        status = Status(event.rpartition(".")[2])
        data = _EVENT | {"status": status.value, "reason": _REASONS.get(status)}
    return {"type": event, "timestamp": "2026-11-25T21:35:08.145Z", "data": data}
