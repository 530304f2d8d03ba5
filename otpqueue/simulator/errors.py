"""Error responses, in the two error envelopes of Infobip's API.

Statuses, ids and texts: Infobip OpenAPI 3.210.0, except 503 (the 2015 API pages) and the statuses of HTTP
itself such as 405 (INFERRED). 2FA and Subscriptions use the old envelope, `requestError`; the SMS API the
new one, `errorCode`.
"""

import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Literal

import falcon
import falcon.asgi

from otpqueue.simulator.options import Options

Envelope = Literal["old", "new", "html", "empty"]

_API = frozenset({"2fa", "auth", "sms", "subscriptions"})

_DOCUMENTED = {
    400: ("BAD_REQUEST", "Bad request"),
    401: ("UNAUTHORIZED", "Unauthorized"),
    403: ("FORBIDDEN", "Forbidden"),
    404: ("NOT_FOUND", "Not found"),
    429: ("TOO_MANY_REQUESTS", "Too many requests"),
    500: ("GENERAL_ERROR", "Something went wrong. Please contact support."),
    503: ("SERVICE_UNAVAILABLE", "Service unavailable"),
}
_OF_THE_PLATFORM = frozenset({401, 403, 429})

ValidationErrors = Mapping[str, list[str]]


class ApiError(Exception):
    """An error of the simulated API; defaults to the documented id and text of its status.

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
        default_id, default_text = find_documented_error(status)
        self.status = status
        self.message_id = message_id or default_id
        self.text = text or default_text
        self.validation_errors = validation_errors
        self.retry_after_s = retry_after_s
        super().__init__(f"{status} {self.message_id}: {self.text}")


class ErrorResponder:
    """Writes errors into responses, in the envelope of the path or the one set by the options."""

    def __init__(self, options: Options) -> None:
        self._options = options

    async def answer(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, error: ApiError, _params: dict[str, Any]
    ) -> None:
        """Turn an `ApiError` into a response; a Falcon error handler."""
        self.write(resp, error, self._envelope(req.path, error.status))

    def serialize(self, req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError) -> None:
        """Write Falcon's own errors: in the API's envelope on its paths, else as `{"error": ...}`."""
        if is_api_path(req.path):
            self.write(resp, ApiError(error.status_code), self._envelope(req.path, error.status_code))
        else:
            resp.media = {"error": error.description or error.title}

    def of_status(self, path: str, resp: falcon.Response, status: int, envelope: Envelope | None) -> None:
        """Write the documented error of a status, in the path's envelope unless one is given."""
        self.write(resp, ApiError(status), envelope or self._envelope(path, status))

    @staticmethod
    def write(resp: falcon.Response, error: ApiError, envelope: Envelope) -> None:
        """Write an error in one of the envelopes."""
        resp.status = error.status
        if envelope == "html":
            resp.content_type = falcon.MEDIA_HTML
            resp.text = make_html_page(error.status)
        elif envelope == "empty":
            resp.text = ""
        elif envelope == "new":
            resp.media = _new_envelope(error)
        else:
            resp.media = _old_envelope(error)
        if error.retry_after_s is not None:
            resp.set_header("Retry-After", str(math.ceil(error.retry_after_s)))

    def _envelope(self, path: str, status: int) -> Envelope:
        chosen = self._options.error_format
        if chosen == "platform":
            chosen = "new" if status in _OF_THE_PLATFORM else "old"
        return "new" if chosen == "old" and path.startswith("/sms/") else chosen


def find_documented_error(status: int) -> tuple[str, str]:
    """Return error id and text for an HTTP status, derived from its name if none is documented."""
    if status in _DOCUMENTED:
        return _DOCUMENTED[status]
    if status >= 500:
        return _DOCUMENTED[500]
    try:
        known = HTTPStatus(status)
    except ValueError:
        return _DOCUMENTED[400]
    return known.name, known.phrase


def make_html_page(status: int) -> str:
    """Return an HTML error page like that of a proxy."""
    text = find_documented_error(status)[1]
    return f"<html><head><title>{status}</title></head><body><h1>{status} {text}</h1></body></html>\n"


def _old_envelope(error: ApiError) -> dict[str, Any]:
    exception: dict[str, Any] = {"messageId": error.message_id, "text": error.text}
    if error.validation_errors is not None:
        exception["validationErrors"] = dict(error.validation_errors)
    return {"requestError": {"serviceException": exception}}


def _new_envelope(error: ApiError) -> dict[str, Any]:
    """Return the newer body; that `action` only repeats what to do about the status is INFERRED."""
    return {
        "errorCode": f"E{error.status}",
        "description": error.text,
        "action": "Check the request and the documentation, then try again.",
        "violations": [
            {"property": field, "violation": problem}
            for field, problems in (error.validation_errors or {}).items()
            for problem in problems
        ],
        "resources": [],
    }


def make_field_error(field: str, problem: str) -> ApiError:
    """Return the 400 error for one field; `problem` continues the sentence that the field's name starts."""
    return ApiError(400, validation_errors={field: [problem]})


def is_api_path(path: str) -> bool:
    """Return whether a path belongs to the simulated API, not to the control endpoints."""
    return path[1:].partition("/")[0] in _API
