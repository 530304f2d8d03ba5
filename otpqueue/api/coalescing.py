"""Request coalescing: concurrent callers share one probe, so that they do not queue for one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class CoalescedProbe(Generic[T]):
    """Coalesces concurrent calls of a probe. Thread-safe.

    No caller gets a result of a probe that started before its own call.
    """

    def __init__(self, probe: Callable[[], T]) -> None:
        self._probe, self._lock = probe, threading.Lock()
        self._last: tuple[float, T] | None = None
        """When the last probe started, on the monotonic clock, and its result."""

    def run(self) -> T:
        """Return the result of a probe that starts from now on; a caller waits for at most two probes."""
        called = time.monotonic()
        with self._lock:
            if self._last is None or self._last[0] < called:
                started = time.monotonic()
                self._last = started, self._probe()
            return self._last[1]
