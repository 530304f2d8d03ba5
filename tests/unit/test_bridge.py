"""The bridge answers the caller also when the application or granian fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from structlog.testing import capture_logs

from otpqueue.api.http.bridge import Bridge, Environ
from otpqueue.api.http.incoming import Headers
from otpqueue.api.http.pools import CallPools


class Head:
    """The head of a request, as granian passes it."""

    method, scheme, http_version = "GET", "http", "1.1"
    server, client = "127.0.0.1:8000", "127.0.0.1:4711"
    query_string = ""

    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def headers(self) -> Any:
        """Return the headers."""
        return _Headers({"host": "localhost"})


class _Headers(dict[str, str]):
    def items(self) -> Any:
        return list(super().items())


class Exchange:
    """Where answers go."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Headers, bytes]] = []
        self.answered = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Take an answer, if it is one."""
        if not isinstance(body, bytes) or not all(isinstance(value, str) for _, value in headers):
            raise TypeError
        self.answers.append((status, headers, body))
        self._loop.call_soon_threadsafe(self.answered.set)


def broken(environ: Environ, start: Any) -> Iterable[bytes]:
    """Fail like an application with bugs that no handler catches."""
    if environ["PATH_INFO"] == "/raises":
        raise RuntimeError("unexpected")
    if environ["PATH_INFO"] == "/odd":
        start("200 OK", [("X-Number", 7)])
        return [b"odd"]
    start("200 OK", [("X-Thread", "x")])
    return [b"well"]


async def serve(*paths: str) -> list[tuple[int, Headers, bytes]]:
    """Make calls one after another; return their answers."""
    pools = CallPools(calls=1, checks=1, waiters=1, queue_timeout_s=60)
    bridge = Bridge(broken, pools=pools, body_timeout_s=1, large_bodies={})
    tasks, answers = [], []
    for path in paths:
        exchange = Exchange()
        tasks.append(asyncio.create_task(bridge.__rsgi__(Head(path), exchange)))  # type: ignore[arg-type]
        await asyncio.wait_for(exchange.answered.wait(), 60)
        answers += exchange.answers
    # The coroutine of a call ends when another one comes, the last one with the process.
    await asyncio.to_thread(pools.end, within_s=60)
    bridge._end_coroutines(asyncio.get_running_loop())
    await asyncio.gather(*tasks)
    return answers


def test_bug_that_no_handler_sees() -> None:
    """An uncaught bug is answered with an empty 500 and logged, and the thread continues."""
    with capture_logs() as logged:
        answers = asyncio.run(serve("/raises", "/odd", "/well", "/raises", "/well"))

    assert [(status, body) for status, _, body in answers] == [
        (500, b""),
        (500, b""),
        (200, b"well"),
        (500, b""),
        (200, b"well"),
    ]
    assert [record["event"] for record in logged] == ["internal_error"] * 3
    assert all(("Server", "") in headers for _, headers, _ in answers)
