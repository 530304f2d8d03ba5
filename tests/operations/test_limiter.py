"""Moving windows in a real Redis: exact with many threads, atomic over several windows, on Redis's clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from freezegun import freeze_time
from limits import RateLimitItemPerSecond
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter
from redis import Redis

from otpqueue import broker, clock, jobs
from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import KEY_RATE, REQUEST_LIMITS, Quota
from otpqueue.limiter import CountedCall, Limiter, LimitWindow

THREE = Quota(3, 900)
FIRST, SECOND = REQUEST_LIMITS[0], REQUEST_LIMITS[1]


@pytest.fixture
def redis(redis_url: str) -> Redis:
    """Return an empty Redis, connected as our processes connect."""
    return broker.connect_redis(redis_url)


@pytest.fixture
def limiter(redis: Redis) -> Limiter:
    """Return a limiter."""
    return Limiter(redis)


def window(quota: Quota = THREE, subject: str = "ann", limit: object = FIRST) -> LimitWindow:
    """Return a window."""
    return LimitWindow(limit=limit, quota=quota, subject=subject)  # type: ignore[arg-type]


def grow_older(redis: Redis, seconds: float) -> None:
    """Move everything that was counted into the past."""
    for key in redis.scan_iter("otpqueue:limits:*"):
        times = [f"{float(one) - seconds:.6f}" for one in redis.lrange(key, 0, -1)]
        redis.delete(key)
        redis.rpush(key, *times)


def at_once(threads: int, work: Callable[[int], CountedCall]) -> list[CountedCall]:
    """Call a function in this many threads at once."""
    barrier = threading.Barrier(threads)

    def one(index: int) -> CountedCall:
        barrier.wait()
        return work(index)

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(one, range(threads)))


def test_two_hundred_at_once_admit_three(limiter: Limiter) -> None:
    """Of 200 concurrent attempts exactly three are admitted, each with another remaining count."""
    taken = at_once(200, lambda _: limiter.count_call([window()]))

    admitted = [one for one in taken if one.admitted]
    assert sorted(one.statuses[0].left for one in admitted) == [0, 1, 2]
    refused = [one.statuses[0] for one in taken if not one.admitted]
    assert len(refused) == 197
    assert {one.left for one in refused} == {0}
    assert {one.retry_after_s for one in refused} <= {899, 900}


def test_a_window_that_is_full_leaves_the_others_alone(limiter: Limiter) -> None:
    """200 threads count in a window of three and one of a hundred: both have counted the same three."""
    pair = [window(Quota(100, 900), limit=FIRST), window(THREE, limit=SECOND)]

    taken = at_once(200, lambda _: limiter.count_call(pair))

    assert sum(one.admitted for one in taken) == 3
    assert limiter.count_call([pair[0]]).statuses[0].left == 100 - 3 - 1


def test_many_windows_at_once_never_refuse_without_reason(limiter: Limiter) -> None:
    """Attempts with one shared window and one of their own are refused only by the shared one."""
    shared = window(Quota(50, 900), subject="all", limit=SECOND)

    taken = at_once(
        200, lambda index: limiter.count_call([window(Quota(1, 900), subject=str(index)), shared])
    )

    assert sum(one.admitted for one in taken) == 50
    refused = [one for one in taken if not one.admitted]
    assert {one.statuses[0].left for one in refused} == {1}


def test_retry_after_is_exact(limiter: Limiter, redis: Redis) -> None:
    """A window is full exactly until its oldest entry has left it."""
    limiter.count_call([window()])
    grow_older(redis, 100)
    for _ in range(2):
        assert limiter.count_call([window()]).admitted

    refused = limiter.count_call([window()]).statuses[0]
    assert refused.retry_after_s in {799, 800}
    grow_older(redis, refused.more_in_s - 5)
    early = limiter.count_call([window()])
    assert (early.admitted, early.statuses[0].retry_after_s in {4, 5}) == (False, True)
    grow_older(redis, 5)
    late = limiter.count_call([window()])
    assert (late.admitted, late.statuses[0].left) == (True, 0)


def test_a_burst_over_the_edge_of_a_window_is_refused(limiter: Limiter, redis: Redis) -> None:
    """The window moves: three at its end leave no room for three at the start of the next."""
    for _ in range(3):
        limiter.count_call([window()])
    grow_older(redis, 899)

    assert not limiter.count_call([window()]).admitted
    grow_older(redis, 1)
    assert [limiter.count_call([window()]).admitted for _ in range(4)] == [True, True, True, False]


def test_given_back_makes_room(limiter: Limiter) -> None:
    """A reverted attempt leaves no trace in any window, and another's stays."""
    pair = [window(limit=FIRST), window(limit=SECOND)]
    limiter.count_call(pair)
    second = limiter.count_call(pair)

    limiter.undo_call(pair, second)
    limiter.undo_call(pair, second)

    assert [one.left for one in limiter.count_call(pair).statuses] == [1, 1]


def test_hosts_with_different_clocks_share_a_window(limiter: Limiter) -> None:
    """Redis's clock counts: a host an hour ahead or behind has the same windows as the others."""
    admitted = []
    for hours in (0, 1, -1, 2, -2):
        # The simulator may run in this process: a timer that its loop sets by a frozen clock never ends.
        with freeze_time(clock.now() + timedelta(hours=hours), ignore=["asyncio"]):
            admitted.append(limiter.count_call([window()]).admitted)

    assert admitted == [True, True, True, False, False]


def test_windows_are_the_librarys(limiter: Limiter, redis: Redis) -> None:
    """The limits library reads the windows that are stored here."""
    for _ in range(2):
        limiter.count_call([window(Quota(5, 900))])

    storage = RedisStorage("redis://", connection_pool=redis.connection_pool, key_prefix="otpqueue:limits")
    item = RateLimitItemPerSecond(5, 900, namespace=FIRST.name)
    assert MovingWindowRateLimiter(storage).get_window_stats(item, "ann").remaining == 3


def test_rate_is_counted_before_the_limits_and_whatever_becomes_of_them(limiter: Limiter) -> None:
    """A full rate leaves the limits uncounted. Full limits leave the rate counted."""
    rate, few = window(Quota(3, 900), limit=KEY_RATE), window(Quota(1, 900))

    first, second = (limiter.count_call([few], rate=[rate]) for _ in range(2))
    assert (first.rate_admitted, first.admitted) == (True, True)
    assert (second.rate_admitted, second.admitted) == (True, False)
    assert [one.left for one in second.statuses] == [1, 0]

    limiter.count_call([], rate=[rate])
    third = limiter.count_call([few], rate=[rate])
    assert (third.rate_admitted, third.admitted) == (False, False)
    assert [one.limit.name for one in third.statuses] == ["key_rate"]


def test_a_worker_is_woken_by_the_script_that_counts(redis: Redis) -> None:
    """Only an admitted attempt sets the flag or nudges, and of several only one sets the flag."""
    limiter = Limiter(redis, wake_lua=jobs.WAKE_LUA)
    wake = ("otpqueue:wake:test", "otpqueue:nudge:test")

    found = [limiter.count_call([window(Quota(2, 900))], wake=wake).wake_up for _ in range(3)]
    assert found == [jobs.WakeUp.TAKEN, jobs.WakeUp.PENDING, None]

    redis.set(wake[0], jobs.LINGERING)
    assert limiter.count_call([window(subject="bob")], wake=wake).wake_up == jobs.WakeUp.NUDGED
    assert redis.llen(wake[1]) == 1


def test_unused_windows_expire(limiter: Limiter, redis: Redis) -> None:
    """Unused windows expire in Redis, and a window never has more entries than its quota."""
    quota = Quota(2, 7)
    for _ in range(5):
        limiter.count_call([window(quota)])

    (key,) = redis.keys("otpqueue:limits:*")
    assert 0 < redis.ttl(key) <= 8
    assert redis.llen(key) == 2


def test_a_restarted_redis_is_asked_again(own_valkey: object) -> None:
    """Lost connections and scripts are replaced after a restart of Redis, without an error."""
    limiter = Limiter(broker.connect_redis(own_valkey.url))  # type: ignore[attr-defined]
    assert limiter.count_call([window()]).admitted

    own_valkey.stop()  # type: ignore[attr-defined]
    with pytest.raises(LimitsUnavailable):
        limiter.count_call([window()])
    own_valkey.start()  # type: ignore[attr-defined]

    assert limiter.count_call([window(KEY_RATE_QUOTA, limit=KEY_RATE)]).admitted


KEY_RATE_QUOTA = Quota(100, 1)
