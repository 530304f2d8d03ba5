"""Show that this process lives: a row that it writes every few seconds."""

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
"""With one beat of so many, and the first, processes that are long gone are forgotten."""


class HeartbeatReporter:
    """The heart of one process. It beats in a thread of its own, however busy the others are.

    With `in_touch_for_s` the process is in touch with the broker for so long after `touch`; without, always.
    Thread-safe. Nothing here raises: a process must not die of what only tells that it lives.
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
        """`count_seals` is called after each beat and at the end."""
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
        """Say which queues the process serves."""
        self._queues = queues

    def touch(self) -> None:
        """Note that the broker has just been heard."""
        now = time.monotonic()
        was_in_touch, self._touched = self._in_touch(now), now
        if not was_in_touch:
            self._nudge.set()

    def beat(self) -> bool:
        """Show life now; return whether that was written. What keeps failing is logged once."""
        try:
            self._beat()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process has work to do
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
        # Connected before time is measured.
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
        # Postgres looked at its clock about half-way between question and answer.
        self._skew_s = (before - database_now).total_seconds() + halfway_s
        self._count_seals()

    def _in_touch(self, now: float) -> bool:
        if self._in_touch_for_s is None:
            return True
        return self._touched is not None and now - self._touched <= self._in_touch_for_s

    def start(self) -> None:
        """Beat from now on, in a thread, until the process ends or `stop` is called."""
        self._thread = threading.Thread(target=self._run, name="heart", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped:
            # Good news need not wait: that is what the nudge is for.
            self._nudge.clear()
            self.beat()
            # Spread, or all processes of a deployment would come at once.
            self._nudge.wait(EVERY_S[self.kind] * random.uniform(0.8, 1.2))  # noqa: S311 - guards nothing

    def stop(self) -> None:
        """End the thread, and take the sign away: the process ends because it was told to."""
        self._stopped = True
        self._nudge.set()
        if self._thread is not None:
            self._thread.join(timeout=EVERY_S[self.kind])
        try:
            run(self._engine, lambda conn: heartbeats.delete_heartbeat(conn, self.process))
            self._count_seals()
        except Exception as error:  # noqa: BLE001 - it would count as silent, and be forgotten in an hour
            log.warning("heartbeat_not_taken_away", error=type(error).__name__)
