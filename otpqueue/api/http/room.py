"""How many calls of one kind may be in progress: a slow provider must not take every thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from otpqueue.domain.errors import TooBusy


class Room:
    """So many places, and no queue."""

    def __init__(self, places: int) -> None:
        self._places = threading.BoundedSemaphore(places)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Hold a place.

        Raises TooBusy when all are taken.
        """
        self.take()
        try:
            yield
        finally:
            self.give_back()

    def take(self) -> None:
        """Take a place, which must be given back.

        Raises TooBusy when all are taken.
        """
        if not self._places.acquire(blocking=False):
            raise TooBusy(retry_after_s=1)

    def give_back(self) -> None:
        """Give a place back. Raises ValueError for one that was not taken."""
        self._places.release()
