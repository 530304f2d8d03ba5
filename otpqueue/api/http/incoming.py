"""The incoming body of a call: read on the event loop, within limits and a timeout."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from otpqueue.api.http.errors import BadHttp, BodyTimeout, BodyTooLarge
from otpqueue.api.http.suspension import Suspension

_BYTES_TO_DROP = 1024 * 1024
_SECONDS_TO_DROP = 2.0

Headers = list[tuple[str, str]]


class HttpProtocol(Protocol):
    """What granian passes beside the head: the incoming body, and a way to answer."""

    def __call__(self) -> asyncio.Future[bytes]:
        """Read the whole body."""

    def __aiter__(self) -> HttpProtocol:
        """Start to read the body in pieces."""

    def __anext__(self) -> asyncio.Future[bytes]:
        """Read a piece; an empty one is the last. Raises StopAsyncIteration after it."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer the call. Thread-safe."""


class BodyTimeouts:
    """Ends the reading of bodies that take too long. All have the same timeout, so one timer is enough."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: dict[IncomingBody, float] = {}
        """The first has the earliest deadline."""
        self._is_timed = False

    def add(self, incoming: IncomingBody) -> None:
        """Start the timeout of a body."""
        self._until[incoming] = time.monotonic() + self._seconds
        if not self._is_timed:
            self._time(self._seconds)

    def remove(self, incoming: IncomingBody) -> None:
        """Stop the timeout of a body."""
        del self._until[incoming]

    def _time(self, seconds: float) -> None:
        self._is_timed = True
        asyncio.get_running_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self._is_timed = False
        now = time.monotonic()
        for incoming, until in list(self._until.items()):
            if until > now:
                self._time(until - now)
                return
            incoming.expire()


class IncomingBody:
    """The incoming body of a call.

    A read that takes too long is abandoned, and its connection is closed. It is not certain that granian ends
    a cancelled read, or that hyper closes a connection with an unread body.
    """

    def __init__(self, protocol: HttpProtocol, loop: asyncio.AbstractEventLoop) -> None:
        self._protocol, self._loop = protocol, loop
        self._pieces: HttpProtocol | None = None
        self._suspension: Suspension | None = None
        self._expired = self._ended = False

    async def read(self, length: int | None, *, most: int) -> bytes:
        """Return the body. Raises BodyTooLarge over `most` bytes, BadHttp if incomplete, BodyTimeout."""
        if length is None:
            return await self._collect(most)
        try:
            body = await self._done(self._protocol())
        except ProtocolClosed:
            self._ended = True
            raise BadHttp("The body is shorter than its Content-Length.") from None
        if body is None:
            raise BodyTimeout()
        self._ended = True
        return body

    async def end(self) -> bool:
        """Drop the rest of the body, within limits, after the answer. Return whether it was complete.

        A connection that is closed with unread bytes is reset, and the caller may lose the answer.
        """
        dropped = 0
        timer = self._loop.call_later(_SECONDS_TO_DROP, self.expire)
        while not (self._ended or self._expired) and dropped < _BYTES_TO_DROP:
            dropped += len(await self._next() or b"")
        timer.cancel()
        return self._ended

    def expire(self) -> None:
        """End the wait for the body."""
        self._expired = True
        self._resume()

    async def _collect(self, most: int) -> bytes:
        body = bytearray()
        while not self._ended:
            piece = await self._next()
            if piece is None:
                raise BodyTimeout()
            body += piece
            if len(body) > most:
                raise BodyTooLarge()
        return bytes(body)

    async def _next(self) -> bytes | None:
        if self._pieces is None:
            self._pieces = aiter(self._protocol)
        try:
            piece = await self._done(self._pieces.__anext__())
        except StopAsyncIteration:
            piece = b""
        self._ended = piece == b""
        return piece

    async def _done(self, reading: asyncio.Future[bytes]) -> bytes | None:
        """Return what was read, None after the timeout."""
        if not (reading.done() or self._expired):
            self._suspension = Suspension(self._loop)
            reading.add_done_callback(self._resume)
            await self._suspension
        if reading.done():
            return reading.result()
        reading.cancel()
        return None

    def _resume(self, _reading: object = None) -> None:
        suspension, self._suspension = self._suspension, None
        if suspension:
            suspension.resume()
