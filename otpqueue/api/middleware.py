"""What every call gets: an id, a log record, metrics, security headers, and checks of its HTTP request.

One object does all of it, since it runs for each call.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any

import falcon
from uuid_utils.compat import uuid7

from otpqueue.api import problems, ratelimit
from otpqueue.api.endpoints import ApiEndpoint
from otpqueue.api.http.bridge import MAX_URL_BYTES, REFUSED
from otpqueue.api.http.errors import BadHttp, HeadersTooLarge, HttpsRequired, PathNotFound, UriTooLong
from otpqueue.api.http.peers import Peers
from otpqueue.api.reading import mask_name
from otpqueue.api.validation_messages import describe_unknown_name
from otpqueue.console.authentication import HOME
from otpqueue.domain.errors import FieldError, InvalidRequest, OtpqueueError
from otpqueue.operations.admission import counted_limits
from otpqueue.telemetry import logs, metrics
from otpqueue.telemetry.traces import NO_SPAN, Span, SpanKind, Tracer

log = logs.get_logger(__name__)

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_TRACED = ("/health", "/metrics")
"""Probes and scrapes, which would be most of the traces."""
_SAFE_HEADERS = (
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
)
"""They keep answers out of caches and frames. A page sets a Content-Security-Policy of its own."""


class CallMiddleware:
    """The middleware.

    If `https_required`, plain HTTP is rejected: a redirect would come after the body was sent unencrypted.
    Resources that are `open_to_http` still answer, for load balancers that probe by HTTP. `endpoints` are the
    calls of the API; other paths accept any query.
    """

    def __init__(
        self,
        peers: Peers,
        *,
        tracer: Tracer | None = None,
        https_required: bool = False,
        open_to_http: tuple[type, ...] = (),
        endpoints: Iterable[ApiEndpoint] = (),
    ) -> None:
        self._peers, self._tracer = peers, tracer
        self._endpoints = {(one.method, one.path): one for one in endpoints}
        self._https_required, self._open_to_http = https_required, open_to_http

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Begin the call. Checks come last: an error is logged, and has an id and security headers."""
        context = req.context
        context.started = time.monotonic()
        metrics.change_gauge(metrics.HTTP_IN_FLIGHT, 1)
        if self._tracer:
            context.span = _begin_span(self._tracer, req)
        given = req.env.get("HTTP_X_REQUEST_ID", "")
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7())
        logs.begin_call(request_id=request_id)
        resp.set_header("X-Request-Id", request_id)
        resp.set_headers(_SAFE_HEADERS)
        counted_limits.clear_counted_limits()
        context.peer = peer = self._peers.find_peer(req)
        if self._https_required and peer.https:
            # Browsers ignore it over plain HTTP: RFC 6797, 7.2.
            resp.set_header("Strict-Transport-Security", "max-age=31536000")
        _check_head(req)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Reject a call that is not well-formed, in the format of its endpoint."""
        req.context.endpoint = endpoint = self._endpoints.get((req.method, req.uri_template or ""))
        error: OtpqueueError | None = None
        if (
            self._https_required
            and not req.context.peer.https
            and not isinstance(resource, self._open_to_http)
        ):
            error = HttpsRequired()
        error = error or req.env.get(REFUSED) or _check_body(req) or _check_parameters(req, endpoint)
        if error is not None:
            problems.reject_call(resource, resp, error)
        elif req.method not in falcon.HTTP_METHODS:
            # Falcon would answer 400, but 405 to other methods that the path does not support.
            raise falcon.HTTPMethodNotAllowed(_list_methods(resource))

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _ok: bool
    ) -> None:
        """End the call, also after an error."""
        took_s = time.monotonic() - req.context.started
        route, status = req.uri_template, resp.status_code
        try:
            ratelimit.set_headers(resp, counted_limits.counted_limits())
            # The route has no id in it. The query is never logged.
            if not (route or "").startswith("/health"):
                log.info(
                    "http_request",
                    method=_mask_method(req),
                    route=route,
                    status=status,
                    peer=req.context.peer.network,
                    duration_ms=round(took_s * 1000, 1),
                )
        finally:
            logs.end_call()
            if self._tracer:
                _end_span(req.context.span, req, resp)
            method = req.method if req.method in _METHODS else "other"
            metrics.change_gauge(metrics.HTTP_IN_FLIGHT, -1)
            metrics.count(metrics.HTTP_REQUESTS, method, route or "unmatched", str(status))
            # A caller that tries all methods on all paths must not create a histogram for each.
            if resource is not None and status != 405:
                metrics.observe(metrics.HTTP_DURATION, took_s, method, route or "unmatched")


def _mask_method(req: falcon.Request) -> str:
    """Return the method of a call for logs and traces: an unknown one may contain anything."""
    return req.method if req.method in falcon.HTTP_METHODS else "_OTHER"


def _list_methods(resource: object) -> list[str]:
    """Return the methods for `Allow`. Falcon itself answers OPTIONS."""
    own = (method for method in falcon.HTTP_METHODS if hasattr(resource, f"on_{method.lower()}"))
    return sorted({"OPTIONS", *own})


def _check_parameters(req: falcon.Request, endpoint: ApiEndpoint | None) -> InvalidRequest | None:
    """Return an error for unknown query parameters, except of an open call."""
    if endpoint is None or endpoint.access.is_open or not req.params:
        return None
    unknown = sorted(set(req.params) - endpoint.query_names)
    if not unknown:
        return None
    return InvalidRequest(
        [
            FieldError(mask_name(name), describe_unknown_name(name, endpoint.query_names, what="parameter"))
            for name in unknown
        ]
    )


def _begin_span(tracer: Tracer, req: falcon.Request) -> Span:
    """Start a span, which continues the caller's trace if the call has a `traceparent`."""
    # Named by method and, later, route: path and query may contain anything.
    method = _mask_method(req)
    span = NO_SPAN
    if not req.path.startswith(_NOT_TRACED):
        span = tracer.start_span(
            method,
            kind=SpanKind.SERVER,
            parent=req.get_header("traceparent"),
            attributes={"http.request.method": method},
        )
    return span.__enter__()


def _end_span(span: Span, req: falcon.Request, resp: falcon.Response) -> None:
    peer, problem = getattr(req.context, "peer", None), getattr(resp.context, "problem", None)
    if req.uri_template:
        span.set_name(f"{_mask_method(req)} {req.uri_template}")
    span.set_attributes(
        {
            "http.route": req.uri_template,
            "http.response.status_code": resp.status_code,
            "url.scheme": ("https" if peer.https else "http") if peer else None,
            "otpqueue.problem": problem,
        }
    )
    if resp.status_code >= 500:
        span.mark_failed(problem or str(resp.status_code))
    span.__exit__(None, None, None)


def _check_head(req: falcon.Request) -> None:
    """Reject a URL or headers that are too long, and a path that does not exist, whatever the method."""
    if len(req.path) + len(req.query_string) > MAX_URL_BYTES:
        raise UriTooLong
    error = req.env.get(REFUSED)
    if isinstance(error, UriTooLong | HeadersTooLarge):
        raise error
    if req.path == f"{HOME}/":
        raise falcon.HTTPFound(HOME)  # a common typing error
    # The router ignores some slashes, which a proxy in front of the API may not.
    if "//" in req.path or (req.path.endswith("/") and req.path != "/"):
        raise PathNotFound()


def _check_body(req: falcon.Request) -> BadHttp | None:
    if req.method in {"POST", "PUT", "PATCH"}:
        return None
    if not (req.content_length or req.get_header("Transfer-Encoding")):
        return None
    return BadHttp(f"A {req.method} call has no body.")
