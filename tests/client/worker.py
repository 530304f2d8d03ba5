"""A worker that tests, and programs in other languages, run on demand."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

from tests.api.serving import Served


class CodeWorker:
    """Answers `GET /code?number=` with the code that a person with this number has received."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def receive_code(self, number: str) -> str:
        """Send what is due and return the code that arrived last."""
        self._served.parts.pump.run()
        return self._served.provider.code(number)

    def _make_handler(self) -> type[BaseHTTPRequestHandler]:
        receive_code = self.receive_code

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                (number,) = parse_qs(urlsplit(self.path).query)["number"]
                body = json.dumps({"code": receive_code(number)}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
