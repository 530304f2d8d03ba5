"""Responses of the API as dataclasses."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from otpqueue.client.errors import InvalidInput, InvalidResponseError, ProblemDetails
from otpqueue.client.models import PasscodeRequest


def read_request(response: httpx.Response) -> PasscodeRequest:
    """Return the request in the body of a response. Raises InvalidResponseError."""
    try:
        return PasscodeRequest.from_json(response.json())
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InvalidResponseError(
            f"The body of a {response.status_code} response is not a request of otpqueue."
        ) from None


def read_problem(response: httpx.Response) -> ProblemDetails:
    """Return the problem that an error response describes, or a description of it that has no `code`."""
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or not isinstance(body.get("code"), str):
        body = {}
    status = response.status_code
    errors = body.get("errors")
    return ProblemDetails(
        status=status,
        code=body.get("code"),
        title=str(body.get("title", response.reason_phrase or "Error")),
        detail=str(body.get("detail", "The response has no problem details. A proxy may have sent it.")),
        errors=tuple(
            InvalidInput(field=str(one.get("field")), message=str(one.get("message")))
            for one in (errors if isinstance(errors, list) else ())
            if isinstance(one, dict)
        ),
        retry_after=read_retry_after(response),
        request_id=response.headers.get("X-Request-Id"),
        members=body,
    )


def read_retry_after(response: httpx.Response) -> float | None:
    """Return `Retry-After` in seconds: it is a number of them, or a time."""
    text = response.headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
