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
    cause = "The call used plain HTTP, and `OTPQUEUE_REQUIRE_HTTPS` is set."
    remedy = (
        "Call the `https` URL. Replace the API key. If a proxy ends TLS, the operator sets "
        "`OTPQUEUE_TRUSTED_PROXIES`."
    )


class MalformedJson(HttpError):
    """The body is not a single JSON object in UTF-8."""

    code = "malformed_json"
    status = 400
    title = "Malformed JSON"
    cause = (
        "The body is not JSON, is not an object, is nested more than 16 levels deep, or has a field twice."
    )
    remedy = "Send one JSON object in UTF-8."


class PathNotFound(HttpError):
    """This path does not exist."""

    code = "not_found"
    status = 404
    title = "Not found"
    cause = "The path is wrong, or has a trailing slash."
    remedy = "Compare the path with `/openapi.json`."


class MethodNotAllowed(HttpError):
    """This path does not support this method."""

    code = "method_not_allowed"
    status = 405
    title = "Method not allowed"
    cause = "The path exists, but not with this method."
    remedy = "Use a method of the `Allow` header."


class BodyTimeout(HttpError):
    """The body did not arrive in time."""

    code = "body_timeout"
    status = 408
    title = "Body timeout"
    cause = "The body did not arrive within 10 seconds."
    remedy = "Send the whole body at once. Retry."


class BodyTooLarge(HttpError):
    """The body is larger than 16 KiB (delivery reports: 4 MiB)."""

    code = "body_too_large"
    status = 413
    title = "Body too large"
    cause = "The body exceeds the limit of the call."
    remedy = "Send only the documented fields."


class UnsupportedMediaType(HttpError):
    """Send the body as `application/json`."""

    code = "unsupported_media_type"
    status = 415
    title = "Unsupported media type"
    cause = "`Content-Type` is not `application/json`, the text is not UTF-8, or the body is compressed."
    remedy = "Send `Content-Type: application/json` and an uncompressed body."


class UriTooLong(HttpError):
    """Path and query together are longer than 8 KiB."""

    code = "uri_too_long"
    status = 414
    title = "URI too long"
    cause = "Path and query together exceed 8 KiB."
    remedy = "Send long values in the body of a call that accepts them."


class HeadersTooLarge(HttpError):
    """The call has more than 64 headers, or more than 16 KiB of headers."""

    code = "headers_too_large"
    status = 431
    title = "Headers too large"
    cause = "The call has more than 64 headers, or more than 16 KiB of headers."
    remedy = "Remove headers, often cookies, that the call does not need."


class BadHttp(HttpError):
    """The HTTP request is not valid."""

    code = "bad_http"
    status = 400
    title = "Bad HTTP request"
    cause = "The HTTP request is malformed, or has a body where the method has none."
    remedy = "Use an HTTP client library. `detail` names the error."


class InternalError(HttpError):
    """An internal error occurred. It was logged."""

    code = "internal_error"
    status = 500
    title = "Internal error"
    cause = "A bug in otpqueue."
    remedy = (
        "Retry with the same `Idempotency-Key`. Give the operator the `X-Request-Id` of the answer: the log "
        "has the cause."
    )
