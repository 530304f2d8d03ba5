"""The contract between API and workers: wake-ups and signs of life, in a real Redis."""

from __future__ import annotations

import json

import pytest

from otpqueue import jobs
from otpqueue.wiring import Parts
from tests.conftest import MakeParts
from tests.operations.looking import until


def waiting(parts: Parts) -> int:
    """Return how many `send_codes` messages wait for a worker."""
    return int(parts.redis.llen(jobs.SEND_CODES.queue))


def test_wake_up_is_published_once_until_it_is_taken(parts: Parts) -> None:
    """A second wake-up while one is pending is left out; after it was taken the next one gets through."""
    first = parts.waker.wake()
    second = parts.waker.wake()
    pending = waiting(parts)
    parts.waker.taken()
    third = parts.waker.wake()

    assert (first, second, third) == (True, True, True)
    assert (pending, waiting(parts)) == (1, 2)


def test_each_job_has_its_wake_up(parts: Parts) -> None:
    """One job's pending wake-up, and that it is taken, is nothing to another job."""
    parts.waker.wake()
    parts.webhook_waker.wake()
    parts.webhook_waker.taken()
    parts.waker.wake()

    message = json.loads(parts.redis.lindex("slow", 0))
    assert message["headers"]["task"] == "send_webhooks"
    assert (waiting(parts), parts.redis.llen(jobs.SEND_WEBHOOKS.queue)) == (1, 1)


def test_wake_up_that_nobody_takes_is_repeated(parts: Parts) -> None:
    """A wake-up that got lost holds up the next one for a second at most."""
    parts.waker.wake()

    until(lambda: parts.waker.wake() and waiting(parts) == 2)


def test_wake_up_carries_nothing(parts: Parts) -> None:
    """The message names the job, expires, and holds neither arguments nor anything of a person."""
    parts.waker.wake()

    message = json.loads(parts.redis.lindex("send", 0))
    headers = message["headers"]
    assert headers["task"] == "send_codes"
    assert headers["expires"] is not None
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("()", "{}")


def test_failed_wake_up_is_told(make_parts: MakeParts, parts: Parts, closed_port: int) -> None:
    """With Redis or the broker down `wake` says so, and `taken` does no harm."""
    down = f"redis://127.0.0.1:{closed_port}/0"

    for broken in (make_parts(REDIS_URL=down), make_parts(OTPQUEUE_BROKER_URL=down)):
        assert not broken.waker.wake()
        broken.waker.taken()

    assert waiting(parts) == 0


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_lost_broker_is_tried_every_two_seconds(closed_port: int, scheme: str) -> None:
    """A worker that lost its broker neither hammers it nor waits longer and longer: codes have 90 s."""
    worker = jobs.make_celery(f"{scheme}://127.0.0.1:{closed_port}/0", quick=False)
    pauses: list[float] = []

    def failed(_: Exception, pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 2:
            raise StopIteration

    with worker.connection_for_read() as connection, pytest.raises(StopIteration):
        connection.ensure_connection(failed, None)

    assert pauses == [2, 2]
