"""The thread of each API process that shows its life and watches that of the others.

Beat and the workers watch everything else, but who says that they are gone? Whoever still answers callers.
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
"""Looks after the workers. May raise."""


class Watchdog:
    """Beats for this process, then watches, every quarter of a minute. Nothing it meets ends it."""

    def __init__(self, *, heart: HeartbeatReporter, watch: Watch, clock: Callable[[], datetime]) -> None:
        self._heart, self._watch, self._clock = heart, watch, clock
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Show life at once, and watch from now on, in a thread that ends with the process."""
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End, and take this process's sign of life away."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout=2)
        self._heart.stop()

    def look(self) -> None:
        """Do one round."""
        self._heart.beat()
        try:
            self._watch(self._clock())
        except Exception as error:  # noqa: BLE001 - the next round is seconds away, and must come
            log.warning("watchdog_failed", error=type(error).__name__)

    def _run(self) -> None:
        self._heart.beat()
        # Spread, so that the processes of a deployment look one after another.
        while not self._stop.wait(EVERY_S[ProcessKind.API] * random.uniform(0.8, 1.2)):  # noqa: S311 - guards nothing
            self.look()
