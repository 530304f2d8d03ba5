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
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any, Protocol

from granian.rsgi import Scope

from otpqueue.api import sockets
from otpqueue.api.bodies import MAX_BODY_BYTES
from otpqueue.domain.errors import Unauthenticated

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
_BYTES_TO_DROP = 1024 * 1024
_SECONDS_TO_DROP = 2.0
_CUT_AFTER_S = 1.0

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
    """An RSGI application over a WSGI one. `large_bodies` are bounds of single paths, in bytes.

    `refusals` judge the `Authorization` of single paths before anything of the body is read: each returns why
    the call is not authenticated, None if it is.
    """

    def __init__(
        self,
        app: Wsgi,
        *,
        threads: int,
        body_timeout_s: float,
        large_bodies: dict[str, int],
        refusals: Mapping[str, Callable[[str | None], str | None]] | None = None,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._app, self._body_timeout_s, self._large_bodies = app, body_timeout_s, large_bodies
        self._at_end, self._refusals = at_end, refusals or {}
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="call")
        self._large = asyncio.Semaphore(LARGE_BODIES)
        self._has_served = False
        self._to_cut: set[str] = set()

    def __rsgi_del__(self, _loop: asyncio.AbstractEventLoop) -> None:
        """Let the threads end; granian calls this last."""
        self._threads.shutdown(wait=False)
        self._at_end()

    async def __rsgi__(self, scope: Scope, protocol: HttpProtocol) -> None:
        """Answer one call."""
        if not self._has_served:
            self._has_served = True
            sockets.limit_unread_answers(UNREAD_ANSWER_S)
        headers = scope.headers.items()
        names = Counter(name for name, _ in headers)
        has_body = "content-length" in names or "transfer-encoding" in names
        environ, incoming, body, refusal = _environ(scope, headers), _Incoming(protocol), b"", None
        try:
            _judge_head(scope, headers, names)
            self._judge_caller(scope.path, environ.get("HTTP_AUTHORIZATION"))
            if has_body:
                body = await self._body(scope, incoming, environ)
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
        if refusal and has_body and not await incoming.end():
            self._cut(scope.client)

    def _judge_caller(self, path: str, authorization: str | None) -> None:
        refusal = self._refusals[path](authorization) if path in self._refusals else None
        if refusal is not None:
            raise _Refusal(Unauthenticated.code, refusal)

    def _cut(self, peer: str) -> None:
        # One look at all sockets serves all that are to be cut.
        if not self._to_cut:
            loop = asyncio.get_running_loop()
            loop.call_later(_CUT_AFTER_S, loop.run_in_executor, self._threads, self._cut_all)
        self._to_cut.add(peer)

    def _cut_all(self) -> None:
        peers, self._to_cut = self._to_cut, set()
        sockets.cut(peers)

    def _call(self, environ: Environ) -> Answer:
        status, answered = 500, Headers()

        def start(line: str, headers: Headers, _exc_info: object = None) -> None:
            nonlocal status, answered
            status, answered = int(line[:3]), list(headers)

        parts = self._app(environ, start)
        return status, answered, b"".join(parts)

    async def _body(self, scope: Scope, incoming: _Incoming, environ: Environ) -> bytes:
        most = self._large_bodies.get(scope.path, MAX_BODY_BYTES)
        length = _length(environ)
        if length is not None and length > most:
            raise _Refusal("body_too_large")
        is_large = most > MAX_BODY_BYTES and (length is None or length > MAX_BODY_BYTES)
        if is_large and self._large.locked():
            raise _Refusal("too_busy")
        async with self._large if is_large else nullcontext():
            body = await incoming.read(most, seconds=self._body_timeout_s)
        if length is not None and len(body) < length:
            raise _Refusal("bad_http", "The body is shorter than its Content-Length.")
        return body


class _Incoming:
    """The body of one call as it comes in.

    Reading is a task that is waited for, not awaited, and a connection with bytes unread is cut: whether
    granian ends a read that is cancelled, and hyper a connection whose body nobody wants, is not certain.
    """

    def __init__(self, protocol: HttpProtocol) -> None:
        self._protocol = protocol
        self._pieces: AsyncIterator[bytes] | None = None
        self._task: asyncio.Task[bytes] | None = None
        self._ended = False

    async def read(self, most: int, *, seconds: float) -> bytes:
        """Return the body. Raises _Refusal when it is over `most` bytes, or not there in time."""
        if not await self._run(self._collect(most), seconds=seconds):
            raise _Refusal("body_timeout")
        assert self._task is not None  # noqa: S101 - for mypy
        return self._task.result()

    async def end(self) -> bool:
        """Take what still comes, within bounds, after the answer: return whether that was all.

        A connection that is closed with bytes unread takes the answer with it on its way to the caller.
        """
        if self._task is None or self._task.done():
            await self._run(self._drop(), seconds=_SECONDS_TO_DROP)
        return self._ended

    async def _run(self, reading: Coroutine[Any, Any, bytes], *, seconds: float) -> bool:
        self._task = asyncio.get_running_loop().create_task(reading)
        # What became of it is asked for, or does not matter any more; asyncio would report it.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        if not done:
            self._task.cancel()
        return bool(done)

    async def _collect(self, most: int) -> bytes:
        body = bytearray()
        while piece := await self._next():
            body += piece
            if len(body) > most:
                raise _Refusal("body_too_large")
        return bytes(body)

    async def _drop(self) -> bytes:
        dropped = 0
        while not self._ended and dropped < _BYTES_TO_DROP:
            piece = await self._next()
            dropped += len(piece)
        return b""

    async def _next(self) -> bytes:
        if self._pieces is None:
            self._pieces = aiter(self._protocol)
        piece = await anext(self._pieces, b"")
        self._ended = not piece
        return piece


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
