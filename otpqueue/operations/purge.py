"""Delete what has been kept long enough: hourly, in small steps, beside the traffic."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from otpqueue.logs import get_logger
from otpqueue.store import purging
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.holdings import Holding

log = get_logger(__name__)

BATCH = 500
PAUSE_S = 0.05
"""After each batch, so that Postgres has as much time for others."""

_BUDGET_S = 1200.0
_COUNT_S = 300.0


class Purge:
    """Purges. Of two at once one works, the other leaves it to that one."""

    def __init__(
        self,
        *,
        engine: Engine,
        retention: timedelta,
        batch: int = BATCH,
        pause_s: float = PAUSE_S,
        budget_s: float = _BUDGET_S,
    ) -> None:
        """Keep requests for `retention`. A purge lasts `budget_s` seconds at most: the next one goes on."""
        self._engine, self._retention = engine, retention
        self._batch, self._pause_s, self._budget_s = batch, pause_s, budget_s
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the batch in hand."""
        self._stop.set()

    def __call__(self, *, now: datetime) -> Mapping[str, int]:
        """Delete what is too old and return how many rows of each table, without those that went with them.

        Each batch is a transaction of its own, so that whatever interrupts a purge undoes one batch at most.
        Raises DatabaseUnavailable.
        """
        end = time.monotonic() + self._budget_s
        deleted: dict[str, int] = {}
        try:
            for holding in purging.AGEING:
                deleted[holding.table.name] = 0
                while batch := self._delete_batch(holding, now):
                    deleted[holding.table.name] += batch
                    if time.monotonic() >= end or self._stop.wait(self._pause_s):
                        log.warning("purge_put_off", stopped=self._stop.is_set(), table=holding.table.name)
                        return deleted
        finally:
            if any(deleted.values()):
                log.info("purged", rows=deleted)
        return deleted

    def due(self, *, now: datetime) -> Mapping[str, int]:
        """Return how many rows of each table are too old, and delete none. Raises DatabaseUnavailable."""

        def work(conn: Connection) -> dict[str, int]:
            allow_time(conn, _COUNT_S)
            return {
                holding.table.name: purging.count(conn, holding, retention=self._retention, now=now)
                for holding in purging.AGEING
            }

        return transaction(self._engine, work)

    def _delete_batch(self, holding: Holding, now: datetime) -> int:
        def work(conn: Connection) -> int:
            if not purging.take_turn(conn):
                return 0
            return purging.delete_batch(conn, holding, retention=self._retention, now=now, limit=self._batch)

        return transaction(self._engine, work)
