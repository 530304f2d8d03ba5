"""Take delivery reports in, pushed or pulled: always idempotent, in any order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Engine

from otpqueue import metrics
from otpqueue.domain.receipts import Receipt
from otpqueue.domain.webhooks import Tell, tell_nobody
from otpqueue.logs import get_logger
from otpqueue.store import receipts
from otpqueue.store.engine import run, transaction

log = get_logger(__name__)

_PULLS_AT_MOST = 20


class Reports(Protocol):
    """A provider that gives out delivery reports, each once."""

    def reports(self) -> list[Receipt]:
        """Take the next reports; none when there are none."""


@dataclass(frozen=True, kw_only=True)
class ReceiveReceipts:
    """Receives delivery reports."""

    engine: Engine
    tell: Tell = tell_nobody

    def __call__(self, reports: Sequence[Receipt], *, now: datetime) -> int:
        """Keep reports not seen before and move what they speak of; return how many were new.

        One whose attempt is not recorded yet is kept and matched when it is. Raises DatabaseUnavailable.
        """
        ids = sorted({report.message_id for report in reports})
        new = transaction(self.engine, lambda conn: receipts.add(conn, reports, now=now))
        # In a transaction of its own, so that a pump that records the attempt at this moment sees the
        # reports, or we see the attempt.
        moved = run(self.engine, lambda conn: receipts.match(conn, ids, now=now))
        for one in moved:
            metrics.count(metrics.DELIVERIES, one.status.value)
            log.info("otp_delivery", otp_id=str(one.request_id), status=one.status.value)
        self.tell((one.client_id, one.status) for one in moved)
        return new

    def pull(self, provider: Reports, *, now: datetime) -> int:
        """Take in all reports that the provider has ready; return how many were new."""
        new = 0
        for _ in range(_PULLS_AT_MOST):
            reports = provider.reports()
            if not reports:
                break
            new += self(reports, now=now)
        return new
