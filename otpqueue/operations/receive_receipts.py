"""Take delivery reports in, pushed or pulled: always idempotent, in any order."""

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
    """A provider that gives out delivery reports, each once."""

    def fetch_reports(self) -> list[Receipt]:
        """Take the next reports; none when there are none."""


@dataclass(frozen=True, kw_only=True)
class ReceiveReceipts:
    """Receives delivery reports."""

    engine: Engine
    on_status: StatusCallback = ignore_changes

    def __call__(self, reports: Sequence[Receipt], *, now: datetime) -> int:
        """Keep reports not seen before and move what they speak of; return how many were new.

        One whose attempt is not recorded yet is kept and matched when it is. Raises DatabaseUnavailable.
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
            # One that Postgres refuses for good must not take the others along.
            if len(reports) == 1:
                log.exception("receipt_refused", message_id=reports[0].message_id)
                return 0
            half = len(reports) // 2
            return self._add(reports[:half], now) + self._add(reports[half:], now)

    def _match(self, ids: Sequence[str], now: datetime) -> None:
        """Match reports that are stored: what fails here is left to `expire`, which matches leftovers."""
        # In a transaction of its own, so that a pump that records the attempt at this moment sees the
        # reports, or we see the attempt.
        try:
            moved = run(self.engine, lambda conn: receipts.match(conn, ids, now=now))
        except DatabaseUnavailable:
            # Usually one request is locked for long: it must not hold up those of others.
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
        """Take in all reports that the provider has ready; return how many were new.

        The provider gives each report out once: none is taken while Postgres is away (DatabaseUnavailable),
        and what was taken before that is kept until it is recorded.
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
