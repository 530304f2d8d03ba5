"""Expire unverified requests, and match or delete unmatched delivery reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Engine

from otpqueue.store import expiring, receipts
from otpqueue.store.engine import run
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

BATCH = 1000
_BATCHES_AT_MOST = 50
_LEFT_OVER_AFTER = timedelta(seconds=10)
_LEFTOVERS_AT_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Expire:
    """Expires codes."""

    engine: Engine

    def __call__(self, *, now: datetime) -> int:
        """Expire overdue requests, in batches that do not block traffic. Returns how many.

        Raises DatabaseUnavailable.
        """
        total = 0
        for _ in range(_BATCHES_AT_MOST):
            ended = run(self.engine, lambda conn: expiring.expire_codes(conn, now=now, limit=BATCH))
            for one in ended:
                log.info("otp_expired", otp_id=str(one.id), client_id=str(one.client_id), reason=one.reason)
            total += len(ended)
            if len(ended) < BATCH:
                break
        self._match_leftovers(now)
        unmatched = run(self.engine, lambda conn: receipts.delete_unmatched(conn, now=now))
        if unmatched:
            log.warning("receipts_unmatched", receipts=unmatched)
        return total

    def _match_leftovers(self, now: datetime) -> None:
        """Match reports that a worker left unmatched: it ended right after it recorded their attempt."""
        before = now - _LEFT_OVER_AFTER
        messages = run(
            self.engine, lambda conn: receipts.find_matchable(conn, before=before, limit=_LEFTOVERS_AT_MOST)
        )
        for start in range(0, len(messages), BATCH):
            work = partial(
                receipts.match, message_ids=messages[start : start + BATCH], now=now, skip_locked=True
            )
            for one in run(self.engine, work):
                log.info("otp_delivery", otp_id=str(one.request_id), status=one.status.value)
        if messages:
            log.warning("receipts_matched_late", messages=len(messages))
