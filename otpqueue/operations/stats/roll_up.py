"""Roll up events into the statistics: every few seconds, in batches, each event once."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import Connection, Engine

from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.stats import roll_up
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

BATCH = 10_000
_BUDGET = timedelta(seconds=8)
_PATIENCE_S = 30
"""Events that an open transaction still sees are skipped one by one."""


@dataclass(frozen=True, kw_only=True)
class RollUp:
    """Rolls up. Of two concurrent calls, one does nothing."""

    engine: Engine
    batch: int = BATCH
    budget: timedelta = _BUDGET
    """How long one call may start new batches. The next call continues."""

    def __call__(self) -> int:
        """Roll up the events in the outbox. Returns how many.

        Each batch is one transaction that deletes events from the outbox and adds them to the statistics. An
        event is thus in one of them, never in both. Raises DatabaseUnavailable.
        """
        end = time.monotonic() + self.budget.total_seconds()
        events, after = 0, 0
        while True:
            batch = self._batch_after(after)
            events += batch.events
            if batch.last is None or batch.events < self.batch:
                return events
            if time.monotonic() >= end:
                log.warning("roll_up_put_off", events=events)
                return events
            after = batch.last

    def _batch_after(self, after: int) -> roll_up.RollUpBatch:
        def work(conn: Connection) -> roll_up.RollUpBatch:
            if not roll_up.try_lock_roll_up(conn):
                return roll_up.RollUpBatch(events=0, last=None)
            allow_time(conn, _PATIENCE_S)
            return roll_up.roll_up(conn, after=after, limit=self.batch)

        return transaction(self.engine, work)
