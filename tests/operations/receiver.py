"""A webhook receiver of a client: a real HTTP server on its own port."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Call:
    """A received call."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """The `webhook-id`."""
        return self.headers["webhook-id"]

    @property
    def payload(self) -> dict[str, Any]:
        """The decoded body."""
        said: dict[str, Any] = json.loads(self.body)
        return said

    @property
    def type(self) -> str:
        """The event."""
        return str(self.payload["type"])

    @property
    def of(self) -> str:
        """The id of the request that it is about."""
        return str(self.payload["data"]["id"])


class Receiver:
    """Records each call and answers as `answer` says: a status, or None to cut the connection."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.taken: list[Call] = []
        """The calls that were answered with 2xx, in the order of the answers."""
        self.answer: Callable[[Call], int | None] = lambda _: 200
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def types(self) -> list[str]:
        """The types of the accepted events."""
        return [call.type for call in self.taken]

    def _take(self, call: Call) -> int | None:
        with self._lock:
            self.calls.append(call)
        status = self.answer(call)
        if status is not None and 200 <= status < 300:
            with self._lock:
                self.taken.append(call)
        return status

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                named = {name.lower(): value for name, value in self.headers.items()}
                status = receiver._take(Call(self.path, named, body))
                if status is not None:
                    self.send_response(status)
                    self.send_header("Content-Length", "0")
                    self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def never(_: Call) -> int | None:
    """Answer 503, as a proxy does while its receiver restarts."""
    return 503
