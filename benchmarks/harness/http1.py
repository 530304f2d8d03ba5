"""A load generator: many keep-alive connections in one thread, HTTP/1.1 written by hand.

It shares the machine with what it measures, so it does as little as it can: one epoll loop, requests that are
bytes already, answers of which only the status and the length are read.
"""

from __future__ import annotations

import math
import re
import select
import socket
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

Requests = Iterator[bytes]
OnAnswer = Callable[[bytes, int, bytes, float, float], None]
"""Gets the request, the status, the body, and when the request left and the answer came (monotonic clock)."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_PATIENCE_S = 60
_IDLE_S = 0.005
"""How long `driven` waits for an answer before it asks for more requests."""


class LoadFailed(Exception):
    """The server cannot be measured: it refused, or did not answer."""


@dataclass
class Load:
    """What became of a run of requests."""

    statuses: Counter[int] = field(default_factory=Counter)
    took_s: list[float] = field(default_factory=list)
    """Of each answered request."""
    in_time: int = 0
    """Requests of the expected status that were answered within the measured time."""
    seconds: float = 0
    """The measured time; requests in flight at its end are answered after it."""
    cpu_s: float = 0
    """What the load generator itself used, in all."""
    expected: int = 202

    @property
    def answered(self) -> int:
        """How many were answered as expected, those after the measured time among them."""
        return self.statuses[self.expected]

    @property
    def per_s(self) -> float:
        """Requests a second that were answered as expected."""
        return self.in_time / self.seconds

    @property
    def failed(self) -> dict[int, int]:
        """How many were answered otherwise, by status; 0 is a connection that was closed instead."""
        return {status: count for status, count in self.statuses.items() if status != self.expected}

    def ms(self, quantile: float) -> float:
        """Return how many milliseconds an answer took; `quantile` is 0.5 for the median."""
        return quantile_of(self.took_s, quantile) * 1000


def quantile_of(values: list[float], quantile: float) -> float:
    """Return the value that this share of the values is not above; nan of none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(quantile * len(ordered)) - 1)] if ordered else math.nan


def request(method: str, path: str, body: bytes = b"", *headers: str) -> bytes:
    """Return a request as it goes over the wire."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def closed(
    port: int,
    requests: Requests,
    *,
    connections: int,
    seconds: float = math.inf,
    expected: int = 202,
    on_answer: OnAnswer | None = None,
) -> Load:
    """Keep this many requests in flight until the time ends or no requests are left."""
    return _Loop(port, requests, expected, on_answer).closed(connections, seconds)


def scheduled(
    port: int,
    requests: Requests,
    *,
    per_s: float,
    seconds: float,
    expected: int = 202,
    on_answer: OnAnswer | None = None,
) -> Load:
    """Send requests at a fixed rate whatever the answers do, each on a connection that is free."""
    return _Loop(port, requests, expected, on_answer).scheduled(per_s, seconds)


def driven(
    port: int, requests: Requests, *, connections: int, seconds: float, on_answer: OnAnswer | None = None
) -> Load:
    """As `closed`, but `requests` may have none now and some later: the end is a matter of time alone."""
    return _Loop(port, requests, 200, on_answer).driven(connections, seconds)


def call(port: int, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, bytes]:
    """Make one call on a connection of its own and return status and body."""
    found: list[tuple[int, bytes]] = []

    def keep(_request: bytes, status: int, answer: bytes, _sent_at: float, _answered_at: float) -> None:
        found.append((status, answer))

    closed(port, iter([request(method, path, body, *headers)]), connections=1, on_answer=keep)
    return found[0] if found else (0, b"")


class _Connection:
    __slots__ = ("buffer", "request", "sent_at", "socket")

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.buffer, self.request, self.sent_at = b"", b"", 0.0


class _Loop:
    def __init__(self, port: int, requests: Requests, expected: int, on_answer: OnAnswer | None) -> None:
        self._port, self._requests, self._on_answer = port, requests, on_answer
        self._load = Load(expected=expected)
        self._epoll = select.epoll()
        self._busy: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._end = math.inf

    def closed(self, connections: int, seconds: float) -> Load:
        opened = [self._connect() for _ in range(connections)]
        begin, cpu = time.monotonic(), time.process_time()
        self._end = begin + seconds
        for connection in opened:
            self._send(connection)
        while self._busy:
            self._wait(1.0)
            while self._free and time.monotonic() < self._end and self._send(self._free.pop()):
                pass
        return self._done(min(time.monotonic(), self._end) - begin, cpu)

    def driven(self, connections: int, seconds: float) -> Load:
        self._free = [self._connect() for _ in range(connections)]
        begin, cpu = time.monotonic(), time.process_time()
        self._end = begin + seconds
        while time.monotonic() < self._end or self._busy:
            while self._free and time.monotonic() < self._end and self._send(self._free.pop()):
                pass
            self._wait(_IDLE_S if time.monotonic() < self._end else 1.0)
        return self._done(seconds, cpu)

    def scheduled(self, per_s: float, seconds: float) -> Load:
        begin, cpu = time.monotonic(), time.process_time()
        self._end = begin + seconds
        count = 0
        while True:
            due = begin + count / per_s
            if due >= self._end:
                break
            now = time.monotonic()
            if now >= due:
                self._send(self._free.pop() if self._free else self._connect())
                count += 1
            else:
                self._wait(due - now)
        while self._busy:
            self._wait(1.0)
        return self._done(seconds, cpu)

    def _done(self, seconds: float, cpu: float) -> Load:
        self._load.seconds, self._load.cpu_s = seconds, time.process_time() - cpu
        for connection in self._free:
            connection.socket.close()
        self._epoll.close()
        return self._load

    def _connect(self) -> _Connection:
        connection = _Connection(self._port)
        self._epoll.register(connection.socket.fileno(), select.EPOLLIN)
        return connection

    def _send(self, connection: _Connection) -> bool:
        text = next(self._requests, None)
        if text is None:
            self._free.append(connection)
            return False
        connection.request, connection.sent_at = text, time.monotonic()
        self._busy[connection.socket.fileno()] = connection
        try:
            connection.socket.send(text)
        except OSError:
            self._lost(connection)
        return True

    def _wait(self, seconds: float) -> None:
        events = self._epoll.poll(seconds)
        now = time.monotonic()
        for number, _ in events:
            connection = self._busy.get(number)
            if connection is None:  # an idle one that the server closed
                self._forget_idle(number)
                continue
            self._read(connection, now)
        if not events and seconds >= 1:
            self._give_up(now)

    def _read(self, connection: _Connection, now: float) -> None:
        try:
            data = connection.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._lost(connection)
            return
        data = connection.buffer + data if connection.buffer else data
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head + 2) if head >= 0 else None
        if head >= 0 and length is None and data[9:12] not in {b"204", b"304"}:
            raise LoadFailed(f"an answer without a length: {data[:200]!r}")
        size = head + 4 + (int(length[1]) if length else 0)
        if head < 0 or len(data) < size:
            connection.buffer = data
            return
        connection.buffer = b""
        self._answered(connection, int(data[9:12]), data[head + 4 : size], now)
        del self._busy[connection.socket.fileno()]
        if _CLOSE.search(data, 0, head + 2):
            self._replace(connection)
        else:
            self._free.append(connection)

    def _answered(self, connection: _Connection, status: int, body: bytes, now: float) -> None:
        load = self._load
        load.statuses[status] += 1
        load.took_s.append(now - connection.sent_at)
        if status == load.expected and now <= self._end:
            load.in_time += 1
        if self._on_answer is not None:
            self._on_answer(connection.request, status, body, connection.sent_at, now)

    def _lost(self, connection: _Connection) -> None:
        self._load.statuses[0] += 1
        if self._load.statuses[0] > 1000 and not self._load.answered:
            raise LoadFailed("every connection was closed without an answer")
        del self._busy[connection.socket.fileno()]
        self._replace(connection)

    def _replace(self, connection: _Connection) -> None:
        connection.socket.close()
        self._free.append(self._connect())

    def _forget_idle(self, number: int) -> None:
        for connection in self._free:
            if connection.socket.fileno() == number:
                self._free.remove(connection)
                connection.socket.close()
                return

    def _give_up(self, now: float) -> None:
        if any(now - one.sent_at > _PATIENCE_S for one in self._busy.values()):
            raise LoadFailed(f"{len(self._busy)} requests had no answer within {_PATIENCE_S} s")


def median(values: list[float]) -> float:
    """Return the median; nan of none."""
    return statistics.median(values) if values else math.nan
