"""Record what is known for certain, however long Postgres is away: it cannot be asked for again."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")

KEPT_S = 3600.0
"""How long a result is kept that cannot be recorded."""

RETRY_S = 0.5
"""Pause before it is recorded again: shorter than any that a repeated delivery would have."""


def record_when_possible(record: Callable[[], T], *, what: str, results: int) -> T:
    """Call `record` until it raises no DatabaseUnavailable and return what it returns; wait in between.

    A graceful stop waits for this as for any job, up to OTPQUEUE_STOP_WITHIN_S. Raises DatabaseUnavailable
    after `KEPT_S` seconds.
    """
    begun, is_logged = time.monotonic(), False
    while True:
        try:
            recorded = record()
        except DatabaseUnavailable:
            if time.monotonic() - begun > KEPT_S:
                log.exception("results_dropped", what=what, results=results)
                raise
            if not is_logged:
                log.warning("results_kept", what=what, results=results)
            is_logged = True
            time.sleep(RETRY_S)
        else:
            if is_logged:
                waited_s = round(time.monotonic() - begun, 1)
                log.info("results_recorded_late", what=what, results=results, waited_s=waited_s)
            return recorded
