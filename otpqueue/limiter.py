"""Counting in Redis: moving windows of the `limits` library, several of them at once, all or nothing.

A window is a list of the times of what it admitted, as the library keeps it. The library counts one window
at a time, by the clock of the host that asks. Ours is one script over all windows of a try, by Redis's own
clock: hosts whose clocks disagree share a window, and nothing need be undone when one of several is full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from redis import Redis
from redis.exceptions import RedisError

from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import Limit, Quota, Standing
from otpqueue.logs import get_logger

log = get_logger(__name__)

_PREFIX = "otpqueue:limits"

# Each entry is pushed once and popped once, so the first loop costs a constant on average. Numbers leave a
# script as integers: hence microseconds. A window's end is not part of it: after exactly its length there is
# room again, which makes `Retry-After` exact.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local stamp = string.format('%.6f', now)
local admitted = 1
local counts = {}
for i, key in ipairs(KEYS) do
    local amount, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    local oldest = redis.call('LINDEX', key, -1)
    while oldest and tonumber(oldest) <= now - window do
        redis.call('RPOP', key)
        oldest = redis.call('LINDEX', key, -1)
    end
    counts[i] = redis.call('LLEN', key)
    if counts[i] >= amount then admitted = 0 end
end
local answer = {admitted, stamp}
for i, key in ipairs(KEYS) do
    local amount, window = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
    if admitted == 1 then
        redis.call('LPUSH', key, stamp)
        redis.call('EXPIRE', key, window + 1)
        counts[i] = counts[i] + 1
    end
    local oldest = redis.call('LINDEX', key, -1) or stamp
    answer[#answer + 1] = amount - counts[i]
    answer[#answer + 1] = math.ceil((oldest + window - now) * 1000000)
end
return answer
"""


@dataclass(frozen=True, kw_only=True)
class Window:
    """What is to be counted: a limit, its quota, and a keyed hash of whom it is counted for."""

    limit: Limit
    quota: Quota
    whom: str

    @property
    def key(self) -> str:
        """Its key in Redis; another quota begins a window of its own."""
        item = RateLimitItemPerSecond(self.quota.amount, self.quota.window_s, namespace=self.limit.name)
        return item.key_for(self.whom)


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of a try."""

    admitted: bool
    standings: tuple[Standing, ...]
    """One for each window, after the try."""
    stamp: str
    """What stands for it in each window, if it was admitted."""


_CHECK = "redis.call('set', KEYS[1], '1', 'px', 1000)"


class Limiter:
    """Counts tries against windows that all processes share. Thread-safe."""

    def __init__(self, redis: Redis) -> None:
        # The address is not used: the pool has connections, with the time-outs of ours.
        self._storage = RedisStorage("redis://", connection_pool=redis.connection_pool, key_prefix=_PREFIX)
        self._redis, self._take = redis, redis.register_script(_TAKE)

    def take(self, windows: Sequence[Window]) -> Taken:
        """Count a try in all windows, or in none if one of them is full. One round trip.

        Raises LimitsUnavailable; whether it was counted then nobody knows.
        """
        arguments = [number for window in windows for number in (window.quota.amount, window.quota.window_s)]
        try:
            answer: Any = self._take(keys=self._keys(windows), args=arguments)
        except RedisError as error:
            raise LimitsUnavailable(retry_after_s=1) from error
        numbers = iter(answer[2:])
        standings = tuple(
            Standing(limit=window.limit, quota=window.quota, left=left, more_in_s=next(numbers) / 1e6)
            for window, left in zip(windows, numbers, strict=False)
        )
        return Taken(admitted=bool(answer[0]), standings=standings, stamp=answer[1].decode())

    def give_back(self, windows: Sequence[Window], taken: Taken) -> None:
        """Count the try no more. A failure is logged: it costs a try until the window is over."""
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                for key in self._keys(windows):
                    pipe.lrem(key, 1, taken.stamp)
                pipe.execute()
        except RedisError as error:
            log.warning("limits_not_given_back", error=type(error).__name__)

    def _keys(self, windows: Sequence[Window]) -> list[str]:
        return [self._storage.prefixed_key(window.key) for window in windows]

    def check(self) -> None:
        """Do what counting needs: run a script that writes. Raises RedisError."""
        self._redis.eval(_CHECK, 1, f"{_PREFIX}:health")
