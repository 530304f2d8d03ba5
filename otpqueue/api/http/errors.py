"""Errors of a call that is no valid HTTP request for this service, whatever it asks for.

HttpError
├── HttpsRequired
├── MalformedJson
├── PathNotFound
├── MethodNotAllowed
├── BodyTimeout
├── BodyTooLarge
├── UnsupportedMediaType
├── UriTooLong
├── HeadersTooLarge
├── BadHttp
└── InternalError
"""

from __future__ import annotations

from otpqueue.domain.errors import OtpqueueError


class HttpError(OtpqueueError):
    """The call was rejected before the operation that it asks for."""


class HttpsRequired(HttpError):
    """Call this service by HTTPS. Replace the API key: it was sent unencrypted."""

    code = "https_required"
    status = 403
    title = "HTTPS required"


class MalformedJson(HttpError):
    """The body is not a single JSON object in UTF-8."""

    code = "malformed_json"
    status = 400
    title = "Malformed JSON"


class PathNotFound(HttpError):
    """This path does not exist."""

    code = "not_found"
    status = 404
    title = "Not found"


class MethodNotAllowed(HttpError):
    """This path does not support this method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"


class BodyTimeout(HttpError):
    """The body did not arrive in time."""

    code = "body_timeout"
    status = 408
    title = "Body timeout"


class BodyTooLarge(HttpError):
    """The body is larger than 16 KiB (delivery reports: 4 MiB)."""

    code = "body_too_large"
    status = 413
    title = "Body too large"


class UnsupportedMediaType(HttpError):
    """Send the body as `application/json`."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"


class UriTooLong(HttpError):
    """Path and query together are longer than 8 KiB."""

    code = "uri_too_long"
    status = 414
    title = "URI too long"


class HeadersTooLarge(HttpError):
    """The call has more than 64 headers, or more than 16 KiB of headers."""

    code = "headers_too_large"
    status = 431
    title = "Headers too large"


class BadHttp(HttpError):
    """The HTTP request is not valid."""

    code = "bad_http"
    status = 400
    title = "Bad HTTP request"


class InternalError(HttpError):
    """An internal error occurred. It was logged."""

    code = "internal_error"
    status = 500
    title = "Internal error"
