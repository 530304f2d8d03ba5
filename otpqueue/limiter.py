"""Rate limits in Redis: moving windows, several at once, all or nothing, in one script.

A window is a list of the times of the calls that it admitted, by Redis's clock, because the clocks of hosts
differ. The script counts a call in two steps: first the rate of its API key, which counts every call, then
the limits of the requested action. For an accepted call the script also decides whether to wake a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import Limit, LimitStatus, Quota
from otpqueue.redis_script import RedisScript
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_PREFIX = "otpqueue:limits"
_MARKS = "otpqueue:running:"
_MARK_MS = 10_000
"""Longer than any call takes. If a process is killed during a call, its key stays marked for this long."""
_AT_ONCE = 1000
"""Keys that one command deletes or lists."""

_NOTED_S = 400 * 86_400

# Each entry is pushed once and popped once, so the first loop has constant amortised cost. A script returns
# numbers as integers, hence microseconds. A window excludes its end: a slot is free exactly one window after
# it was taken, so `Retry-After` is exact.
#
# KEYS: the windows; the flag and the nudge of the job to wake; the mark of an Idempotency-Key. ARGV: the
# number of windows in the first step, the number of all windows, whether there is a job to wake, the lifetime
# of the mark in milliseconds, then the amount and seconds of each window. The answer: how many steps were
# counted (only the first if the second is full or another call with the same key is running), the stamp, the
# result of `wake`, whether another call is running, then for each evaluated window the remaining calls and
# the microseconds until there are more.
_TAKE = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local stamp = string.format('%.6f', now)
local first, all = tonumber(ARGV[1]), tonumber(ARGV[2])
local answer = {0, stamp, false, 0}
local mark = KEYS[all + 1 + 2 * tonumber(ARGV[3])]

local function count(from, to)
    local admitted = true
    local counts = {}
    for i = from, to do
        local key, window = KEYS[i], tonumber(ARGV[4 + 2 * i])
        local oldest = redis.call('LINDEX', key, -1)
        while oldest and tonumber(oldest) <= now - window do
            redis.call('RPOP', key)
            oldest = redis.call('LINDEX', key, -1)
        end
        counts[i] = redis.call('LLEN', key)
        if counts[i] >= tonumber(ARGV[3 + 2 * i]) then admitted = false end
    end
    for i = from, to do
        local key, window = KEYS[i], tonumber(ARGV[4 + 2 * i])
        if admitted then
            redis.call('LPUSH', key, stamp)
            redis.call('EXPIRE', key, window + 1)
            counts[i] = counts[i] + 1
        end
        local oldest = redis.call('LINDEX', key, -1) or stamp
        answer[#answer + 1] = tonumber(ARGV[3 + 2 * i]) - counts[i]
        answer[#answer + 1] = math.ceil((oldest + window - now) * 1000000)
    end
    return admitted
end

if not count(1, first) then return answer end
answer[1] = 1
if mark and not redis.call('SET', mark, stamp, 'NX', 'PX', ARGV[4]) then
    answer[4] = 1
    return answer
end
if not count(first + 1, all) then
    if mark then redis.call('DEL', mark) end
    return answer
end
answer[1] = 2
if ARGV[3] == '1' then answer[3] = wake(KEYS[all + 1], KEYS[all + 2]) end
return answer
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitWindow:
    """One counter: a limit, its quota, and a keyed hash of the counted subject."""

    limit: Limit
    quota: Quota
    subject: str

    @property
    def key(self) -> str:
        """Its key in Redis. A changed quota starts a new window."""
        quota = self.quota
        return f"{_PREFIX}:{self.limit.name}/{self.subject}/{quota.amount}/{quota.window_s}/second"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCall:
    """The result of counting a call."""

    rate_admitted: bool
    """Whether the rate windows admitted the call. They then count it whatever the other windows do."""
    admitted: bool
    """Whether all windows admitted the call."""
    statuses: tuple[LimitStatus, ...]
    """The status of each evaluated window after the call."""
    stamp: str
    """The entry of the call in each window that counts it."""
    wake_up: int | None
    """The result of the wake-up, a value of `jobs.WakeUp`. None if no job was to be woken."""
    is_running: bool
    """Whether another call with the same Idempotency-Key is running. Then only the rate counts the call."""


_CHECK = "redis.call('set', KEYS[1], '1', 'px', 1000)"


class Limiter:
    """Counts calls in windows that all processes share. Thread-safe."""

    def __init__(self, redis: Redis, *, wake_lua: str = "") -> None:
        """Count in `redis`. `wake_lua` defines the Lua function `wake(flag, nudge)`."""
        self._redis, self._take = redis, RedisScript(redis, wake_lua + _TAKE)

    def count_call(
        self,
        windows: Sequence[LimitWindow],
        *,
        rate: Sequence[LimitWindow] = (),
        wake: tuple[str, str] | None = None,
        mark: str | None = None,
    ) -> CountedCall:
        """Count a call in all windows of `rate`, then in all of `windows`, each step all or nothing.

        One round trip. `wake` names the flag and the nudge of the job to wake if both steps admit the call.
        `mark` identifies an Idempotency-Key: while one call holds the mark, no other call with it is counted.

        Raises LimitsUnavailable. Then it is unknown whether the call was counted.
        """
        every = (*rate, *windows)
        arguments: list[int] = [len(rate), len(every), int(wake is not None), _MARK_MS]
        for window in every:
            arguments += (window.quota.amount, window.quota.window_s)
        try:
            keys = [*(one.key for one in every), *(wake or ()), *([_MARKS + mark] if mark else ())]
            answer: Any = self._take(keys=keys, args=arguments)
        except RedisError as error:
            raise LimitsUnavailable(retry_after_s=1) from error
        steps, stamp, wake_up, is_running, *numbers = answer
        return CountedCall(
            rate_admitted=steps >= 1,
            admitted=steps == 2,
            statuses=tuple(_parse_statuses(every, numbers)),
            stamp=stamp.decode(),
            wake_up=wake_up,
            is_running=bool(is_running),
        )

    def delete_windows(self, windows: Sequence[LimitWindow]) -> None:
        """Delete these windows and their counts. Raises LimitsUnavailable."""
        keys = sorted({window.key for window in windows})
        try:
            for first in range(0, len(keys), _AT_ONCE):
                self._redis.unlink(*keys[first : first + _AT_ONCE])
        except RedisError as error:
            raise LimitsUnavailable(retry_after_s=1) from error

    def count_windows(self, limits: Iterable[Limit], mark: str) -> int:
        """Return the number of windows of these limits where `subject` starts with `mark`.

        Scans the names of all keys, a thousand per command. Raises LimitsUnavailable.
        """
        try:
            patterns = [f"{_PREFIX}:{limit.name}/{mark}*" for limit in limits]
            return sum(1 for one in patterns for _ in self._redis.scan_iter(match=one, count=_AT_ONCE))
        except RedisError as error:
            raise LimitsUnavailable(retry_after_s=1) from error

    def get_first_time(self, name: str, *, note: bool) -> float | None:
        """Return the first recorded time of `name`, by Redis's clock. With `note`, record it if it has none.

        Raises LimitsUnavailable.
        """
        key = f"{_PREFIX}:since/{name}"
        try:
            if note:
                seconds, microseconds = self._redis.time()
                self._redis.set(key, f"{seconds}.{microseconds:06}", nx=True, ex=_NOTED_S)
            found: Any = self._redis.get(key)
        except RedisError as error:
            raise LimitsUnavailable(retry_after_s=1) from error
        return float(found) if found else None

    def undo_call(
        self, windows: Sequence[LimitWindow], counted: CountedCall, *, mark: str | None = None
    ) -> None:
        """Remove the call from these windows, and the mark of its Idempotency-Key.

        A failure is logged. The call then counts until its window ends, and the key stays marked for some
        seconds.
        """
        try:
            with self._redis.pipeline(transaction=False) as pipe:
                if mark:
                    pipe.delete(_MARKS + mark)
                for window in windows:
                    pipe.lrem(window.key, 1, counted.stamp)
                pipe.execute()
        except RedisError as error:
            log.warning("limits_not_given_back", error=type(error).__name__)

    def check_redis(self) -> None:
        """Run a script that writes, as counting does. Raises RedisError."""
        self._redis.eval(_CHECK, 1, f"{_PREFIX}:health")


def _parse_statuses(windows: Iterable[LimitWindow], numbers: list[int]) -> Iterable[LimitStatus]:
    pairs = zip(numbers[::2], numbers[1::2], strict=True)
    # The script stops after the first step if that is full.
    for window, (left, more_in_us) in zip(windows, pairs, strict=False):
        yield LimitStatus(limit=window.limit, quota=window.quota, left=left, more_in_s=more_in_us / 1e6)
