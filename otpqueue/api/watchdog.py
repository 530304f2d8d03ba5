"""A dead-man's switch: a thread of each API process that reports heartbeats and watches the workers.

Beat and the workers evaluate all other alert rules. The API processes detect that beat or workers are gone.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import datetime

from otpqueue.domain.heartbeats import EVERY_S, ProcessKind
from otpqueue.operations.heartbeat import HeartbeatReporter
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

Watch = Callable[[datetime], object]
"""Checks the heartbeats of the workers. May raise."""


class Watchdog:
    """Reports a heartbeat, then checks the workers, every quarter of a minute. No error ends it."""

    def __init__(self, *, heart: HeartbeatReporter, watch: Watch, clock: Callable[[], datetime]) -> None:
        self._heart, self._watch, self._clock = heart, watch, clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, which ends with the process."""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread and delete this process's heartbeat."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
        self._heart.stop()

    def run_once(self) -> None:
        """Report a heartbeat and check the workers."""
        self._heart.beat()
        try:
            self._watch(self._clock())
        except Exception as error:  # noqa: BLE001 - the next round must run
            log.warning("watchdog_failed", error=type(error).__name__)

    def _run(self) -> None:
        self._heart.beat()
        # Random, so that the processes of a deployment do not all check at the same time.
        while not self._stop.wait(EVERY_S[ProcessKind.API] * random.uniform(0.8, 1.2)):  # noqa: S311 - guards nothing
            self.run_once()
