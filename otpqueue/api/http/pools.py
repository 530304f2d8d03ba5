"""Thread pools that answer calls, one for each kind of call, so that a slow kind cannot block the others.

A check waits for the provider, and a call with `wait` for a change of status, up to seconds without use of
the interpreter. Other calls wait only for Postgres and Redis, so a few threads keep a process busy; more
threads would only queue for the interpreter.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from queue import SimpleQueue
from typing import Protocol

_REJECTED_IN_A_ROW = 32
"""How many overdue calls the event loop rejects before it continues with other work."""


class PooledCall(Protocol):
    """A call that a pool answers."""

    def claim(self) -> bool:
        """Return True once: to a thread, or to the event loop, which rejects overdue calls."""

    def answer(self, *, timed_out: bool) -> None:
        """Answer the call, with an error if it was queued for too long. Must not raise."""


class CallPool:
    """A bounded pool of threads, started when they are first needed, and its queue.

    A call that was queued for `queue_timeout_s` is rejected: a retry may reach a free process. None is no
    timeout. The methods must be called on the event loop.
    """

    def __init__(self, name: str, *, threads: int, queue_timeout_s: float | None) -> None:
        self._name, self._max_threads, self._queue_timeout_s = name, threads, queue_timeout_s
        self._queue: SimpleQueue[tuple[float, PooledCall] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._unfinished = 0
        self._recent: deque[tuple[float, PooledCall]] = deque()
        """The calls queued within the timeout, including claimed ones."""
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
        """Count a call as answered."""
        self._unfinished -= 1

    def end(self) -> None:
        """End the threads when they have answered the queued calls."""
        for _ in self._threads:
            self._queue.put(None)

    def join(self, *, until: float) -> None:
        """Wait for the threads to end, until a moment of the monotonic clock."""
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _start_thread(self) -> None:
        # Not a daemon: calls in progress at shutdown are still answered.
        thread = threading.Thread(target=self._work, name=f"{self._name}-{len(self._threads) + 1}")
        self._threads.append(thread)
        thread.start()

    def _work(self) -> None:
        while (queued := self._queue.get()) is not None:
            since, call = queued
            if call.claim():
                call.answer(timed_out=self._has_timed_out(since))
            del queued, call  # frees them while the thread waits

    def _has_timed_out(self, since: float) -> bool:
        return self._queue_timeout_s is not None and time.monotonic() - since > self._queue_timeout_s

    def _set_timer(self, seconds: float) -> None:
        self._has_timer = True
        asyncio.get_running_loop().call_later(seconds, self._reject_overdue)

    def _reject_overdue(self) -> None:
        """Reject calls that no thread has claimed in time: all threads may be blocked."""
        self._has_timer = False
        refused = 0
        while self._recent and self._queue_timeout_s is not None:
            since, call = self._recent[0]
            left_s = since + self._queue_timeout_s - time.monotonic()
            if left_s > 0 or refused == _REJECTED_IN_A_ROW:
                self._set_timer(max(left_s, 0))
                return
            self._recent.popleft()
            if call.claim():
                refused += 1
                call.answer(timed_out=True)


_SPARE_WAITERS = 8
"""Threads for calls with `wait` that get no slot; they are answered at once."""
_WAITER_QUEUE_S = 5.0
"""How long a call with `wait` may be queued: its caller waits anyway."""
_RESERVED_THREADS = 8
_RESERVED = ("/health", "/metrics", "/console")


class CallPools:
    """The thread pools of an API process."""

    def __init__(self, *, calls: int, checks: int, waiters: int, queue_timeout_s: float) -> None:
        self._calls = CallPool("call", threads=calls, queue_timeout_s=queue_timeout_s)
        self._checks = CallPool("check", threads=checks, queue_timeout_s=queue_timeout_s)
        self._waiters = CallPool(
            "waiter", threads=waiters + _SPARE_WAITERS, queue_timeout_s=max(queue_timeout_s, _WAITER_QUEUE_S)
        )
        # Health checks and the console are needed most when all else is busy.
        self._reserved = CallPool("reserved", threads=_RESERVED_THREADS, queue_timeout_s=None)
        self._all = (self._calls, self._checks, self._waiters, self._reserved)

    def choose_pool(self, path: str, query: str) -> CallPool | None:
        """Return the pool of a call, None for a call that the event loop answers since it takes no time."""
        if path == "/health/live":
            return None
        if path.startswith(_RESERVED):
            return self._reserved
        if path.endswith(("/verify", "/code")) or path == "/verify-otp":
            return self._checks
        if "wait=" in query:
            return self._waiters
        return self._calls

    def end(self, *, within_s: float) -> None:
        """End the threads when they have answered the queued calls, and wait up to `within_s` for that."""
        for pool in self._all:
            pool.end()
        until = time.monotonic() + within_s
        for pool in self._all:
            pool.join(until=until)
