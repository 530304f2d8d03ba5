"""What every call gets: a request id, one log record, safe headers."""

from __future__ import annotations

import re
import time

import falcon
import structlog
from uuid_utils.compat import uuid7

from otpqueue.logs import get_logger

log = get_logger(__name__)

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Takes `X-Request-Id` or makes one, binds it to the logs, and answers with it."""

    def process_request(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Bind the id before anything is logged."""
        given = req.get_header("X-Request-Id") or ""
        request_id = given if _REQUEST_ID.fullmatch(given) else str(uuid7())
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        resp.set_header("X-Request-Id", request_id)
        req.context.started = time.monotonic()

    def process_response(
        self, req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Log the call by its route, which holds no id, and never its query."""
        if (req.uri_template or "").startswith("/health"):
            return
        log.info(
            "http_request",
            method=req.method,
            route=req.uri_template,
            status=resp.status_code,
            duration_ms=round((time.monotonic() - req.context.started) * 1000, 1),
        )


class SafeHeaders:
    """Headers that keep answers out of caches and frames; a page sets its own Content-Security-Policy."""

    def process_response(
        self, _req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Set what is not set."""
        for name, value in (
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'"),
        ):
            if not resp.get_header(name):
                resp.set_header(name, value)
