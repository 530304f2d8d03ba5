"""The bridge between granian and the WSGI application: checks heads and reads bodies before a thread is used.

granian's own WSGI interface reads a body in the thread of its call without a time limit, joins duplicate
headers, and treats `X_Forwarded_Proto` as `X-Forwarded-Proto`. Its RSGI interface passes requests unchanged.
So the head is checked and the body is read here, on the event loop, within limits. Then the application gets
a WSGI environment and a thread. An error is put into that environment: the application answers it like every
other error, with an id, security headers and a log record.

Waking the event loop costs more than its work for a call. So a thread passes its answer to granian directly,
and the coroutine of the call ends when the loop next wakes for another reason.
"""

from __future__ import annotations

import asyncio
import io
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any

from granian.rsgi import Scope

from otpqueue.api.http import sockets
from otpqueue.api.http.errors import BadHttp, BodyTooLarge, HeadersTooLarge, UriTooLong
from otpqueue.api.http.incoming import BodyTimeouts, Headers, HttpProtocol, IncomingBody
from otpqueue.api.http.pools import CallPool, CallPools
from otpqueue.api.http.suspension import Suspension
from otpqueue.domain.errors import OtpqueueError, TooBusy, Unauthenticated
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

REFUSED = "otpqueue.refused"
"""Key of the environment: the OtpqueueError with which the application must reject the call."""

MAX_URL_BYTES = 8 * 1024
MAX_BODY_BYTES = 16 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
LARGE_BODIES = 16
"""How many bodies over 16 KiB are read at a time, to bound the memory."""

UNREAD_ANSWER_S = 30
"""A connection is closed when its peer reads nothing of an answer for this long."""

_ONCE = ("authorization", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding")
_CLOSE_AFTER_S = 1.0
_SECONDS_TO_END = 1.0

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

_BASE: Environ = {
    "SCRIPT_NAME": "",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "wsgi.version": (1, 0),
    "wsgi.multithread": True,
    "wsgi.multiprocess": True,
    "wsgi.run_once": False,
}
_KEYS = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"} | {
    name: f"HTTP_{name.upper().replace('-', '_')}"
    for name in (
        *("accept", "accept-encoding", "accept-language", "authorization", "connection", "cookie", "host"),
        *("idempotency-key", "if-none-match", "origin", "referer", "traceparent", "transfer-encoding"),
        *("user-agent", "x-forwarded-for", "x-forwarded-proto", "x-request-id"),
    )
}
"""Names of common headers in the environment."""


class Bridge:
    """An RSGI application that runs a WSGI application. `large_bodies` are body limits by path, in bytes.

    `refusals` check the `Authorization` header, by path, before the body is read. Each returns why the call
    is not authenticated, None if it is.
    """

    def __init__(
        self,
        app: Wsgi,
        *,
        pools: CallPools,
        body_timeout_s: float,
        large_bodies: dict[str, int],
        refusals: Mapping[str, Callable[[str | None], Unauthenticated | None]] | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._app, self._pools, self._large_bodies, self._at_end = app, pools, large_bodies, at_end
        self._refusals = refusals or {}
        self._timeouts = BodyTimeouts(body_timeout_s)
        self._large_now = 0
        self._has_served = False
        self._to_close: set[str] = set()
        self._answered: deque[_Call] = deque()
        """Calls that threads have answered while their coroutines still wait."""

    def __rsgi_del__(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the threads. granian calls this last, when the loop has stopped."""
        self._pools.end(within_s=_SECONDS_TO_END)
        self._at_end()
        self._end_coroutines(loop)
        loop.run_until_complete(asyncio.sleep(0))

    async def __rsgi__(self, scope: Scope, protocol: HttpProtocol) -> None:
        """Answer a call."""
        loop = asyncio.get_running_loop()
        if not self._has_served:
            self._has_served = True
            sockets.limit_unread_answers(UNREAD_ANSWER_S)
        self._end_coroutines(loop)
        environ, headers = _build_environ(scope), scope.headers.items()
        _add_headers(environ, headers)
        coding = environ.pop("HTTP_TRANSFER_ENCODING", None)
        has_body = coding is not None or "CONTENT_LENGTH" in environ
        incoming, body = IncomingBody(protocol, loop), b""
        # After a body without a length, the next bytes could be misread as a request: RFC 9112, 6.1.
        call = _Call(environ, protocol, self._answer, closes=coding is not None)
        try:
            _check_head(scope, headers, coding)
            self._check_caller(scope.path, environ.get("HTTP_AUTHORIZATION"))
            if has_body:
                body = await self._body(scope.path, incoming, environ.get("CONTENT_LENGTH"))
        except OtpqueueError as error:
            environ[REFUSED], call.closes = error, True
        environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(len(body)), io.BytesIO(body)
        if REFUSED in environ:
            # An error takes no time to answer, so it needs no thread.
            call.answer()
            if has_body and not await incoming.end():
                self._close_later(scope.client)
        elif pool := self._pools.choose_pool(scope.path, scope.query_string):
            call.pool, call.suspension = pool, Suspension(loop)
            pool.put(call)
            await call.suspension
        else:
            call.answer()

    def _end_coroutines(self, loop: asyncio.AbstractEventLoop) -> None:
        while self._answered:
            call = self._answered.popleft()
            if call.pool and call.suspension:
                call.pool.finish()
                loop.call_soon(call.suspension.resume)

    def _check_caller(self, path: str, authorization: str | None) -> None:
        refusal = self._refusals[path](authorization) if path in self._refusals else None
        if refusal is not None:
            raise refusal

    def _close_later(self, peer: str) -> None:
        # A single iteration of all sockets closes several connections.
        if not self._to_close:
            loop = asyncio.get_running_loop()
            loop.call_later(_CLOSE_AFTER_S, loop.run_in_executor, None, self._close_all)
        self._to_close.add(peer)

    def _close_all(self) -> None:
        peers, self._to_close = self._to_close, set()
        sockets.close_connections(peers)

    def _answer(self, call: _Call) -> None:
        status, answered = 500, Headers()

        def start(line: str, headers: Headers, _exc_info: object = None) -> None:
            nonlocal status, answered
            status, answered = int(line[:3]), list(headers)

        # granian sets its own name unless the header is set.
        ending = [("Connection", "close"), ("Server", "")] if call.closes else [("Server", "")]
        try:
            text = b"".join(self._app(call.environ, start))
            call.protocol.response_bytes(status, answered + ending, text)
        except Exception:
            # The application answers its own errors. After any other error the caller still needs an answer.
            log.exception("internal_error")
            call.protocol.response_bytes(500, ending, b"")
        if call.suspension:
            self._answered.append(call)

    async def _body(self, path: str, incoming: IncomingBody, given_length: str | None) -> bytes:
        most, length = self._large_bodies.get(path, MAX_BODY_BYTES), _parse_length(given_length)
        if length is not None and length > most:
            raise BodyTooLarge()
        is_large = most > MAX_BODY_BYTES and (length is None or length > MAX_BODY_BYTES)
        if is_large and self._large_now >= LARGE_BODIES:
            raise TooBusy(retry_after_s=1)
        self._large_now += is_large
        self._timeouts.add(incoming)
        try:
            return await incoming.read(length, most=most)
        finally:
            self._timeouts.remove(incoming)
            self._large_now -= is_large


class _Call:
    """A call with its whole body, or with an error."""

    __slots__ = ("_answer", "_unclaimed", "closes", "environ", "pool", "protocol", "suspension")

    def __init__(
        self, environ: Environ, protocol: HttpProtocol, answer: Callable[[_Call], None], *, closes: bool
    ) -> None:
        self.environ, self.protocol, self._answer = environ, protocol, answer
        self.closes = closes
        """Whether the connection is closed after the answer."""
        self.pool: CallPool | None = None
        self.suspension: Suspension | None = None
        """Suspension of the coroutine while a pool has the call."""
        self._unclaimed = [True]

    def claim(self) -> bool:
        """Return True once."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def answer(self, *, timed_out: bool = False) -> None:
        """Answer the call, with an error if it was queued for too long."""
        if timed_out:
            self.environ[REFUSED] = TooBusy(retry_after_s=1)
        self._answer(self)


def _check_head(scope: Scope, headers: Headers, coding: str | None) -> None:
    if len(scope.path) + len(scope.query_string) > MAX_URL_BYTES:
        raise UriTooLong()
    if len(headers) > MAX_HEADERS or sum(map(len, chain.from_iterable(headers))) > MAX_HEADER_BYTES:
        raise HeadersTooLarge()
    names = {name for name, _ in headers}
    if len(names) < len(headers):
        _reject_duplicates(headers)
    # granian omits a header with a value that is not ASCII, but counts its name.
    if len(names) < len(scope.headers):  # type: ignore[arg-type]
        raise BadHttp("A header contains characters that are not ASCII.")
    if "host" not in names and scope.http_version == "1.1":
        raise BadHttp("The header Host is missing.")
    if coding is not None and coding.strip().lower() != "chunked":
        raise BadHttp("`chunked` is the only supported transfer coding.")


def _reject_duplicates(headers: Headers) -> None:
    names = [name for name, _ in headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise BadHttp(f"The header {name} was sent more than once.")


def _parse_length(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise BadHttp("The Content-Length is not a number.")
    return int(text)


def _build_environ(scope: Scope) -> Environ:
    address, _, port = scope.server.rpartition(":")
    return {
        **_BASE,
        "REQUEST_METHOD": scope.method,
        "PATH_INFO": scope.path.encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": address.strip("[]"),
        "SERVER_PORT": port,
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
    }


def _add_headers(environ: Environ, headers: Headers) -> None:
    for name, value in headers:
        key = _KEYS.get(name)
        if key is None:
            # An environment cannot distinguish `X_Forwarded_Proto` from `X-Forwarded-Proto`. Proxies drop it.
            if "_" in name:
                continue
            key = f"HTTP_{name.upper().replace('-', '_')}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
