"""Threads that answer calls, apart for each kind of call: what one kind waits for must not stop another.

A check waits for the provider, and a call with `wait` for a change: up to seconds, in which neither needs the
interpreter. All other calls wait for Postgres and Redis alone, so that few threads keep a process busy; more
would only queue for the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Protocol

_REFUSED_AT_ONCE = 32
"""Calls that the event loop refuses before it looks after others."""


class Call(Protocol):
    """A call that a lane takes."""

    def claim(self) -> bool:
        """Return True to the first that asks: a thread, or the event loop because the call waits too long."""

    def answer(self, *, late: bool) -> None:
        """Answer, or refuse what comes too late. Must not raise."""


class Lane:
    """Threads, each started when it is first needed, and the calls that wait for one.

    A call that has waited for `patience_s` is refused: a caller that hears so soon can retry elsewhere. With
    None it waits as long as it takes. The methods are called on the event loop.
    """

    def __init__(self, name: str, *, threads: int, patience_s: float | None) -> None:
        self._name, self._most, self._patience_s = name, threads, patience_s
        self._queue: SimpleQueue[tuple[float, Call] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._waiting: deque[tuple[float, Call]] = deque()
        """The latest calls, among them some that a thread has claimed."""
        self._is_timed = False

    def put(self, call: Call) -> None:
        """Have a thread answer this call."""
        if len(self._threads) <= self._unfinished and len(self._threads) < self._most:
            self._start()
        self._unfinished += 1
        waiting = time.monotonic(), call
        self._queue.put(waiting)
        if self._patience_s is not None:
            self._waiting.append(waiting)
            if not self._is_timed:
                self._time(self._patience_s)

    def finish(self) -> None:
        """Note that a call has been answered."""
        self._unfinished -= 1

    def end(self) -> None:
        """End the threads when they have answered what was put."""
        for _ in self._threads:
            self._queue.put(None)

    def _start(self) -> None:
        # No daemon: what is being answered when the process is told to end is answered still.
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}")
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (waiting := self._queue.get()) is not None:
            since, call = waiting
            if call.claim():
                call.answer(late=self._is_late(since))
            del waiting, call  # not kept until the next one comes

    def _is_late(self, since: float) -> bool:
        return self._patience_s is not None and time.monotonic() - since > self._patience_s

    def _time(self, seconds: float) -> None:
        self._is_timed = True
        asyncio.get_running_loop().call_later(seconds, self._refuse_late)

    def _refuse_late(self) -> None:
        """Refuse what no thread has claimed in time: all of them may be held up."""
        self._is_timed = False
        refused = 0
        while self._waiting and self._patience_s is not None:
            since, call = self._waiting[0]
            left_s = since + self._patience_s - time.monotonic()
            if left_s > 0 or refused == _REFUSED_AT_ONCE:
                self._time(max(left_s, 0))
                return
            self._waiting.popleft()
            if call.claim():
                refused += 1
                call.answer(late=True)


_SPARE_WAITERS = 8
"""Threads for calls with `wait` that find no place to wait, and are answered at once."""
_ASIDE_THREADS = 8
_ASIDE = ("/health", "/metrics", "/console")


class Lanes:
    """The lanes of an API process, with a thread for each call, check and waiting caller at a time."""

    def __init__(self, *, calls: int, checks: int, waiters: int, patience_s: float) -> None:
        self._calls = Lane("call", threads=calls, patience_s=patience_s)
        self._checks = Lane("check", threads=checks, patience_s=patience_s)
        self._waits = Lane("wait", threads=waiters + _SPARE_WAITERS, patience_s=patience_s)
        # Health and the console are needed most when all else is busy.
        self._aside = Lane("aside", threads=_ASIDE_THREADS, patience_s=None)

    def of(self, path: str, query: str) -> Lane | None:
        """Return the lane of a call; None for what takes no time at all."""
        if path == "/health/live":
            return None
        if path.startswith(_ASIDE):
            return self._aside
        if path.endswith("/verify") or path == "/verify-otp":
            return self._checks
        if "wait=" in query:
            return self._waits
        return self._calls

    def end(self) -> None:
        """End the threads when they have answered what was put."""
        for lane in (self._calls, self._checks, self._waits, self._aside):
            lane.end()
