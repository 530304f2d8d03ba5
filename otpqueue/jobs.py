"""The contract between API and workers: job names, queues and wake-ups.

The database table is the queue. A Celery message is a wake-up without a payload, after which a worker claims
due rows.

Each job has a flag, a key in Redis. A process that adds work reads it first:

| flag      | set by                                  | what a wake-up does                            |
|-----------|-----------------------------------------|------------------------------------------------|
| absent    |                                         | sets it to `1` and publishes the job           |
| `1`       | a wake-up, for a second at most         | nothing: a publish is pending                  |
| `linger`  | a job that polls for work               | adds 1 to the nudge, a list of one number      |

A worker with a lingering job pops the nudge with BLPOP. While work keeps coming, no message is published.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from celery import Celery
from kombu.exceptions import ChannelError, ConnectionError, KombuError  # noqa: A004 - AMQP's own, not Python's
from redis import ConnectionPool, Redis
from redis.exceptions import RedisError

from otpqueue.redis_script import RedisScript
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

SOCKET_TIMEOUT_S = 0.25
"""An unresponsive Redis or broker must not delay the response to a caller."""

LISTEN_AT_MOST_S = 1.0
"""The longest wait of one call of `Waker.listen`."""

_FLAG = "otpqueue:wake:"
_NUDGE = "otpqueue:nudge:"

PENDING = "1"
"""Flag value: the job's message has been published, or is about to be."""

LINGERING = "linger"
"""Flag value: a worker polls for work, so no message is needed."""

PENDING_MS = 1000
LINGERING_MS = 1500
NUDGE_MS = 2000
_STALE_NUDGE_MS = 250
"""A nudge that has not been popped for this long was meant for a worker that was killed."""


class WakeUp(IntEnum):
    """The result of `WAKE_LUA`."""

    PENDING = 0
    """A publish is pending. Nothing to do."""
    TAKEN = 1
    """The flag was absent and is now set. The caller must publish the job."""
    NUDGED = 2
    """A job lingers and has been nudged. Nothing to do."""


WAKE_LUA = f"""
local function wake(flag, nudge)
    local found = redis.call('GET', flag)
    if found == '{LINGERING}' then
        local waiting = redis.call('LINDEX', nudge, 0)
        if not waiting then
            redis.call('LPUSH', nudge, 1)
            redis.call('PEXPIRE', nudge, {NUDGE_MS})
            return {WakeUp.NUDGED}
        end
        if redis.call('PTTL', nudge) > {NUDGE_MS - _STALE_NUDGE_MS} then
            redis.call('LSET', nudge, 0, waiting + 1)
            return {WakeUp.NUDGED}
        end
        redis.call('DEL', nudge)
    elseif found then
        return {WakeUp.PENDING}
    end
    redis.call('SET', flag, '{PENDING}', 'PX', {PENDING_MS})
    return {WakeUp.TAKEN}
end
"""
"""A Lua function `wake(flag, nudge)` for scripts that wake a worker. It returns a `WakeUp`.

The script may run before the caller commits its row, because a nudged worker queries again after a moment.
Pass the result to `Waker.follow` after the commit.
"""

_WAKE = WAKE_LUA + "return wake(KEYS[1], KEYS[2])"

_CLEAR_IF = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"


@dataclass(frozen=True)
class Job:
    """A job's name, its queue, and how long its message is valid, in seconds."""

    name: str
    queue: str
    expires_s: float


SEND_CODES = Job("send_codes", "send", 10)
SEND_WEBHOOKS = Job("send_webhooks", "slow", 10)
SWEEP = Job("sweep", "periodic", 10)
EXPIRE = Job("expire", "periodic", 30)
POLL_RECEIPTS = Job("poll_receipts", "periodic", 30)
EVALUATE_ALERTS = Job("evaluate_alerts", "slow", 60)
NOTIFY = Job("notify", "slow", 20)
PURGE = Job("purge", "slow", 600)
ROLL_UP = Job("roll_up", "periodic", 10)
ALL = (
    SEND_CODES,
    SWEEP,
    EXPIRE,
    POLL_RECEIPTS,
    SEND_WEBHOOKS,
    EVALUATE_ALERTS,
    NOTIFY,
    PURGE,
    ROLL_UP,
)
QUEUES = tuple(dict.fromkeys(job.queue for job in ALL))

_BROKER_FAILURES = (KombuError, ConnectionError, ChannelError, OSError)


class Waker:
    """Wakes a worker for one job. Thread-safe.

    It publishes no message while one is pending or a worker lingers.
    """

    def __init__(self, *, redis: Redis, celery: Celery, job: Job) -> None:
        self._redis, self._celery, self._job = redis, celery, job
        self.flag_key = _FLAG + job.name
        self.nudge_key = _NUDGE + job.name
        self._wake = RedisScript(redis, _WAKE)
        self._clear_if = RedisScript(redis, _CLEAR_IF)
        self._listening = threading.Lock()

    def wake(self) -> bool:
        """Wake a worker. Returns False and logs if that fails. One round trip to Redis.

        A failed wake-up is not an error for the caller: beat wakes a worker every few seconds.
        """
        try:
            outcome = WakeUp(self._wake(keys=[self.flag_key, self.nudge_key]))
        except RedisError as error:
            return self._log_failure(error)
        return self.follow(outcome)

    def follow(self, outcome: WakeUp) -> bool:
        """Act on a result of `WAKE_LUA`. Returns False and logs if that fails."""
        if outcome is WakeUp.TAKEN:
            return self.publish()
        metrics.count(metrics.WAKE_UPS, self._job.name, outcome.name.lower())
        return True

    def publish(self) -> bool:
        """Publish the job, whatever its flag. Returns False and logs if that fails."""
        try:
            # A failed publish leaves the flag, so that callers retry a failing broker only once a second.
            self._send_task()
        except (RedisError, *_BROKER_FAILURES) as error:
            return self._log_failure(error)
        metrics.count(metrics.WAKE_UPS, self._job.name, "published")
        return True

    def _log_failure(self, error: Exception) -> bool:
        metrics.count(metrics.WAKE_UPS, self._job.name, "failed")
        log.warning("wake_failed", job=self._job.name, error=type(error.__cause__ or error).__name__)
        return False

    def _send_task(self) -> None:
        try_again_until = time.monotonic() + SOCKET_TIMEOUT_S / 2
        while True:
            with self._celery.producer_or_acquire() as producer:
                try:
                    self._celery.send_task(
                        self._job.name,
                        queue=self._job.queue,
                        expires=self._job.expires_s,
                        retry=False,
                        ignore_result=True,
                        producer=producer,
                    )
                except _BROKER_FAILURES:
                    # Otherwise the pool would reuse this connection, with half an answer still in transit.
                    producer.connection.collect()
                    if time.monotonic() >= try_again_until:
                        raise
                    # An immediate failure may come from a connection that broke when the broker restarted.
                    # Retry once.
                    try_again_until = 0
                else:
                    return

    def clear_flag(self) -> None:
        """Clear the flag of a received wake-up.

        Call before querying for work, so that no later wake-up is lost.
        """
        metrics.count(metrics.WAKE_UPS_TAKEN, self._job.name)
        try:
            # Another worker's job may linger. Its flag remains.
            self._clear_if(keys=[self.flag_key], args=[PENDING])
        except RedisError as error:
            log.warning("wake_flag_not_cleared", job=self._job.name, error=type(error).__name__)

    def linger(self) -> bool:
        """Set the flag for 1.5 s while a job of this worker polls for work.

        Returns False while Redis is away.
        """
        try:
            self._redis.set(self.flag_key, LINGERING, px=LINGERING_MS)
        except RedisError:
            return False
        return True

    def stop_lingering(self) -> None:
        """Have the next wake-up publish again.

        The caller must query once more after a moment to miss no work.

        If another worker lingers too, its next `linger` call sets the flag again.
        """
        try:
            self._clear_if(keys=[self.flag_key], args=[LINGERING])
        except RedisError as error:
            log.warning("wake_flag_not_cleared", job=self._job.name, error=type(error).__name__)

    def listen(self, seconds: float) -> int | None:
        """Wait for nudges and return their number: 0 on timeout, None while Redis is away."""
        try:
            with self._listening:
                found = self._listener.blpop([self.nudge_key], timeout=min(seconds, LISTEN_AT_MOST_S))
        except RedisError:
            return None
        return int(found[1]) if found else 0

    @cached_property
    def _listener(self) -> Redis:
        # A separate connection with a read timeout longer than the wait of BLPOP.
        pool = self._redis.connection_pool
        patient = pool.connection_kwargs | {"socket_timeout": LISTEN_AT_MOST_S + SOCKET_TIMEOUT_S}
        return Redis(
            connection_pool=ConnectionPool(
                connection_class=pool.connection_class, max_connections=1, **patient
            )
        )

    def close(self) -> None:
        """Close the listening connection once no call uses it. A later `listen` opens a new one."""
        with self._listening:
            listener = self.__dict__.pop("_listener", None)
            if listener is not None:
                listener.close()
                listener.connection_pool.disconnect()
