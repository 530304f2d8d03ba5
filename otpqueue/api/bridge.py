"""Between granian and the application: what is decided about a call before it may have a thread.

granian's own WSGI interface reads a body in the thread of its call, for as long as the caller likes to take,
joins headers that came twice, and takes `X_Forwarded_Proto` for `X-Forwarded-Proto`. Its RSGI interface
hands over what came. So the head is judged and the body is read here, on the event loop, within bounds; then
the application gets a WSGI environment and a thread. What must be refused is put into that environment: the
application answers it like every other refusal, with an id, safe headers and a record.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from granian.rsgi import Scope

from otpqueue.api.bodies import MAX_BODY_BYTES

REFUSED = "otpqueue.refused"
"""Where the application finds why a call must be refused: a code of `problems.KINDS` and a detail."""

MAX_URL_BYTES = 8 * 1024
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
LARGE_BODIES = 16
"""So many bodies over 16 KiB are read at a time: unread reports must not fill the memory."""

UNREAD_ANSWER_S = 30
"""A connection whose peer takes nothing of what we send for so long is cut."""

_ONCE = ("authorization", "content-length", "content-type", "host", "idempotency-key", "transfer-encoding")
_BYTES_READ_AND_DROPPED = 1024 * 1024
_SECONDS_TO_DROP_THEM = 2.0

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]
Answer = tuple[int, list[tuple[str, str]], bytes]
Headers = list[tuple[str, str]]


class HttpProtocol(Protocol):
    """What granian hands over beside the head: the body as it comes, and where the answer goes."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer."""


class _Refusal(Exception):
    def __init__(self, code: str, detail: str | None = None) -> None:
        self.code, self.detail = code, detail
        super().__init__(code)


class Bridge:
    """An RSGI application over a WSGI one. `large_bodies` are bounds of single paths, in bytes."""

    def __init__(
        self, app: Wsgi, *, threads: int, body_timeout_s: float, large_bodies: dict[str, int]
    ) -> None:
        self._app, self._body_timeout_s, self._large_bodies = app, body_timeout_s, large_bodies
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._large = asyncio.Semaphore(LARGE_BODIES)
        self._has_served = False

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        """Let the threads end; granian calls this last."""
        self._threads.shutdown(wait=False)

    async def __rsgi__(self, scope: Scope, protocol: HttpProtocol) -> None:
        """Answer one call."""
        if not self._has_served:
            self._has_served = True
            limit_unread_answers(UNREAD_ANSWER_S)
        headers = scope.headers.items()
        names = Counter(name for name, _ in headers)
        environ, body, refusal = _environ(scope, headers), b"", None
        try:
            _judge_head(scope, headers, names)
            if "content-length" in names or "transfer-encoding" in names:
                body = await self._body(scope, protocol, environ)
        except _Refusal as reason:
            refusal = reason
            environ[REFUSED] = (reason.code, reason.detail)
        environ["CONTENT_LENGTH"], environ["wsgi.input"] = str(len(body)), io.BytesIO(body)
        loop = asyncio.get_running_loop()
        status, answered, text = await loop.run_in_executor(self._threads, self._call, environ)
        # After a body without a length the next bytes may be meant as something else: RFC 9112, 6.1.
        if refusal or "transfer-encoding" in names:
            answered.append(("Connection", "close"))
        # granian names itself unless something else stands there.
        answered.append(("Server", ""))
        protocol.response_bytes(status, answered, text)
        if refusal:
            await _drop_the_rest(protocol)

    def _call(self, environ: Environ) -> Answer:
        status, answered = 500, Headers()

        def start(line: str, headers: Headers, _exc_info: object = None) -> None:
            nonlocal status, answered
            status, answered = int(line[:3]), list(headers)

        parts = self._app(environ, start)
        return status, answered, b"".join(parts)

    async def _body(self, scope: Scope, protocol: HttpProtocol, environ: Environ) -> bytes:
        most = self._large_bodies.get(scope.path, MAX_BODY_BYTES)
        length = _length(environ)
        if length is not None and length > most:
            raise _Refusal("body_too_large")
        try:
            async with asyncio.timeout(self._body_timeout_s):
                body = await self._read(protocol, most, length)
        except TimeoutError:
            raise _Refusal("body_timeout") from None
        if length is not None and len(body) < length:
            raise _Refusal("bad_http", "The body is shorter than its Content-Length.")
        return body

    async def _read(self, protocol: HttpProtocol, most: int, length: int | None) -> bytes:
        if most <= MAX_BODY_BYTES or (length is not None and length <= MAX_BODY_BYTES):
            return await _collect(protocol, most)
        if self._large.locked():
            raise _Refusal("too_busy")
        async with self._large:
            return await _collect(protocol, most)


def _judge_head(scope: Scope, headers: Headers, names: Counter[str]) -> None:
    if len(scope.path) + len(scope.query_string) > MAX_URL_BYTES:
        raise _Refusal("uri_too_long")
    size = sum(len(name) + len(value) for name, value in headers)
    if len(headers) > MAX_HEADERS or size > MAX_HEADER_BYTES:
        raise _Refusal("headers_too_large")
    for name in _ONCE:
        if names[name] > 1:
            raise _Refusal("bad_http", f"The header {name} came more than once.")
    # granian leaves a value that is no ASCII out, but not its name.
    if set(scope.headers.keys()) != set(names):
        raise _Refusal("bad_http", "A header holds characters that are not ASCII.")
    if scope.http_version == "1.1" and not names["host"]:
        raise _Refusal("bad_http", "The header Host is missing.")
    coding = next((value for name, value in headers if name == "transfer-encoding"), "chunked")
    if coding.strip().lower() != "chunked":
        raise _Refusal("bad_http", "Of transfer codings only `chunked` is understood.")


def _length(environ: Environ) -> int | None:
    text = environ.get("CONTENT_LENGTH")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise _Refusal("bad_http", "The Content-Length is not a length.")
    return int(text)


async def _collect(protocol: HttpProtocol, most: int) -> bytes:
    body = bytearray()
    async for piece in protocol:
        body += piece
        if len(body) > most:
            raise _Refusal("body_too_large")
    return bytes(body)


async def _drop_the_rest(protocol: HttpProtocol) -> None:
    # A connection that is closed with bytes unread takes the answer with it on its way to the caller.
    dropped = 0
    try:
        async with asyncio.timeout(_SECONDS_TO_DROP_THEM):
            async for piece in protocol:
                dropped += len(piece)
                if dropped > _BYTES_READ_AND_DROPPED:
                    return
    except TimeoutError:
        return


def _environ(scope: Scope, headers: Headers) -> Environ:
    address, _, port = scope.server.rpartition(":")
    environ: Environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": scope.path.encode("utf-8", "replace").decode("latin-1"),
        "QUERY_STRING": scope.query_string,
        "SERVER_NAME": address.strip("[]"),
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers:
        # In a WSGI environment `X_Forwarded_Proto` and `X-Forwarded-Proto` are one: proxies drop the former.
        if "_" in name:
            continue
        key = name.upper().replace("-", "_")
        key = key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    # The body is whole when the application gets it.
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    return environ


def limit_unread_answers(seconds: int) -> None:
    """Have the kernel cut connections of this process's servers whose peers take nothing for `seconds`.

    granian opens its sockets itself and has no option for it. Connections inherit the listener's; Linux
    alone has one, tcp(7).
    """
    if sys.platform != "linux":
        return
    found = [sock for sock in map(_socket, os.listdir("/proc/self/fd")) if sock is not None]  # noqa: PTH208
    try:
        ours = [sock for sock in found if sock.family in {socket.AF_INET, socket.AF_INET6}]
        ports = {
            sock.getsockname()[1] for sock in ours if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        }
        for sock in ours:
            if sock.type == socket.SOCK_STREAM and sock.getsockname()[1] in ports:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)
    finally:
        for sock in found:
            sock.close()


def _socket(descriptor: str) -> socket.socket | None:
    try:
        copy = os.dup(int(descriptor))
    except OSError:  # closed since it was listed
        return None
    try:
        return socket.socket(fileno=copy)
    except OSError:  # no socket
        os.close(copy)
        return None
