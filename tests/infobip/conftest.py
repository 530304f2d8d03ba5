"""A server with a script for each byte and pause, to simulate faulty servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

import pytest

from otpqueue.infobip.transport import Transport

API_KEY = "s3cret-api-key"
TIMEOUT_S = 0.5

Script = Callable[[], Iterable[bytes | float]]
"""Makes an answer: bytes are sent, a number is a pause in seconds; a server that runs out of them closes."""


def http(body: bytes = b"{}", *, status: str = "200 OK", headers: Iterable[str] = ()) -> bytes:
    """Return a whole HTTP/1.1 answer."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class ScriptedServer:
    """Listens on a port of its own; answers the nth request by the nth script, later ones by the last.

    A script that is bytes is sent, and the connection stays open; a function's bytes and pauses are sent as
    it yields them, and the connection is closed.
    """

    def __init__(self, *scripts: bytes | Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts, self._tls = scripts, tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = [self._listener]
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
        self.connections = 0
        self.bytes_sent = 0

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        for one in self._open:
            # It wakes the thread that waits for this socket.
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()
        for one in self._open:
            one.close()

    @property
    def url(self) -> str:
        """The base URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while not self._stopped.is_set():
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
                self._open.append(connection)
            with connection:
                while self._answer(connection):
                    pass

    def _answer(self, connection: socket.socket) -> bool:
        request = self._receive(connection)
        if not request:
            return False
        self.requests.append(request)
        script = self._scripts[min(len(self.requests), len(self._scripts)) - 1]
        if isinstance(script, bytes):
            connection.sendall(script)
            return True
        for part in script():
            if isinstance(part, bytes):
                connection.sendall(part)
                self.bytes_sent += len(part)
            elif self._stopped.wait(part):
                break
        return False

    def _receive(self, connection: socket.socket) -> bytes:
        received = b""
        while some := connection.recv(65536):
            received += some
            head, end, body = received.partition(b"\r\n\r\n")
            is_http = received.startswith((b"GET", b"POST", b"PUT"))
            if not is_http or (end and len(body) >= _content_length(head)):
                return received
        return b""


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


Connect = Callable[..., Transport]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Yield a function that makes a transport to a base URL, closed in the end."""
    made: list[Transport] = []

    def connect(
        base_url: str,
        *,
        timeout_s: float = TIMEOUT_S,
        connect_timeout_s: float = TIMEOUT_S,
        connections: int = 4,
    ) -> Transport:
        transport = Transport(
            base_url=base_url,
            api_key=API_KEY,
            connections=connections,
            connect_timeout_s=connect_timeout_s,
            timeout_s=timeout_s,
        )
        made.append(transport)
        return transport

    yield connect
    for transport in made:
        transport.close()


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Fail when the block takes longer, which is given generously."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds
