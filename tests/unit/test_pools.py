"""Thread pools: each call is answered once, in time or with a rejection, and pools are independent."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from otpqueue.api.http.pools import CallPool, CallPools


class Recorded:
    """A call that records how it was answered, and may take time."""

    def __init__(self, until: threading.Event | None = None) -> None:
        self.answers: list[tuple[str, bool]] = []
        self.begun, self.done, self._until = threading.Event(), threading.Event(), until
        self._unclaimed = [True]

    def claim(self) -> bool:
        """Return True once."""
        try:
            return self._unclaimed.pop()
        except IndexError:
            return False

    def answer(self, *, timed_out: bool) -> None:
        """Note it."""
        self.begun.set()
        if self._until and not timed_out:
            self._until.wait(60)
        self.answers.append((threading.current_thread().name, timed_out))
        self.done.set()


@contextmanager
def pool(**settings: Any) -> Iterator[CallPool]:
    """Yield a pool and end it."""
    made = CallPool("test", **settings)
    yield made
    made.end()
    made.join(until=time.monotonic() + 60)


def run(work: Coroutine[Any, Any, None]) -> None:
    """Run something on an event loop."""
    asyncio.run(work)


async def answered(*calls: Recorded) -> None:
    """Wait on the loop until these calls are answered."""
    deadline = time.monotonic() + 60
    while not all(call.done.is_set() for call in calls):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)


def test_threads_are_started_when_needed() -> None:
    """One call at a time needs one thread; more at a time have one each, up to the number given."""

    async def work() -> None:
        with pool(threads=3, queue_timeout_s=60.0) as one:
            for _ in range(5):
                call = Recorded()
                one.put(call)
                await answered(call)
                one.finish()
            assert len(one._threads) == 1

            hold = threading.Event()
            calls = [Recorded(hold) for _ in range(5)]
            for call in calls:
                one.put(call)
            hold.set()
            await answered(*calls)
            assert len(one._threads) == 3
            assert all(call.answers[0][1] is False for call in calls)

    run(work())


def test_call_without_a_thread_is_refused() -> None:
    """With all threads held up the loop refuses what has waited too long, and nothing else."""

    async def work() -> None:
        hold = threading.Event()
        with pool(threads=1, queue_timeout_s=0.1) as one:
            held, waiting = Recorded(hold), [Recorded() for _ in range(100)]
            began = time.monotonic()
            one.put(held)
            for call in waiting:
                one.put(call)
            await answered(*waiting)

            assert time.monotonic() - began >= 0.1
            assert {call.answers[0] for call in waiting} == {("MainThread", True)}
            assert held.begun.wait(60)
            assert not held.answers
            later = Recorded()
            one.put(later)
            hold.set()
            await answered(held, later)
            assert held.answers == [("test-1", False)]
            assert len(later.answers) == 1
        assert all(len(call.answers) == 1 for call in waiting)

    run(work())


def test_queue_without_a_timeout() -> None:
    """Where calls may wait as long as it takes none is refused."""

    async def work() -> None:
        hold = threading.Event()
        with pool(threads=1, queue_timeout_s=None) as one:
            held, waiting = Recorded(hold), Recorded()
            one.put(held)
            one.put(waiting)
            await asyncio.sleep(0.3)
            assert not waiting.done.is_set()
            hold.set()
            await answered(held, waiting)
            assert waiting.answers == [("test-1", False)]

    run(work())


def test_thread_refuses_what_comes_to_it_too_late() -> None:
    """A call that the loop could not refuse in time, since it was busy, is refused by the thread."""

    async def work() -> None:
        hold = threading.Event()
        with pool(threads=1, queue_timeout_s=0.05) as one:
            held, waiting = Recorded(hold), Recorded()
            one.put(held)
            one.put(waiting)
            time.sleep(0.2)  # the loop is busy
            hold.set()
            assert waiting.done.wait(60)
            assert waiting.answers == [("test-1", True)]

    run(work())


def test_each_call_is_answered_once() -> None:
    """Threads and the loop never answer the same call, however close it is."""

    async def work() -> None:
        with pool(threads=4, queue_timeout_s=0.01) as one:
            calls = [Recorded() for _ in range(3000)]
            for number, call in enumerate(calls):
                one.put(call)
                if number % 50 == 0:
                    await asyncio.sleep(0.001)
            await answered(*calls)
        assert all(len(call.answers) == 1 for call in calls)

    run(work())


@pytest.mark.parametrize(
    ("path", "query", "name"),
    [
        ("/v1/otp-requests", "", "call"),
        ("/v1/otp-requests", "status=failed", "call"),
        ("/v1/otp-requests/x", "", "call"),
        ("/v1/otp-requests/x/resend", "", "call"),
        ("/request-otp", "", "call"),
        ("/nowhere", "", "call"),
        ("/v1/otp-requests/x", "wait=5", "waiter"),
        ("/v1/otp-requests/x/verify", "", "check"),
        ("/v1/otp-requests/x/verify", "wait=5", "check"),
        ("/verify-otp", "", "check"),
        ("/health", "", "reserved"),
        ("/health/ready", "", "reserved"),
        ("/metrics", "", "reserved"),
        ("/console/requests", "", "reserved"),
    ],
)
def test_pool_of_a_call(path: str, query: str, name: str) -> None:
    """Checks, waiting callers and what must always answer have threads of their own."""
    pools = CallPools(calls=1, checks=1, waiters=1, queue_timeout_s=1)

    found = pools.choose_pool(path, query)

    assert found is not None
    assert found._name == name


def test_liveness_needs_no_thread() -> None:
    """The loop itself says that the process lives, while all else waits for a database that hangs."""
    assert CallPools(calls=1, checks=1, waiters=1, queue_timeout_s=1).choose_pool("/health/live", "") is None
