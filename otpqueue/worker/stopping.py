"""Graceful shutdown of a worker, with a time limit."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

from otpqueue.operations.privacy.purge import Purge
from otpqueue.operations.pump import Pump
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_RECORD_WITHIN_S = 2.0


class Stopping:
    """Handles SIGTERM in a worker. Celery ends the process itself once all jobs are done.

    With the threads pool, Celery emits its signal in the process that pumps, once per SIGTERM.
    """

    def __init__(
        self,
        *pumps: Pump[Any, Any],
        also: Purge,
        within_s: float,
        at_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._pumps, self._purge, self._within_s, self._at_end = pumps, also, within_s, at_end
        self._is_stopping = False

    def __call__(self, **_: Any) -> None:
        """Stop claiming. End the process on the second call, or when the time limit is reached."""
        reason, pause_s = ("told_twice", 0.0) if self._is_stopping else ("out_of_time", self._within_s)
        self._is_stopping = True
        for pump in self._pumps:
            pump.stop()
        self._purge.stop()
        # In a thread, because a signal handler must not wait.
        last_call = threading.Timer(pause_s, self._end_process, [reason])
        last_call.daemon = True
        last_call.start()

    def _end_process(self, reason: str) -> None:
        in_flight = sum(pump.abandon(within_s=_RECORD_WITHIN_S) for pump in self._pumps)
        log.warning("worker_ended_early", reason=reason, in_flight=in_flight)
        self._at_end()
        # Threads that wait for the provider cannot be interrupted, and would block any other exit.
        os._exit(1)
