"""Errors as RFC 9457 problem details."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import falcon

from otpqueue.api.http import errors as http
from otpqueue.domain.errors import OtpqueueError, Unavailable
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

CONTENT_TYPE = "application/problem+json"

_FALCON = {
    404: http.PathNotFound,
    405: http.MethodNotAllowed,
    413: http.BodyTooLarge,
    415: http.UnsupportedMediaType,
}


def _with_code(error: type[OtpqueueError]) -> Iterator[type[OtpqueueError]]:
    if "code" in vars(error):
        yield error
    for kind in error.__subclasses__():
        yield from _with_code(kind)


PROBLEMS: dict[str, type[OtpqueueError]] = {
    error.code: error
    for parent in OtpqueueError.__subclasses__()
    for error in _with_code(parent)
    if error.__module__ in {OtpqueueError.__module__, http.__name__}
}
"""Every problem of the API by its code."""


@runtime_checkable
class RefusalFormatter(Protocol):
    """A resource that formats refusals itself."""

    def refuse(self, resp: falcon.Response, error: OtpqueueError) -> None:
        """Make the refusal the response."""


def refuse(resource: object, resp: falcon.Response, error: OtpqueueError) -> None:
    """Reject a call before it reaches its resource: raise `error`, unless the resource formats it."""
    if not isinstance(resource, RefusalFormatter):
        raise error
    resource.refuse(resp, error)
    resp.complete = True


def as_problem(error: OtpqueueError) -> dict[str, Any]:
    """Return the problem details of an error. `type` is its section in this server's docs."""
    return {
        "type": f"/docs#{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.detail,
        "code": error.code,
        **error.members(),
    }


def send(resp: falcon.Response, problem: dict[str, Any], *, retry_after_s: int | None = None) -> None:
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
    # The most general first: Falcon looks up the handler of an error's class that was added last.
    app.add_error_handler(Exception, _on_bug)
    app.add_error_handler(falcon.HTTPError, _on_http_error)
    app.add_error_handler(OtpqueueError, _on_error)


def _on_error(
    _req: falcon.Request, resp: falcon.Response, error: OtpqueueError, _params: dict[str, Any]
) -> None:
    if isinstance(error, Unavailable):
        cause = type(error.__cause__).__name__ if error.__cause__ else None
        log.warning("unavailable", code=error.code, cause=cause)
    send(resp, as_problem(error), retry_after_s=error.retry_after_s)


def _on_http_error(
    _req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, Any]
) -> None:
    for name, value in (error.headers or {}).items() if isinstance(error.headers, dict) else ():
        resp.set_header(name, value)
    send(resp, as_problem(_FALCON.get(error.status_code, http.BadHttp)(error.description)))


def _on_bug(_req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, Any]) -> None:
    log.error("internal_error", exc_info=error)
    send(resp, as_problem(http.InternalError()))
