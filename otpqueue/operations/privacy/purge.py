"""Delete what is past its retention: hourly, in small batches, beside the traffic.

The pace follows the load: a batch that takes longer than intended is followed by a smaller one, and by a
pause of the same length.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Engine

from otpqueue.domain.audit import AuditSurface, OperatorAction, current_actor
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.auditing import record_alone
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.privacy import purging
from otpqueue.store.privacy.holdings import Holding
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

AUDIT_RETENTION = timedelta(days=1096)

BATCH = 500
"""The maximum number of rows of a batch. Dependent rows are deleted with them."""

PAUSE_S = 0.05
"""The minimum pause after each batch."""

_STEP_S = 0.1
"""How long a batch is intended to take."""

_LEAST_SHARE = 25
"""A batch is never smaller than the largest one divided by this."""

_RETRY_S = 1.0
_BUDGET_S = 1200.0
_COUNT_S = 300.0


class _Pace:
    """How many rows the next batch deletes, and how long the purge pauses before it."""

    def __init__(self, most: int, pause_s: float) -> None:
        self.rows, self.pause_s = most, pause_s
        self._most, self._least = most, max(1, most // _LEAST_SHARE)
        self._least_pause_s = pause_s

    def adapt(self, took_s: float) -> None:
        """Set the size of the next batch by how long the last one took."""
        factor = min(2.0, max(0.5, _STEP_S / max(took_s, 0.001)))
        self.rows = min(self._most, max(self._least, round(self.rows * factor)))
        # A pause as long as the batch: the purge uses at most half of Postgres's time.
        self.pause_s = max(self._least_pause_s, took_s)

    def shrink(self) -> bool:
        """Halve the batch size after a failed one. Returns False if it was already the smallest."""
        if self.rows <= self._least:
            return False
        self.rows, self.pause_s = max(self._least, self.rows // 2), _RETRY_S
        return True


class Purge:
    """Purges. Of two concurrent purges, one does nothing."""

    def __init__(
        self,
        *,
        engine: Engine,
        retention: timedelta,
        audit_retention: timedelta = AUDIT_RETENTION,
        batch: int = BATCH,
        pause_s: float = PAUSE_S,
        budget_s: float = _BUDGET_S,
    ) -> None:
        """Keep requests for `retention`, and the audit trail for `audit_retention`.

        A purge runs for up to `budget_s` seconds; the next one continues.
        """
        self._engine, self._retention, self._audit_retention = engine, retention, audit_retention
        self._batch, self._pause_s, self._budget_s = batch, pause_s, budget_s
        self._stop = threading.Event()

    def stop(self) -> None:
        """End after the current batch."""
        self._stop.set()

    def __call__(
        self, *, now: datetime, progress: Callable[[str, int], None] = lambda *_: None
    ) -> Mapping[str, int]:
        """Delete what is past its retention. Returns how many rows of each table, without dependent rows.

        `progress` is called after each batch with the table and how many of its rows are deleted.

        Each batch is its own transaction, so an interruption undoes at most one batch. Raises
        DatabaseUnavailable.
        """
        end = time.monotonic() + self._budget_s
        deleted: dict[str, int] = {}
        pace = _Pace(self._batch, self._pause_s)
        try:
            for holding in purging.AGEING:
                deleted[holding.table.name] = 0
                step = purging.DeletedBatch(rows=0, newest=None)
                while (step := self._delete_batch(holding, pace, since=step.newest, now=now)).rows:
                    deleted[holding.table.name] += step.rows
                    progress(holding.table.name, deleted[holding.table.name])
                    if time.monotonic() >= end or self._stop.wait(pace.pause_s):
                        log.warning("purge_put_off", stopped=self._stop.is_set(), table=holding.table.name)
                        return deleted
        finally:
            if any(deleted.values()):
                log.info("purged", rows=deleted)
            self._record(deleted)
        return deleted

    def _record(self, deleted: Mapping[str, int]) -> None:
        """Record a purge by an operator, and one that deleted from the audit trail itself."""
        by_operator = current_actor().surface not in {AuditSurface.BEAT, AuditSurface.PROCESS}
        if by_operator or deleted.get("audit_entries"):
            rows = {table: count for table, count in deleted.items() if count}
            record_alone(self._engine, OperatorAction.PURGED, details={"rows": rows})

    def _get_retention(self, holding: Holding) -> timedelta:
        return self._audit_retention if holding.audit else self._retention

    def due(self, *, now: datetime) -> Mapping[str, int]:
        """Return how many rows of each table are past their retention.

        Deletes none. Raises DatabaseUnavailable.
        """

        def work(conn: Connection) -> dict[str, int]:
            allow_time(conn, _COUNT_S)
            return {
                holding.table.name: purging.count(
                    conn, holding, retention=self._get_retention(holding), now=now
                )
                for holding in purging.AGEING
            }

        return transaction(self._engine, work)

    def _delete_batch(
        self, holding: Holding, pace: _Pace, *, since: datetime | date | None, now: datetime
    ) -> purging.DeletedBatch:
        def work(conn: Connection) -> purging.DeletedBatch:
            if not purging.try_lock_purging(conn):
                return purging.DeletedBatch(rows=0, newest=None)
            return purging.delete_batch(
                conn, holding, retention=self._get_retention(holding), now=now, limit=pace.rows, since=since
            )

        while True:
            begin = time.monotonic()
            try:
                step = transaction(self._engine, work)
            except DatabaseUnavailable:
                # A batch that exceeds the statement timeout is retried with fewer rows.
                if not pace.shrink() or self._stop.wait(pace.pause_s):
                    raise
                continue
            pace.adapt(time.monotonic() - begin)
            return step
