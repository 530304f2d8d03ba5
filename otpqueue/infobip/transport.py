"""HTTP to Infobip: pooled, limited in time and size, independent of environment variables.

A call never raises for what a network or server does. It returns an answer, or one of two failures: not
connected, after which a retry is always safe, and no answer, after which it may not be.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Timeout
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationValueError,
    NewConnectionError,
    ReadTimeoutError,
)

from otpqueue.bounded import POOLS
from otpqueue.telemetry import traces
from otpqueue.telemetry.traces import Span, SpanKind

MAX_BODY_BYTES = 64 * 1024
MAX_RETRY_AFTER_S = 86_400.0
"""Upper bound of `Retry-After`. A longer one may exceed the range of a datetime."""


@dataclass(frozen=True, kw_only=True)
class ProviderResponse:
    """A complete HTTP response."""

    status: int
    body: Any = field(repr=False)
    """The parsed JSON body, None if it is not JSON."""
    retry_after_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class NotConnected:
    """No connection was made, so the provider did not receive the call."""

    code: str


@dataclass(frozen=True, kw_only=True)
class NoResponse:
    """The call was sent, and no valid answer arrived. It is unknown what the provider did."""

    code: str


Reply = ProviderResponse | NotConnected | NoResponse


class Transport:
    """HTTP calls to one Infobip account. Thread-safe."""

    def __init__(
        self,
        *,
        base_url: str,
        api_key: str,
        connections: int,
        connect_timeout_s: float,
        timeout_s: float,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._connect_timeout_s, self.timeout_s = connect_timeout_s, timeout_s
        self._server = _describe_server(self._base_url)
        self._adapter = _BoundedAdapter(pool_connections=1, pool_maxsize=connections, max_retries=0)
        self._headers = {
            "Authorization": f"App {api_key}",
            "Accept": "application/json",
            "User-Agent": "otpqueue",
        }

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        timeout_s: float | None = None,
        template: str | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> Reply:
        """Make one call within the timeout (seconds) and return the result.

        An answer of more than `max_bytes` counts as none.

        The call's span records the `template` of the path, because the path may contain secrets. No trace
        headers are sent to the provider.
        """
        name = f"{method} {template}" if template else method
        about = {"http.request.method": method, "url.template": template, **self._server}
        with traces.span(name, kind=SpanKind.CLIENT, attributes=about) as span:
            reply = self._send_request(method, path, body, timeout_s, max_bytes)
            _record_reply(span, reply)
        return reply

    def _send_request(
        self, method: str, path: str, body: object, timeout_s: float | None, max_bytes: int
    ) -> Reply:
        # Preparing the request here costs a third of the CPU of requests.Session.request, and ignores
        # proxies, netrc, cookies and redirects.
        request = requests.PreparedRequest()
        request.method, request.url = method, self._base_url + path
        headers = dict(self._headers)
        if body is not None:
            request.body = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
            headers["Content-Length"] = str(len(request.body))
        elif method == "POST":
            headers["Content-Length"] = "0"
        request.headers = headers  # type: ignore[assignment]
        # urllib3 counts the time to connect and the time to the answer against `total`. requests passes the
        # timeout on unchanged, although its annotations do not allow it.
        timeout: Any = Timeout(connect=self._connect_timeout_s, total=timeout_s or self.timeout_s)
        try:
            with self._adapter.send(request, stream=True, timeout=timeout) as response:
                return _read_answer(response, max_bytes)
        except (requests.RequestException, HTTPError, OSError) as error:
            return _classify_error(error)

    def close(self) -> None:
        """Close the pooled connections."""
        self._adapter.close()


def _describe_server(base_url: str) -> Mapping[str, str | int | None]:
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:  # the call reports an invalid URL
        return {}
    return {"server.address": parts.hostname, "server.port": port or (443 if parts.scheme == "https" else 80)}


def _record_reply(span: Span, reply: Reply) -> None:
    if not isinstance(reply, ProviderResponse):
        span.mark_failed(reply.code)
        return
    span.set_attributes({"http.response.status_code": reply.status})
    if reply.status >= 400:
        span.mark_failed(str(reply.status))


def _read_answer(response: requests.Response, max_bytes: int) -> ProviderResponse | NoResponse:
    try:
        body = response.raw.read(max_bytes + 1, decode_content=True)
    except ValueError:
        return NoResponse(code="connection_cut")  # http.client raises this for a chunk of negative length
    if len(body) > max_bytes:
        return NoResponse(code="answer_too_large")
    return ProviderResponse(
        status=response.status_code,
        body=_parse_json(body),
        retry_after_s=_parse_retry_after(response.raw.headers.get("Retry-After")),
    )


def _parse_json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _parse_retry_after(header: str | None) -> float | None:
    # The date form is not usable, because the two clocks may differ.
    header = header.strip() if header else ""
    return min(float(header), MAX_RETRY_AFTER_S) if header.isascii() and header.isdigit() else None


def _classify_error(error: Exception) -> NotConnected | NoResponse:
    reason: object = error
    if isinstance(error, requests.RequestException) and error.args:
        reason = getattr(error.args[0], "reason", None) or error.args[0]
    # A LocationValueError means a host name that cannot exist.
    if isinstance(reason, NewConnectionError | LocationValueError):
        return NotConnected(code="connection_failed")
    if isinstance(reason, ConnectTimeoutError):
        return NotConnected(code="connect_timeout")
    if isinstance(error, requests.Timeout | TimeoutError | ReadTimeoutError):
        return NoResponse(code="timeout")
    return NoResponse(code="connection_cut")


class _BoundedAdapter(HTTPAdapter):
    """Sends to one server with one TLS configuration, and skips unused work of requests.

    For each call requests looks up proxies and the pool, and parses cookies and the encoding: a third of its
    cost.
    """

    _pool: Any = None
    _verified: Any = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = POOLS

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        if self._pool is None:
            self._pool = super().get_connection_with_tls_context(*args, **kwargs)
        return self._pool

    def cert_verify(self, conn: Any, *args: Any) -> None:
        if conn is not self._verified:
            super().cert_verify(conn, *args)  # type: ignore[no-untyped-call]
            self._verified = conn

    def request_url(self, request: requests.PreparedRequest, *_: Any) -> str:
        return request.path_url

    def build_response(self, _: Any, resp: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.raw = resp.status, resp
        return response

    def close(self) -> None:
        self._pool = self._verified = None
        super().close()
