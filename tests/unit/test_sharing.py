"""Looks that callers share: few are made, and none is older than the question."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from otpqueue.api.sharing import Shared


def test_many_at_once_share_two_looks() -> None:
    """Of a hundred callers one looks, and those who come meanwhile share the next look."""
    numbers, begun, go_on, come = count(1), threading.Event(), threading.Event(), threading.Semaphore(0)

    def look() -> int:
        begun.set()
        go_on.wait(60)
        return next(numbers)

    shared = Shared(look)

    def ask() -> int:
        come.release()
        return shared()

    with ThreadPoolExecutor(100) as pool:
        first = pool.submit(shared)
        assert begun.wait(60)
        others = [pool.submit(ask) for _ in range(99)]
        for _ in others:
            assert come.acquire(timeout=60)
        go_on.set()

        assert first.result() == 1
        # One who had said that he comes, and had not asked yet, may have a look of his own.
        assert {other.result() for other in others} <= {2, 3, 4}


def test_nobody_is_told_what_was_before() -> None:
    """Each who asks after a look has begun makes, or shares, a new one."""
    numbers = count(1)
    shared = Shared(lambda: next(numbers))

    assert [shared(), shared(), shared()] == [1, 2, 3]


def test_look_that_fails_is_made_again() -> None:
    """An error is told to who looked; the next caller looks himself."""
    numbers = count(1)
    shared = Shared(lambda: 2 // (next(numbers) - 1))

    try:
        shared()
    except ZeroDivisionError:
        assert shared() == 2
    else:
        raise AssertionError("no error")
