"""Thread pools that answer calls, one for each kind of call: what one kind waits for must not stop another.

A check waits for the provider and a call with `wait` for a change, up to seconds in which neither needs the
interpreter. All other calls wait for Postgres and Redis alone, so few threads keep a process busy; more would
only queue for the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Protocol

_REFUSED_IN_A_ROW = 32
"""How many calls the event loop refuses before it turns to others."""


class PooledCall(Protocol):
    """A call that a pool answers."""

    def claim(self) -> bool:
        """Return True once: to a thread, or to the event loop, which refuses calls that wait too long."""

    def answer(self, *, timed_out: bool) -> None:
        """Answer, or refuse a call that has waited too long. Must not raise."""


class CallPool:
    """A bounded pool of threads, each started when it is first needed, and the queue before it.

    A call that has been queued for `queue_timeout_s` is refused: the caller may find another process free.
    With None it waits as long as it takes. The methods must be called on the event loop.
    """

    def __init__(self, name: str, *, threads: int, queue_timeout_s: float | None) -> None:
        self._name, self._max_threads, self._queue_timeout_s = name, threads, queue_timeout_s
        self._queue: SimpleQueue[tuple[float, PooledCall] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._recent: deque[tuple[float, PooledCall]] = deque()
        """The calls queued within the timeout, those included that a thread has claimed."""
        self._has_timer = False

    def put(self, call: PooledCall) -> None:
        """Queue a call."""
        if len(self._threads) <= self._unfinished and len(self._threads) < self._max_threads:
            self._start_thread()
        self._unfinished += 1
        queued = time.monotonic(), call
        self._queue.put(queued)
        if self._queue_timeout_s is not None:
            self._recent.append(queued)
            if not self._has_timer:
                self._set_timer(self._queue_timeout_s)

    def finish(self) -> None:
        """Note that a call has been answered."""
        self._unfinished -= 1

    def end(self) -> None:
        """End the threads once they have answered what is queued."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, *, until: float) -> None:
        """Wait for the threads to end, until a moment of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _start_thread(self) -> None:
        # Not a daemon: what is being answered when the process is told to end is still answered.
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}")
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (queued := self._queue.get()) is not None:
            since, call = queued
            if call.claim():
                call.answer(timed_out=self._has_timed_out(since))
            del queued, call  # the next one may be long in coming

    def _has_timed_out(self, since: float) -> bool:
        return self._queue_timeout_s is not None and time.monotonic() - since > self._queue_timeout_s

    def _set_timer(self, seconds: float) -> None:
        self._has_timer = True
        asyncio.get_running_loop().call_later(seconds, self._refuse_overdue)

    def _refuse_overdue(self) -> None:
        """Refuse what no thread has claimed in time: all of them may be held up."""
        self._has_timer = False
        refused = 0
        while self._recent and self._queue_timeout_s is not None:
            since, call = self._recent[0]
            left_s = since + self._queue_timeout_s - time.monotonic()
            if left_s > 0 or refused == _REFUSED_IN_A_ROW:
                self._set_timer(max(left_s, 0))
                return
            self._recent.popleft()
            if call.claim():
                refused += 1
                call.answer(timed_out=True)


_SPARE_WAITERS = 8
"""Threads for calls with `wait` that find no place to wait; they are answered at once."""
_WAITER_QUEUE_S = 5.0
"""How long a call with `wait` may be queued: its caller has time."""
_RESERVED_THREADS = 8
_RESERVED = ("/health", "/metrics", "/console")


class CallPools:
    """The pools of an API process, with a thread for each call, check and waiting caller at a time."""

    def __init__(self, *, calls: int, checks: int, waiters: int, queue_timeout_s: float) -> None:
        self._calls = CallPool("call", threads=calls, queue_timeout_s=queue_timeout_s)
        self._checks = CallPool("check", threads=checks, queue_timeout_s=queue_timeout_s)
        self._waiters = CallPool(
            "waiter", threads=waiters + _SPARE_WAITERS, queue_timeout_s=max(queue_timeout_s, _WAITER_QUEUE_S)
        )
        # Health and the console are needed most when all else is busy.
        self._reserved = CallPool("reserved", threads=_RESERVED_THREADS, queue_timeout_s=None)
        self._all = (self._calls, self._checks, self._waiters, self._reserved)

    def pool_of(self, path: str, query: str) -> CallPool | None:
        """Return the pool of a call; None for what the event loop answers, since it takes no time."""
        if path == "/health/live":
            return None
        if path.startswith(_RESERVED):
            return self._reserved
        if path.endswith("/verify") or path == "/verify-otp":
            return self._checks
        if "wait=" in query:
            return self._waiters
        return self._calls

    def end(self, *, within_s: float) -> None:
        """End the threads once they have answered what is queued, and wait for that within a time."""
        for pool in self._all:
            pool.end()
        until = time.monotonic() + within_s
        for pool in self._all:
            pool.join(until=until)
