"""What every call gets: a request id, one log record, safe headers, and a look at how it came."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any

import falcon
from uuid_utils.compat import uuid7

from otpqueue import logs, metrics
from otpqueue.api import problems
from otpqueue.api.bodies import shown_name
from otpqueue.api.bridge import MAX_URL_BYTES, REFUSED
from otpqueue.api.peers import Peers
from otpqueue.api.problems import Refused
from otpqueue.console.door import HOME
from otpqueue.domain.errors import FieldError, InvalidRequest, TooBusy
from otpqueue.traces import NO_SPAN, Kind, Tracer

log = logs.get_logger(__name__)

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Measured:
    """Counts and times every call. First in the row, since the last to see an answer."""

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Begin."""
        req.context.measured_from = time.monotonic()
        metrics.change(metrics.HTTP_IN_FLIGHT, 1)

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _ok: bool
    ) -> None:
        """Count the call by its route, its method and its status, all of which we know beforehand."""
        metrics.change(metrics.HTTP_IN_FLIGHT, -1)
        route = req.uri_template or "unmatched"
        method = req.method if req.method in _METHODS else "other"
        metrics.count(metrics.HTTP_REQUESTS, method, route, str(resp.status_code))
        # Else whoever tries all methods on all paths would fill a histogram each.
        if resource is not None and resp.status_code != 405:
            took_s = time.monotonic() - req.context.measured_from
            metrics.observe(metrics.HTTP_DURATION, took_s, method, route)


_WATCHING = ("/health", "/metrics")
"""Probes and scrapes are not traced: nobody asks what became of one."""


class Traced:
    """Makes each call a span, which goes on with the caller's trace if the call brings a `traceparent`.

    By its method and route: path and query may hold anything. Stands first, so that all else is within it.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Begin the span."""
        method = req.method if req.method in falcon.HTTP_METHODS else "_OTHER"
        span = NO_SPAN
        if not req.path.startswith(_WATCHING):
            span = self._tracer.begin(
                method,
                kind=Kind.SERVER,
                parent=req.get_header("traceparent"),
                attributes={"http.request.method": method},
            )
        req.context.span = span
        span.__enter__()

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Say what became of the call, and end the span."""
        span, peer = req.context.span, getattr(req.context, "peer", None)
        route, problem = req.uri_template, getattr(resp.context, "problem", None)
        if route:
            span.name(f"{req.method} {route}")
        span.note(
            {
                "http.route": route,
                "http.response.status_code": resp.status_code,
                "url.scheme": ("https" if peer.https else "http") if peer else None,
                "otpqueue.problem": problem,
            }
        )
        if resp.status_code >= 500:
            span.fail(problem or str(resp.status_code))
        span.__exit__(None, None, None)


class RequestId:
    """Takes `X-Request-Id` or makes one, binds it to the logs, and answers with it."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Bind the id before anything is logged."""
        given = req.get_header("X-Request-Id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7())
        logs.begin_call(request_id=request_id)
        resp.set_header("X-Request-Id", request_id)
        req.context.started = time.monotonic()

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Log the call by its route, which holds no id, and never its query."""
        if not (req.uri_template or "").startswith("/health"):
            log.info(
                "http_request",
                method=req.method,
                route=req.uri_template,
                status=resp.status_code,
                peer=req.context.peer.network,
                duration_ms=round((time.monotonic() - req.context.started) * 1000, 1),
            )
        logs.end_call()


class SafeHeaders:
    """Headers that keep answers out of caches and frames; a page sets its own Content-Security-Policy."""

    def process_response(
        self, _req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Set what is not set."""
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            (
                "Content-Security-Policy",
                "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            ),
            ("Cross-Origin-Opener-Policy", "same-origin"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
        ):
            if not resp.get_header(name):
                resp.set_header(name, value)


class Https:
    """Refuses what came by plain HTTP, if `required`; a redirect would come after the body came in clear.

    What is `open_to` all is answered: probes of a load balancer come past it and carry nothing.
    """

    def __init__(self, peers: Peers, *, required: bool, open_to: tuple[type, ...]) -> None:
        self._peers, self._required, self._open_to = peers, required, open_to

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Find out who calls."""
        req.context.peer = self._peers.of(req)

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Refuse plain HTTP."""
        if self._required and not req.context.peer.https and not isinstance(resource, self._open_to):
            problems.refuse(resource, resp, Refused("https_required"))

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Tell browsers to come by HTTPS for a year. By plain HTTP that means nothing: RFC 6797, 7.2."""
        if self._required and req.context.peer.https:
            resp.set_header("Strict-Transport-Security", "max-age=31536000")


class WellFormed:
    """Refuses what no call of ours looks like.

    `parameters` are the query parameters of each call that has a contract, by method and path template.
    """

    def __init__(self, parameters: Mapping[tuple[str, str], frozenset[str]]) -> None:
        self._parameters = parameters

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        """Refuse what is too long whatever it asks for."""
        # A method that nobody knows is answered as one that no path takes. Its name may hold anything.
        if req.method not in falcon.HTTP_METHODS:
            req.method = "TRACE"
        code, _ = req.env.get(REFUSED, (None, None))
        if len(req.path) + len(req.query_string) > MAX_URL_BYTES:
            code = "uri_too_long"
        if code in {"uri_too_long", "headers_too_large"}:
            raise Refused(code)
        if req.path == f"{HOME}/":
            raise falcon.HTTPFound(HOME)  # typed by people
        # The router takes no notice of some slashes; what stands before us may.
        if "//" in req.path or (req.path.endswith("/") and req.path != "/"):
            raise Refused("not_found")

    def process_resource(
        self, req: falcon.Request, resp: falcon.Response, resource: object, _params: dict[str, Any]
    ) -> None:
        """Refuse the rest, in the resource's own words where it has some."""
        error = _refused_before(req) or _needless_body(req) or self._unknown_parameters(req)
        if error is not None:
            problems.refuse(resource, resp, error)

    def _unknown_parameters(self, req: falcon.Request) -> InvalidRequest | None:
        known = self._parameters.get((req.method, req.uri_template or ""))
        unknown = sorted(set(req.params) - known) if known is not None else []
        if not unknown:
            return None
        return InvalidRequest(
            [FieldError(shown_name(name), "is not a parameter of this call") for name in unknown]
        )


def _refused_before(req: falcon.Request) -> Refused | TooBusy | None:
    code, detail = req.env.get(REFUSED, (None, None))
    if code == TooBusy.code:
        return TooBusy(retry_after_s=1)
    return Refused(code, detail) if code else None


def _needless_body(req: falcon.Request) -> Refused | None:
    given = req.content_length or req.get_header("Transfer-Encoding")
    if req.method in {"POST", "PUT", "PATCH"} or not given:
        return None
    return Refused("bad_http", f"A {req.method} has no body here.")
