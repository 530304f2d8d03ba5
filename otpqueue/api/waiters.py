"""Callers that wait for a status to change: one thread reads the statuses of all of them from Postgres."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from uuid import UUID

from otpqueue.api.http.concurrency import ConcurrencyLimit
from otpqueue.domain.errors import DatabaseUnavailable, TooBusy
from otpqueue.domain.request import Status
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

POLL_S = 0.1


class StatusWaiters:
    """Waits for changes of a status. Waiting is best effort: without a free slot it ends at once."""

    def __init__(self, *, read: Callable[[Iterable[UUID]], Mapping[UUID, Status]], slots: int) -> None:
        self._read = read
        self._limit = ConcurrencyLimit(slots)
        self._changed: dict[threading.Event, tuple[UUID, Status]] = {}
        self._lock = threading.Condition()
        self._poller: threading.Thread | None = None

    def wait(self, request_id: UUID, seen: Status, *, seconds: float) -> None:
        """Return when the status is no longer `seen`, after `seconds`, or at once if no slot is free."""
        try:
            with self._limit.slot():
                changed = threading.Event()
                self._add(changed, request_id, seen)
                try:
                    changed.wait(seconds)
                finally:
                    self._remove(changed)
        except TooBusy:
            log.info("no_place_to_wait")

    def _add(self, changed: threading.Event, request_id: UUID, seen: Status) -> None:
        with self._lock:
            self._changed[changed] = (request_id, seen)
            if self._poller is None:
                self._poller = threading.Thread(target=self._poll, name="waiters", daemon=True)
                self._poller.start()
            self._lock.notify()

    def _remove(self, changed: threading.Event) -> None:
        with self._lock:
            del self._changed[changed]

    def _poll(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                while not self._changed:
                    self._lock.wait()
                waiting = dict(self._changed)
            try:
                statuses = self._read({request_id for request_id, _ in waiting.values()})
            except DatabaseUnavailable:
                statuses = {}
            except Exception:  # later waiters need this thread, whatever the error is
                log.exception("poll_failed")
                statuses = {}
            for changed, (request_id, seen) in waiting.items():
                if statuses.get(request_id, seen) is not seen:
                    changed.set()
            pause.wait(POLL_S)
