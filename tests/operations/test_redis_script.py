"""Scripts of the hot path: after Redis has dropped its scripts, and on connections that break."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from otpqueue import broker
from otpqueue.redis_script import RedisScript

ADD = "return redis.call('INCRBY', KEYS[1], ARGV[1])"
FAIL = "return redis.call('INCR', KEYS[1], 'too many')"


@pytest.fixture
def redis(redis_url: str) -> Redis:
    """Return an empty Redis, connected as our processes connect."""
    return broker.connect_redis(redis_url)


def test_script_runs_once_for_each_call(redis: Redis, redis_url: str) -> None:
    """Also when Redis has dropped it, has closed the connection, or has answered with an error before."""
    add, fail = RedisScript(redis, ADD), RedisScript(redis, FAIL)
    with Redis.from_url(redis_url) as operator:
        operator.script_flush()
        assert add(keys=["n"], args=[1]) == 1
        operator.script_flush()
        assert add(keys=["n"], args=["2"]) == 3
        with pytest.raises(ResponseError):
            fail(keys=["n"])
        with pytest.raises(ResponseError):
            fail(keys=["n"])
        for client in operator.client_list():
            if client["id"] != str(operator.client_id()):
                operator.client_kill_filter(_id=client["id"])
        assert add(keys=["n"], args=[3]) == 6
        redis.close()
        assert add(keys=["n"], args=[4]) == 10


def test_concurrent_calls_have_a_connection_each(redis: Redis) -> None:
    """Answers do not mix, and connections are used again."""
    add = RedisScript(redis, ADD)

    def call(thread: int) -> list[int]:
        barrier.wait()
        return [add(keys=[f"n{thread}"], args=[1]) for _ in range(50)]

    for _ in range(2):
        barrier = threading.Barrier(8)
        with ThreadPoolExecutor(8) as threads:
            for thread, answers in enumerate(threads.map(call, range(8))):
                redis.delete(f"n{thread}")
                assert answers == list(range(1, 51))
    assert len(add._idle) <= 8


def test_connection_that_breaks_within_a_call_is_dropped(redis: Redis, redis_url: str) -> None:
    """A late answer does not become the answer of the next call."""
    slow = RedisScript(redis, "redis.call('SET', KEYS[1], 1) return ARGV[1]")
    assert slow(keys=["a"], args=["first"]) == b"first"
    with Redis.from_url(redis_url) as operator:
        operator.client_pause(600)  # longer than our time-out
        with pytest.raises(RedisError):
            slow(keys=["a"], args=["late"])
        operator.client_unpause()
    assert slow(keys=["a"], args=["next"]) == b"next"


def test_unreachable_redis_is_an_error(closed_port: int) -> None:
    """The same error as that of redis-py."""
    with pytest.raises(RedisConnectionError):
        RedisScript(broker.connect_redis(f"redis://127.0.0.1:{closed_port}/0"), ADD)(keys=["n"], args=[1])


def test_forked_child_has_connections_of_its_own(redis: Redis) -> None:
    """A parent and its child do not read each other's answers."""
    add = RedisScript(redis, ADD)
    add(keys=["n"], args=[1])
    (ours,) = add._idle
    child = os.fork()
    if child == 0:
        taken = add._take_connection()
        os._exit(0 if taken is not ours else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert add(keys=["n"], args=[1]) == 2
