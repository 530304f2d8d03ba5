"""A trace collector that accepts connections and does not answer."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress


class Hung:
    """A collector that accepts connections and withholds its answers until it must reject them."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._taken: list[socket.socket] = []
        self._refuses = threading.Event()
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            self._taken.append(connection)
            if self._refuses.is_set():
                _refuse(connection)

    @property
    def asked(self) -> bool:
        """Whether a client waits for an answer."""
        return bool(self._taken)

    def refuse(self) -> None:
        """Reject all waiting and further requests permanently."""
        self._refuses.set()
        for connection in list(self._taken):
            _refuse(connection)

    def close(self) -> None:
        """End."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        for connection in self._taken:
            connection.close()


def _refuse(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
