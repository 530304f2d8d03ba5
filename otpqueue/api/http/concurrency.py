"""Concurrency limits for one kind of call, so that a slow provider cannot block all threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from otpqueue.domain.errors import TooBusy


class ConcurrencyLimit:
    """A fixed number of slots, without a queue."""

    def __init__(self, slots: int) -> None:
        self._slots = threading.BoundedSemaphore(slots)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a slot for the block. Raises TooBusy if none is free."""
        if not self._slots.acquire(blocking=False):
            raise TooBusy(retry_after_s=1)
        try:
            yield
        finally:
            self._slots.release()
