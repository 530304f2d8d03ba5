"""Coalesced probes: few are made, and none starts before the call that gets its result."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import count

from otpqueue.api.coalescing import CoalescedProbe


def test_concurrent_callers_share_two_probes() -> None:
    """Of a hundred callers the first runs the probe, and those that call meanwhile share the next one."""
    numbers, begun, go_on, come = count(1), threading.Event(), threading.Event(), threading.Semaphore(0)

    def probe() -> int:
        begun.set()
        go_on.wait(60)
        return next(numbers)

    shared = CoalescedProbe(probe)

    def ask() -> int:
        come.release()
        return shared.run()

    with ThreadPoolExecutor(100) as pool:
        first = pool.submit(shared.run)
        assert begun.wait(60)
        others = [pool.submit(ask) for _ in range(99)]
        for _ in others:
            assert come.acquire(timeout=60)
        go_on.set()

        assert first.result() == 1
        # A thread that was released but had not called yet may run a probe of its own.
        assert {other.result() for other in others} <= {2, 3, 4}


def test_no_result_is_older_than_its_call() -> None:
    """A call after a probe has started runs, or shares, a new one."""
    numbers = count(1)
    shared = CoalescedProbe(lambda: next(numbers))

    assert [shared.run(), shared.run(), shared.run()] == [1, 2, 3]


def test_probe_runs_again_after_an_error() -> None:
    """The caller gets the error; the next call runs the probe again."""
    numbers = count(1)
    shared = CoalescedProbe(lambda: 2 // (next(numbers) - 1))

    try:
        shared.run()
    except ZeroDivisionError:
        assert shared.run() == 2
    else:
        raise AssertionError("no error")
