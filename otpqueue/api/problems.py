"""Errors as RFC 9457 problem details: every kind with its status, title and a place in the docs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import falcon

from otpqueue.domain import errors
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

CONTENT_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its stable code, the HTTP status and the title."""

    code: str
    status: int
    title: str
    meaning: str


def _kind(error: type[errors.OtpqueueError], status: int, title: str) -> tuple[str, Kind]:
    return error.code, Kind(error.code, status, title, error.message())


KINDS: dict[str, Kind] = dict(
    [
        _kind(errors.InvalidRequest, 400, "Invalid request"),
        _kind(errors.InvalidPhoneNumber, 400, "Invalid phone number"),
        _kind(errors.Unauthenticated, 401, "Not authenticated"),
        _kind(errors.MissingScope, 403, "Missing scope"),
        _kind(errors.RequestNotFound, 404, "OTP request not found"),
        _kind(errors.AlertNotFound, 404, "Alert not found"),
        _kind(errors.IdempotencyInProgress, 409, "Idempotency in progress"),
        _kind(errors.IdempotencyKeyReused, 422, "Idempotency key reused"),
        _kind(errors.NotSentYet, 409, "Not sent yet"),
        _kind(errors.CheckInProgress, 409, "Check in progress"),
        _kind(errors.AlreadyVerified, 409, "Already verified"),
        _kind(errors.CodeExpired, 410, "Expired"),
        _kind(errors.RequestLocked, 410, "Locked"),
        _kind(errors.RequestCancelled, 410, "Cancelled"),
        _kind(errors.RequestFailed, 410, "Failed"),
        _kind(errors.ResendInProgress, 409, "Resend in progress"),
        _kind(errors.ResendsExhausted, 409, "No resends left"),
        _kind(errors.ResendTooSoon, 429, "Resend too soon"),
        _kind(errors.ResendTooLate, 409, "Resend too late"),
        _kind(errors.NumberNotAllowed, 422, "Number not allowed"),
        _kind(errors.LimitExceeded, 429, "Limit exceeded"),
        _kind(errors.TooManyWrongCodes, 429, "Too many wrong codes"),
        _kind(errors.NumberLocked, 403, "Number locked"),
        _kind(errors.CountryNotAllowed, 422, "Country not allowed"),
        _kind(errors.SendingStopped, 503, "Sending stopped"),
        _kind(errors.DailyCapReached, 503, "Daily cap reached"),
        _kind(errors.DestinationPaused, 429, "Destination paused"),
        _kind(errors.CodeIncorrect, 422, "Code incorrect"),
        _kind(errors.ProviderUnavailable, 503, "Provider unavailable"),
        _kind(errors.DatabaseUnavailable, 503, "Database unavailable"),
        _kind(errors.LimitsUnavailable, 503, "Limits unavailable"),
        _kind(errors.TooBusy, 503, "Too busy"),
    ]
) | {
    kind.code: kind
    for kind in (
        Kind("https_required", 403, "HTTPS required", "Call by HTTPS; replace the key, which came in clear."),
        Kind("malformed_json", 400, "Malformed JSON", "The body is not one JSON object in UTF-8."),
        Kind("not_found", 404, "Not found", "There is nothing at this path."),
        Kind("method_not_allowed", 405, "Method not allowed", "This path does not take this method."),
        Kind("body_timeout", 408, "Body too slow", "The body did not come in time."),
        Kind("body_too_large", 413, "Body too large", "The body is larger than 16 KiB (reports: 4 MiB)."),
        Kind("unsupported_media_type", 415, "Unsupported media type", "Send `application/json`."),
        Kind("uri_too_long", 414, "URI too long", "Path and query together are over 8 KiB."),
        Kind(
            "headers_too_large",
            431,
            "Headers too large",
            "There are over 64 headers, or over 16 KiB.",
        ),
        Kind("bad_http", 400, "Bad HTTP request", "The HTTP request itself is not valid."),
        Kind("internal_error", 500, "Internal error", "This is our fault; it has been logged."),
    )
}
_FALCON = {
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
}


class Refused(Exception):
    """A request refused by the HTTP layer itself; `code` is among KINDS."""

    def __init__(self, code: str, detail: str | None = None) -> None:
        self.code, self.detail = code, detail
        super().__init__(code)


@runtime_checkable
class Refuser(Protocol):
    """A resource that answers a refusal in words of its own."""

    def refuse(self, resp: falcon.Response, error: errors.OtpqueueError | Refused) -> None:
        """Make the refusal the response."""


def refuse(resource: object, resp: falcon.Response, error: errors.OtpqueueError | Refused) -> None:
    """Answer a call before it reaches its resource: raise `error`, unless the resource has own words."""
    if not isinstance(resource, Refuser):
        raise error
    resource.refuse(resp, error)
    resp.complete = True


def document(code: str, *, detail: str | None = None, **members: Any) -> dict[str, Any]:
    """Return a problem details document. `type` is the problem's place in this server's docs."""
    kind = KINDS[code]
    return {
        "type": f"/docs#{code}",
        "title": kind.title,
        "status": kind.status,
        "detail": detail or kind.meaning,
        "code": code,
        **members,
    }


def of(error: errors.OtpqueueError) -> dict[str, Any]:
    """Return the problem details of one of our errors."""
    members: dict[str, Any] = {}
    if isinstance(error, errors.InvalidRequest):
        members["errors"] = [{"field": one.field, "message": one.message} for one in error.errors]
    if isinstance(error, errors.CodeIncorrect):
        members["checks_left"] = error.checks_left
    if isinstance(error, errors.LimitExceeded):
        members["limit"] = error.limit
    return document(error.code, detail=error.detail, **members)


def answer(resp: falcon.Response, problem: dict[str, Any], *, retry_after_s: int | None = None) -> None:
    """Make `problem` the response."""
    resp.context.problem = problem["code"]
    resp.status = problem["status"]
    resp.content_type = CONTENT_TYPE
    resp.text = json.dumps(problem)
    if problem["status"] == 401 and resp.get_header("WWW-Authenticate") is None:
        resp.set_header("WWW-Authenticate", "Bearer")
    if retry_after_s is not None:
        resp.set_header("Retry-After", str(retry_after_s))


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Turn every error that can leave a resource into problem details."""
    # The most general first: Falcon looks the newest handler of an error's class up.
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(Refused, _on_refused)
    app.add_error_handler(errors.OtpqueueError, _on_error)


def _on_error(
    _req: falcon.Request, resp: falcon.Response, error: errors.OtpqueueError, _params: dict[str, Any]
) -> None:
    if isinstance(error, errors.Unavailable):
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        log.warning("unavailable", code=error.code, cause=cause)
    answer(resp, of(error), retry_after_s=error.retry_after_s)


def _on_refused(_req: falcon.Request, resp: falcon.Response, error: Refused, _params: dict[str, Any]) -> None:
    answer(resp, document(error.code, detail=error.detail))


def _on_http_error(
    _req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    for name, value in (error.headers or {}).items() if isinstance(error.headers, dict) else ():
        resp.set_header(name, value)
    answer(resp, document(_FALCON.get(error.status_code, "bad_http"), detail=error.description))


def _on_bug(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("internal_error", exc_info=error)
    answer(resp, document("internal_error"))
