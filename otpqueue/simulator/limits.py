"""Rate limits: counts hits per key in time windows."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from typing import Literal

from otpqueue.simulator.durations import AttemptLimit

_PRUNE_EVERY = 50_000


class HitWindows:
    """Hits per key, kept as ascending times in seconds; only granted hits are recorded.

    `sliding` counts the hits of the last `limit.seconds`; `fixed` those since the last whole multiple of
    it. Which of the two Infobip uses is INFERRED.
    """

    def __init__(self, kind: Literal["sliding", "fixed"]) -> None:
        self._kind = kind
        self._times: dict[str, list[float]] = {}
        self._longest_s = 0.0
        self._hits = 0

    def wait(self, key: str, limit: AttemptLimit, now: float) -> float:
        """Return the seconds until `key` may be hit again; 0.0 if it may be hit now."""
        self._longest_s = max(self._longest_s, limit.seconds)
        times = self._times.get(key, [])
        if self._kind == "sliding":
            first = bisect_right(times, now - limit.seconds)
            frees_at = times[-limit.attempts] + limit.seconds if 0 < limit.attempts <= len(times) else None
        else:
            start = now - now % limit.seconds
            first = bisect_left(times, start)
            frees_at = start + limit.seconds
        del times[:first]
        if len(times) < limit.attempts:
            return 0.0
        # A limit of zero attempts never admits a hit; report one window.
        return (frees_at if frees_at is not None else now + limit.seconds) - now

    def hit(self, key: str, now: float) -> None:
        """Record one granted request at `now`."""
        self._times.setdefault(key, []).append(now)
        self._hits += 1
        if self._hits % _PRUNE_EVERY == 0:
            self._prune(now - self._longest_s)

    def times(self) -> dict[str, list[float]]:
        """Return all hits on record, ascending, by key."""
        return self._times

    def restore(self, times: Mapping[str, list[float]]) -> None:
        """Put back what `times` returned."""
        self._times = {key: list(of_key) for key, of_key in times.items()}

    def _prune(self, before: float) -> None:
        self._times = {key: times for key, times in self._times.items() if times and times[-1] > before}
