"""One look for all who ask at once: a probe that many send must not queue up for one connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Shared(Generic[T]):
    """Shares what a look finds among its callers. Nobody is told what was before he asked. Thread-safe."""

    def __init__(self, look: Callable[[], T]) -> None:
        self._look, self._looking = look, threading.Lock()
        self._last: tuple[float, T] | None = None
        """When the last look began, on the monotonic clock, and what it found."""

    def __call__(self) -> T:
        """Return what a look finds that begins from now on; a caller waits for two of them at most."""
        asked = time.monotonic()
        with self._looking:
            if self._last is None or self._last[0] < asked:
                begun = time.monotonic()
                self._last = begun, self._look()
            return self._last[1]
