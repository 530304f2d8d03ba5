"""Heartbeat of this process: a row that it writes every few seconds."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy import Engine

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import EVERY_S, ProcessKind
from otpqueue.store import heartbeats
from otpqueue.store.engine import connection, run
from otpqueue.store.heartbeats import ProcessReport
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_FORGET_EVERY = 100
"""The first heartbeat and every n-th one delete the rows of processes that ended long ago."""


class HeartbeatReporter:
    """Writes the heartbeat of one process, in its own thread, so that a busy process is not late.

    With `in_touch_for_s` the broker counts as reachable for that many seconds after each `touch`; without it,
    always. Thread-safe. Nothing here raises, since a failed heartbeat must not end the process.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        kind: ProcessKind,
        name: str,
        version: str,
        clock: Callable[[], datetime],
        in_touch_for_s: float | None = None,
        count_seals: Callable[[], None] = lambda: None,
    ) -> None:
        """`count_seals` is called after each heartbeat and at the end."""
        self.kind, self.process = kind, f"{kind.value}|{name}"
        self._engine, self._version, self._clock = engine, version, clock
        self._in_touch_for_s, self._count_seals = in_touch_for_s, count_seals
        self._queues: tuple[str, ...] = ()
        self._touched: float | None = None
        self._born = time.monotonic()
        self._skew_s: float | None = None
        self._beats = 0
        self._faltering = False
        self._stopped = False
        self._nudge = threading.Event()
        self._thread: threading.Thread | None = None

    def serve(self, queues: tuple[str, ...]) -> None:
        """Set the queues that the process serves."""
        self._queues = queues

    def touch(self) -> None:
        """Record that the broker has just been heard."""
        now = time.monotonic()
        was_in_touch, self._touched = self._in_touch(now), now
        if not was_in_touch:
            self._nudge.set()

    def beat(self) -> bool:
        """Write a heartbeat. Returns whether it was written. A repeated failure is logged once."""
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - a failed heartbeat must not end the process
            if not self._faltering:
                name = error.code if isinstance(error, DatabaseUnavailable) else type(error).__name__
                log.warning("heartbeat_failed", error=name)
            self._faltering = True
            return False
        self._faltering = False
        return True

    def _beat(self) -> None:
        if self._beats % _FORGET_EVERY == 0:
            run(self._engine, heartbeats.delete_old_heartbeats)
        # Connect before the time is measured.
        with connection(self._engine) as conn:
            before, begun = self._clock(), time.monotonic()
            sign = ProcessReport(
                process=self.process,
                kind=self.kind,
                queues=self._queues,
                in_touch=self._in_touch(begun),
                unheard_s=None if self._touched is None else begun - self._touched,
                version=self._version,
                running_s=begun - self._born,
                skew_s=self._skew_s,
            )
            database_now = heartbeats.store_heartbeat(conn, sign)
            halfway_s = (time.monotonic() - begun) / 2
        self._beats += 1
        # Assume that Postgres read its clock half-way between query and answer.
        self._skew_s = (before - database_now).total_seconds() + halfway_s
        self._count_seals()

    def _in_touch(self, now: float) -> bool:
        if self._in_touch_for_s is None:
            return True
        return self._touched is not None and now - self._touched <= self._in_touch_for_s

    def start(self) -> None:
        """Start a thread that writes heartbeats until the process ends or `stop` is called."""
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            # Write at once when the broker is reachable again: `touch` sets the event.
            self._nudge.clear()
            self.beat()
            # With jitter, so that the processes of a deployment do not write at the same moment.
            self._nudge.wait(EVERY_S[self.kind] * random.uniform(0.8, 1.2))  # noqa: S311 - guards nothing

    def stop(self) -> None:
        """End the thread, and delete the row: the process ends by intention."""
        self._stopped = True
        self._nudge.set()
        if self._thread is not None:
            self._thread.join(timeout=EVERY_S[self.kind])
        try:
            run(self._engine, lambda conn: heartbeats.delete_heartbeat(conn, self.process))
            self._count_seals()
        except Exception as error:  # noqa: BLE001 - the row counts as silent, and is deleted in an hour
            log.warning("heartbeat_not_taken_away", error=type(error).__name__)
