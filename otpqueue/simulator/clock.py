"""The simulated time, which tests can move forward."""

import time
from datetime import UTC, datetime

MAX_AHEAD_S = 100 * 365 * 86_400


class Clock:
    """Wall time plus `ahead_s` seconds, the sum of all `advance` calls."""

    def __init__(self, ahead_s: float = 0.0) -> None:
        self.ahead_s = ahead_s

    def now(self) -> float:
        """Return the simulated time in seconds since the epoch."""
        return time.time() + self.ahead_s

    def advance(self, seconds: float) -> None:
        """Move the clock forward.

        Raises ValueError for a move back, which would put windows out of order, and for a clock more than a
        hundred years ahead.
        """
        if not 0 <= seconds <= MAX_AHEAD_S - self.ahead_s:
            raise ValueError("the clock moves only forward, and at most a hundred years")
        self.ahead_s += seconds


def format_iso(at: float) -> str:
    """Render epoch seconds as ISO 8601 in UTC with milliseconds, ending in `Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_report_time(at: float) -> str:
    """Render epoch seconds as delivery reports do: `yyyy-MM-dd'T'HH:mm:ss.SSSZ`, an offset without colon."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "+0000")
