"""The contract between API and workers: wake-ups and heartbeats, in a real Redis."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from otpqueue import broker, jobs
from otpqueue.wiring import Parts
from tests.conftest import MakeParts
from tests.operations.looking import until


def waiting(parts: Parts) -> int:
    """Return how many `send_codes` messages wait for a worker."""
    return int(parts.redis.llen(jobs.SEND_CODES.queue))


def test_wake_up_is_published_once_until_it_is_taken(parts: Parts) -> None:
    """A second wake-up while one is pending is skipped. Once that is taken the next one is published."""
    first = parts.waker.wake()
    second = parts.waker.wake()
    pending = waiting(parts)
    parts.waker.clear_flag()
    third = parts.waker.wake()

    assert (first, second, third) == (True, True, True)
    assert (pending, waiting(parts)) == (1, 2)


def test_each_job_has_its_wake_up(parts: Parts) -> None:
    """A pending or taken wake-up of one job does not affect another job."""
    parts.waker.wake()
    parts.webhook_waker.wake()
    parts.webhook_waker.clear_flag()
    parts.waker.wake()

    message = json.loads(parts.redis.lindex("slow", 0))
    assert message["headers"]["task"] == "send_webhooks"
    assert (waiting(parts), parts.redis.llen(jobs.SEND_WEBHOOKS.queue)) == (1, 1)


def test_wake_up_that_is_not_taken_is_repeated(parts: Parts) -> None:
    """A lost wake-up delays the next one by at most a second."""
    parts.waker.wake()

    until(lambda: parts.waker.wake() and waiting(parts) == 2)


def test_lingering_worker_is_nudged(parts: Parts) -> None:
    """While a worker lingers nothing is published. It gets the number of nudges, once."""
    parts.waker.linger()

    woken = [parts.waker.wake() for _ in range(3)]

    assert woken == [True] * 3
    assert waiting(parts) == 0
    assert parts.waker.listen(0.1) == 3
    assert parts.waker.listen(0.1) == 0


def test_nudge_wakes_a_listener_at_once(parts: Parts, background: ThreadPoolExecutor) -> None:
    """A blocked listener receives a nudge at once, not at its next query."""
    parts.waker.linger()
    heard = background.submit(parts.waker.listen, jobs.LISTEN_AT_MOST_S)
    until(lambda: parts.redis.info("clients")["blocked_clients"] == 1)

    begun = time.monotonic()
    parts.waker.wake()

    assert heard.result(5) == 1
    assert time.monotonic() - begun < jobs.LISTEN_AT_MOST_S / 2


def test_lingering_ends(parts: Parts) -> None:
    """After a worker stops lingering, or is killed, wake-ups are soon published again."""
    parts.waker.linger()
    parts.waker.stop_lingering()
    parts.waker.wake()
    after_a_stop = waiting(parts)

    parts.waker.linger()
    lasts_ms = parts.redis.pttl(parts.waker.flag_key)
    parts.redis.delete(parts.waker.flag_key)  # as after its expiry
    parts.waker.wake()

    assert (after_a_stop, waiting(parts)) == (1, 2)
    assert 0 < lasts_ms <= jobs.LINGERING_MS


def test_nudge_that_is_not_taken_is_followed_by_a_publish(parts: Parts) -> None:
    """The flag of a worker that was killed while it lingered does not delay wake-ups."""
    parts.waker.linger()
    parts.waker.wake()
    parts.redis.pexpire(parts.waker.nudge_key, 1000)  # as if not popped for a second

    parts.waker.wake()

    assert waiting(parts) == 1
    assert parts.redis.get(parts.waker.flag_key) == jobs.PENDING.encode()
    assert parts.waker.listen(0.1) == 0


def test_flags_of_two_workers(parts: Parts, make_parts: MakeParts) -> None:
    """A job that begins keeps the flag of one that lingers. One that ends leaves a publish pending."""
    other = make_parts()

    def flag() -> bytes | None:
        parts.redis.persist(parts.waker.flag_key)  # however long this test takes
        return parts.redis.get(parts.waker.flag_key)  # type: ignore[return-value]

    other.waker.linger()
    flag()
    parts.waker.clear_flag()
    assert flag() == jobs.LINGERING.encode()
    other.waker.stop_lingering()
    parts.waker.wake()
    assert (flag(), waiting(parts)) == (jobs.PENDING.encode(), 1)
    other.waker.stop_lingering()
    assert flag() == jobs.PENDING.encode()

    other.waker.linger()
    parts.waker.linger()
    parts.waker.stop_lingering()
    assert flag() is None  # until the other one's next `linger`
    other.waker.linger()
    flag()
    parts.waker.wake()
    assert (waiting(parts), other.waker.listen(0.1)) == (1, 1)


def test_wake_up_is_one_command(parts: Parts) -> None:
    """Each kind of wake-up costs one round trip, and few commands in Redis."""
    parts.waker.wake()

    def commands(act: Callable[[], object]) -> int:
        before = parts.redis.info("commandstats")
        act()
        after = parts.redis.info("commandstats")
        names = ("cmdstat_evalsha", "cmdstat_eval", "cmdstat_set", "cmdstat_blpop")
        return sum(
            after.get(one, {"calls": 0})["calls"] - before.get(one, {"calls": 0})["calls"] for one in names
        )

    pending = commands(parts.waker.wake)
    parts.waker.linger()
    nudged = commands(parts.waker.wake)

    assert (pending, nudged) == (1, 1)


def test_wake_up_carries_nothing(parts: Parts) -> None:
    """The message names the job, expires, and has neither arguments nor personal data."""
    parts.waker.wake()

    message = json.loads(parts.redis.lindex("send", 0))
    headers = message["headers"]
    assert headers["task"] == "send_codes"
    assert headers["expires"] is not None
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("()", "{}")


def test_failed_wake_up_is_reported(make_parts: MakeParts, parts: Parts, closed_port: int) -> None:
    """With Redis or the broker down `wake` returns False, and `taken` does no harm."""
    down = f"redis://127.0.0.1:{closed_port}/0"

    for broken in (make_parts(REDIS_URL=down), make_parts(OTPQUEUE_BROKER_URL=down)):
        assert not broken.waker.wake()
        broken.waker.clear_flag()
        broken.waker.stop_lingering()
    without_redis = make_parts(REDIS_URL=down).waker
    assert (without_redis.linger(), without_redis.listen(0.1)) == (False, None)

    assert waiting(parts) == 0


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_lost_broker_is_tried_every_two_seconds(closed_port: int, scheme: str) -> None:
    """A worker reconnects to its broker every two seconds, without a growing back-off: codes have 90 s."""
    worker = broker.make_celery(f"{scheme}://127.0.0.1:{closed_port}/0", quick=False)
    pauses: list[float] = []

    def failed(_: Exception, pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            raise StopIteration

    with worker.connection_for_read() as connection, pytest.raises(StopIteration):
        connection.ensure_connection(failed, None)

    assert pauses == [2, 2]
