"""Count what a process says to Postgres and Redis, from outside: proxies that read the wire protocols."""

from __future__ import annotations

import selectors
import socket
import struct
import threading
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_STARTUP = struct.Struct("!i")
_MESSAGE = struct.Struct("!ci")


@dataclass
class Traffic:
    """What passed since the last look."""

    round_trips: int = 0
    """How often a client waited for an answer."""
    transactions: int = 0
    """Postgres: round trips after which no transaction was open."""
    publishes: int = 0
    """Redis: messages for Celery."""
    said: list[str] = field(default_factory=list)
    """Each statement or command, the first words of it."""


class Tap(ABC):
    """A proxy on a port of its own, in a thread of its own; a context manager."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._lock = threading.Lock()
        self._traffic = Traffic()
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=256)
        self._stopping = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listening.getsockname()[1])

    def take(self) -> Traffic:
        """Return what passed since the last call, and start again."""
        with self._lock:
            taken, self._traffic = self._traffic, Traffic()
        return taken

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join()
        self._listening.close()

    @abstractmethod
    def _reader(self) -> Reader:
        """Return what reads a new connection."""

    def _serve(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            while not self._stopping:
                for key, _ in selector.select(0.2):
                    if key.fileobj is self._listening:
                        self._accept(selector)
                    else:
                        self._pass(selector, key.data)
            for key in list(selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket) and key.fileobj is not self._listening:
                    key.fileobj.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._listening.accept()
        server = socket.create_connection(("127.0.0.1", self._upstream))
        reader = self._reader()
        for one, other, from_client in ((client, server, True), (server, client, False)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            selector.register(one, selectors.EVENT_READ, (one, other, from_client, reader))

    def _pass(
        self, selector: selectors.BaseSelector, data: tuple[socket.socket, socket.socket, bool, Reader]
    ) -> None:
        one, other, from_client, reader = data
        if one.fileno() < 0:  # closed a moment ago, with the other
            return
        try:
            received = one.recv(65536)
        except OSError:
            received = b""
        if not received:
            for each in (one, other):
                selector.unregister(each)
                each.close()
            return
        with self._lock:
            (reader.from_client if from_client else reader.from_server)(received, self._traffic)
        try:
            other.sendall(received)
        except OSError:
            return  # its end is read next


class Reader(ABC):
    """Reads one connection."""

    @abstractmethod
    def from_client(self, data: bytes, traffic: Traffic) -> None:
        """Read what the client sent."""

    @abstractmethod
    def from_server(self, data: bytes, traffic: Traffic) -> None:
        """Read what the server answered."""


class PostgresTap(Tap):
    """Counts statements, round trips and transactions. Clients must not use TLS."""

    def _reader(self) -> Reader:
        return _Postgres()


class RedisTap(Tap):
    """Counts commands, round trips, and messages for Celery."""

    def _reader(self) -> Reader:
        return _Redis()


class _Postgres(Reader):
    # Source: "Message Formats" in PostgreSQL's documentation.
    def __init__(self) -> None:
        self._client, self._server = b"", b""
        self._started = self._ready = False
        self._statements: dict[bytes, str] = {}
        self._portals: dict[bytes, str] = {}

    def from_client(self, data: bytes, traffic: Traffic) -> None:
        self._client += data
        if not self._started:  # the first message has no type
            (length,) = _STARTUP.unpack_from(self._client)
            if len(self._client) < length:
                return
            self._client, self._started = self._client[length:], True
        while (message := _message(self._client)) is not None:
            kind, body, self._client = message
            self._hear(kind, body, traffic)

    def from_server(self, data: bytes, traffic: Traffic) -> None:
        self._server += data
        while (message := _message(self._server)) is not None:
            kind, body, self._server = message
            if kind == b"Z":  # ReadyForQuery
                if self._ready:
                    traffic.round_trips += 1
                    traffic.transactions += body == b"I"
                self._ready = True  # the first one ends the log-in

    def _hear(self, kind: bytes, body: bytes, traffic: Traffic) -> None:
        if kind == b"Q":
            traffic.said.append(_words(body))
        elif kind == b"P":
            name, text = body.split(b"\0")[:2]
            self._statements[name] = _words(text)
        elif kind == b"B":
            portal, name = body.split(b"\0")[:2]
            self._portals[portal] = self._statements.get(name, "?")
        elif kind == b"E":
            traffic.said.append(self._portals.get(body.split(b"\0")[0], "?"))


class _Redis(Reader):
    # Source: "Redis serialization protocol specification"; clients send arrays of bulk strings.
    def __init__(self) -> None:
        self._client = b""
        self._waits = False

    def from_client(self, data: bytes, traffic: Traffic) -> None:
        if not self._waits:
            self._waits = True
            traffic.round_trips += 1
        self._client += data
        while (command := _command(self._client)) is not None:
            parts, self._client = command
            traffic.said.append(b" ".join(one[:40] for one in parts[:2]).decode(errors="replace"))
            traffic.publishes += parts[0].upper() == b"LPUSH" and b'"task"' in parts[-1]

    def from_server(self, data: bytes, traffic: Traffic) -> None:  # noqa: ARG002 - that it came is enough
        self._waits = False


def _message(data: bytes) -> tuple[bytes, bytes, bytes] | None:
    if len(data) < _MESSAGE.size:
        return None
    kind, length = _MESSAGE.unpack_from(data)
    return (kind, data[5 : length + 1], data[length + 1 :]) if len(data) >= length + 1 else None


def _words(text: bytes) -> str:
    return " ".join(text.rstrip(b"\0").decode(errors="replace").split())[:100]


def _command(data: bytes) -> tuple[list[bytes], bytes] | None:
    head, end, rest = data.partition(b"\r\n")
    if not end:
        return None
    parts = []
    for _ in range(int(head[1:])):
        size, end, rest = rest.partition(b"\r\n")
        length = int(size[1:]) if end else 0
        if not end or len(rest) < length + 2:
            return None
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return parts, rest
