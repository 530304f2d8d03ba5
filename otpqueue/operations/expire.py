"""End requests whose code nobody typed in time, and forget reports that nobody asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from otpqueue.logs import get_logger
from otpqueue.store import receipts, requests
from otpqueue.store.engine import connection

log = get_logger(__name__)

BATCH = 1000
_BATCHES_AT_MOST = 50


@dataclass(frozen=True, kw_only=True)
class Expire:
    """Expires codes."""

    engine: Engine

    def __call__(self, *, now: datetime) -> int:
        """End what has outlived its time, in batches that do not block traffic; return how many.

        Raises DatabaseUnavailable.
        """
        total = 0
        for _ in range(_BATCHES_AT_MOST):
            with connection(self.engine) as conn:
                ended = requests.expire_codes(conn, now=now, limit=BATCH)
            total += ended
            if ended < BATCH:
                break
        with connection(self.engine) as conn:
            unmatched = receipts.forget_unmatched(conn, now=now)
        if unmatched:
            log.warning("receipts_unmatched", receipts=unmatched)
        if total:
            log.info("otp_expired", requests=total)
        return total
