"""Refusals, in the error envelope of the 2FA API.

Statuses, ids and texts: Infobip OpenAPI 3.210.0, except 503 (the 2015 API pages) and the statuses of HTTP
itself such as 405 (INFERRED).
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import falcon
import falcon.asgi

_DOCUMENTED = {
    400: ("BAD_REQUEST", "Bad request"),
    401: ("UNAUTHORIZED", "Unauthorized"),
    403: ("FORBIDDEN", "Forbidden"),
    404: ("NOT_FOUND", "Not found"),
    429: ("TOO_MANY_REQUESTS", "Too many requests"),
    500: ("GENERAL_ERROR", "Something went wrong. Please contact support."),
    503: ("SERVICE_UNAVAILABLE", "Service unavailable"),
}

ValidationErrors = Mapping[str, list[str]]


class ApiError(Exception):
    """A refusal as the 2FA API words it; defaults to the documented id and text of its status.

    `retry_after_s` becomes a Retry-After header, rounded up to whole seconds.
    """

    def __init__(
        self,
        status: int,
        message_id: str | None = None,
        text: str | None = None,
        *,
        validation_errors: ValidationErrors | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        default_id, default_text = documented(status)
        self.status = status
        self.message_id = message_id or default_id
        self.text = text or default_text
        self.validation_errors = validation_errors
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {self.message_id}: {self.text}")


def documented(status: int) -> tuple[str, str]:
    """Return error id and text for an HTTP status, made up from its name where none is documented."""
    if status in _DOCUMENTED:
        return _DOCUMENTED[status]
    if status >= 500:
        return _DOCUMENTED[500]
    try:
        known = HTTPStatus(status)
    except ValueError:
        return _DOCUMENTED[400]
    return known.name, known.phrase


def envelope(message_id: str, text: str, validation_errors: ValidationErrors | None = None) -> dict[str, Any]:
    """Return the body `{"requestError": {"serviceException": ...}}`."""
    exception: dict[str, Any] = {"messageId": message_id, "text": text}
    if validation_errors is not None:
        exception["validationErrors"] = dict(validation_errors)
    return {"requestError": {"serviceException": exception}}


def invalid(field: str, problem: str) -> ApiError:
    """Return the refusal of one field of a request, `problem` reading on from the field's name."""
    return ApiError(400, validation_errors={field: [problem]})


async def answer_api_error(
    _req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ApiError, _params: dict[str, Any]
) -> None:
    """Turn an `ApiError` into a response; a Falcon error handler."""
    resp.status = error.status
    resp.media = envelope(error.message_id, error.text, error.validation_errors)
    if error.retry_after_s is not None:
        resp.set_header("Retry-After", str(math.ceil(error.retry_after_s)))


def serialize_http_error(req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
    """Word Falcon's own refusals: in the API's envelope under /2fa, else as `{"error": ...}`."""
    if is_api_path(req.path):
        resp.media = envelope(*documented(error.status_code))
    else:
        resp.media = {"error": error.description or error.title}


def is_api_path(path: str) -> bool:
    """Tell whether a path belongs to the imitated API, rather than to the simulator's own pages."""
    return path == "/2fa" or path.startswith("/2fa/")
