"""The endpoints of a worker, on a port of its own: `/metrics`, and `/health/live` for probes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from http import HTTPStatus
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from otpqueue.telemetry import metrics_page
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_IDLE_TIMEOUT_S = 5.0
"""A connection without data for this long is closed."""

_METRICS_PATH = "/metrics"
LIVE_PATH = "/health/live"


class _MetricsServer(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _IDLE_TIMEOUT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
        """Do not log scrapes."""


class Exposition:
    """Serves the metrics of this process over HTTP to callers with the bearer token.

    `/health/live` needs no token, because probes of an orchestrator have none. It answers while the process
    runs. The API's `/health` reports whether the worker reaches Postgres and the broker.
    """

    def __init__(self, *, host: str, port: int, token: str) -> None:
        self._host, self._port, self._token = host, port, token

    def start(self) -> None:
        """Start to serve in threads that end with the process.

        A port that is not available is logged and does not stop the worker.
        """
        try:
            server = make_server(
                self._host,
                self._port,
                self._handle_request,
                server_class=_MetricsServer,
                handler_class=_Handler,
            )
        except OSError as error:
            # Not a bug, so no traceback.
            log.error("metrics_not_served", port=self._port, why=error.strerror)  # noqa: TRY400
            return
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

    def _handle_request(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        status, body, more = HTTPStatus.OK, b"", []
        if environ["PATH_INFO"] not in {_METRICS_PATH, LIVE_PATH}:
            status = HTTPStatus.NOT_FOUND
        elif environ["REQUEST_METHOD"] != "GET":
            status, more = HTTPStatus.METHOD_NOT_ALLOWED, [("Allow", "GET")]
        elif environ["PATH_INFO"] == _METRICS_PATH:
            if metrics_page.is_valid_token(environ.get("HTTP_AUTHORIZATION"), self._token):
                body = metrics_page.render_page()
            else:
                status, more = HTTPStatus.UNAUTHORIZED, [("WWW-Authenticate", "Bearer")]
        headers = [("Content-Type", metrics_page.CONTENT_TYPE), ("Content-Length", str(len(body)))]
        start(f"{status.value} {status.phrase}", headers + more)
        return [body]
