"""Store and match delivery reports, pushed or pulled. Idempotent, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Protocol

from sqlalchemy import Engine, text
from sqlalchemy.exc import DataError, IntegrityError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.receipts import Receipt
from otpqueue.domain.webhooks import StatusCallback, ignore_changes
from otpqueue.operations.recording import record_when_possible
from otpqueue.store import receipts
from otpqueue.store.engine import connection, run, transaction
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_PULLS_AT_MOST = 20


class ReportSource(Protocol):
    """A provider that returns each delivery report once."""

    def fetch_reports(self) -> list[Receipt]:
        """Return the next reports, if any."""


@dataclass(frozen=True, kw_only=True)
class ReceiveReceipts:
    """Receives delivery reports."""

    engine: Engine
    on_status: StatusCallback = ignore_changes

    def __call__(self, reports: Sequence[Receipt], *, now: datetime) -> int:
        """Store new reports and update their attempts. Returns how many were new.

        A report without a recorded attempt is stored, and matched once it is. Raises DatabaseUnavailable.
        """
        new = self._add(reports, now)
        self._match(sorted({report.message_id for report in reports}), now)
        return new

    def _check_database(self) -> None:
        with connection(self.engine) as conn:
            conn.execute(text("SELECT FROM receipts LIMIT 1"))

    def _add(self, reports: Sequence[Receipt], now: datetime) -> int:
        try:
            return transaction(self.engine, lambda conn: receipts.add(conn, reports, now=now))
        except (DataError, IntegrityError):
            # A report that Postgres always rejects must not fail the others.
            if len(reports) == 1:
                log.exception("receipt_refused", message_id=reports[0].message_id)
                return 0
            half = len(reports) // 2
            return self._add(reports[:half], now) + self._add(reports[half:], now)

    def _match(self, ids: Sequence[str], now: datetime) -> None:
        """Match stored reports. After a failure, `expire` matches the rest."""
        # Its own transaction, so that a pump that records the attempt at this moment sees the reports, or
        # this transaction sees the attempt.
        try:
            moved = run(self.engine, lambda conn: receipts.match(conn, ids, now=now))
        except DatabaseUnavailable:
            # Usually one locked request is the cause. It must not delay the reports of others.
            try:
                moved = run(self.engine, lambda conn: receipts.match(conn, ids, now=now, skip_locked=True))
            except DatabaseUnavailable:
                log.warning("receipts_not_matched", messages=len(ids))
                return
        for one in moved:
            metrics.count(metrics.DELIVERIES, one.status.value)
            log.info("otp_delivery", otp_id=str(one.request_id), status=one.status.value)
        self.on_status((one.client_id, one.status) for one in moved)

    def pull(self, provider: ReportSource, *, now: datetime) -> int:
        """Receive all reports that the provider has ready. Returns how many were new.

        The provider returns each report once. So none is fetched while Postgres is down
        (DatabaseUnavailable), and what was fetched before is retried until it is recorded.
        """
        new = 0
        for _ in range(_PULLS_AT_MOST):
            self._check_database()
            reports = provider.fetch_reports()
            if not reports:
                break
            take_in = partial(self, reports, now=now)
            new += record_when_possible(take_in, what="delivery_reports", results=len(reports))
        return new
