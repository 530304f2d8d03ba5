"""RabbitMQ as the broker: wake-ups, outages and an unresponsive broker.

Needs `rabbitmq-server`: `python -m tests.faults.rabbitmq pytest tests/worker/test_rabbitmq.py` installs it.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import structlog
from kombu import Connection

from otpqueue import broker, clock, jobs
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts, Provider
from tests.faults.rabbitmq import RabbitMq, find_server, running
from tests.operations.looking import Rows, at_once, numbers, until
from tests.worker.conftest import Start
from tests.worker.test_workers import BEAT, OFTEN, PERIODIC, SEND, statuses, until_served


@pytest.fixture(scope="module")
def _node() -> Iterator[RabbitMq]:
    if (program := find_server()) is None:
        pytest.skip(
            "rabbitmq-server is not installed; `python -m tests.faults.rabbitmq pytest ...` installs it"
        )
    with running(program) as node:
        yield node


@pytest.fixture
def rabbit(_node: RabbitMq) -> RabbitMq:
    """Return a node that runs, without a message."""
    _node.go_on()
    _node.start()
    with Connection(_node.url) as connection:
        for queue in jobs.QUEUES:
            # Only emptied: connections that an earlier test left in the pool know that it is there.
            connection.default_channel.queue_declare(queue, durable=True, auto_delete=False)
            connection.default_channel.queue_purge(queue)
    return _node


@pytest.fixture
def parts(make_parts: MakeParts, rabbit: RabbitMq) -> Parts:
    """Return provisioned parts that publish to the node."""
    parts = make_parts(OTPQUEUE_BROKER_URL=rabbit.url)
    parts.provision(parts.transport, now=clock.now())
    return parts


@pytest.fixture
def begin(start: Start, rabbit: RabbitMq) -> Start:
    """Return a function that starts processes of ours on the node."""
    return lambda *command, **differing: start(*command, OTPQUEUE_BROKER_URL=rabbit.url, **differing)


def waiting(rabbit: RabbitMq, queue: str = "send") -> int:
    """Return how many messages wait in a queue."""
    with Connection(rabbit.url) as connection:
        return int(connection.default_channel.queue_declare(queue, passive=True).message_count)


def wake_all(wakers: list[jobs.Waker]) -> list[bool]:
    """Wake by all of them at once, as if no wake-up were pending."""
    for waker in wakers:
        waker.clear_flag()
    return at_once([waker.wake for waker in wakers])


def wake(parts: Parts) -> bool:
    """Wake as if no wake-up were pending."""
    parts.waker.clear_flag()
    return parts.waker.wake()


def test_woken_workers_send_everything_once(
    begin: Start,
    rabbit: RabbitMq,
    parts: Parts,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    logged: Callable[[], str],
) -> None:
    """Two workers that only RabbitMQ wakes send everything once. No log contains the password."""
    workers = [begin(*SEND), begin(*SEND)]
    until_served(parts, "send")

    alone = ask(numbers(1)[0])
    until(lambda: rows.request(alone.id)["status"] == "sent")
    for number in numbers(41)[1:]:
        ask(number)
    until(lambda: statuses(rows) == {"sent": 41})
    until(lambda: waiting(rabbit) == 0)
    for worker in workers:
        os.kill(worker.pid, signal.SIGTERM)
    codes = [worker.wait(20) for worker in workers]

    assert codes == [0, 0], logged()
    assert len(provider.messages()) == len(rows.attempts()) == 41
    keys = {key.decode() for key in parts.redis.scan_iter()}
    assert {key for key in keys if not key.startswith("otpqueue:limits:")} <= {
        "otpqueue:wake:send_codes",
        "otpqueue:workers",
    }
    assert rabbit.password not in logged()
    assert "Traceback" not in logged()
    assert '"level": "error"' not in logged()


def test_stopped_worker_finishes_what_it_is_sending(
    begin: Start,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    logged: Callable[[], str],
) -> None:
    """On SIGTERM what is in flight is finished and recorded, the rest stays due, and the exit code is 0."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=900)
    worker = begin(
        *SEND,
        OTPQUEUE_SENDER_THREADS="4",
        OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="5",
        OTPQUEUE_TUNING_SEND_LEASE_S="10",
        OTPQUEUE_TUNING_CHECK_LEASE_S="6",
    )
    for number in numbers(12):
        ask(number)
    until(lambda: len(provider.messages()) >= 4, within_s=60)

    os.kill(worker.pid, signal.SIGTERM)

    assert worker.wait(20) == 0, logged()
    sent = len(provider.messages())
    assert 4 <= sent < 12
    assert Counter((row["status"], row["send_state"]) for row in rows.requests()) == {
        ("sent", "idle"): sent,
        ("queued", "due"): 12 - sent,
    }
    assert "Traceback" not in logged()


def power_failure(rabbit: RabbitMq) -> None:
    """End the node by kill -9."""
    rabbit.kill()


@pytest.mark.parametrize("end", [RabbitMq.stop, pytest.param(power_failure, marks=pytest.mark.full)])
def test_processes_survive_the_broker(
    begin: Start,
    rabbit: RabbitMq,
    parts: Parts,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    logged: Callable[[], str],
    end: Callable[[RabbitMq], None],
) -> None:
    """Workers, beat and every pooled connection reconnect, and requests of the outage are sent."""
    processes = [begin(*SEND), begin(*PERIODIC, **OFTEN), begin(*BEAT, **OFTEN)]
    until_served(parts, "send", "periodic")
    before = ask(numbers(5)[0])
    until(lambda: rows.request(before.id)["status"] == "sent")

    # A job whose queue no worker here serves: its messages are counted in the end.
    pooled = [
        jobs.Waker(
            redis=broker.connect_redis(f"{parts.settings.require('redis_url')[:-1]}{db}"),
            celery=parts.publisher,
            job=jobs.SEND_WEBHOOKS,
        )
        for db in range(1, 6)
    ]
    assert wake_all(pooled) == [True] * 5

    # A worker that lingers would need no message.
    until(lambda: not parts.redis.exists(parts.waker.flag_key))
    end(rabbit)
    asked = time.monotonic()
    with structlog.testing.capture_logs() as captured:
        while_away = ask(numbers(5)[1])
    took_s = time.monotonic() - asked
    rabbit.start()
    # However many connections broke, no wake-up after it fails.
    assert [wake_all(pooled) for _ in range(3)] == [[True] * 5] * 3
    assert waiting(rabbit, "slow") >= 15  # and those from before, unless they expired
    until(lambda: rows.request(while_away.id)["status"] == "sent", within_s=60)

    # The publisher's own connection, too: none of these waits for a sweep.
    for number in numbers(5)[2:]:
        back = ask(number)
        until(lambda back=back: rows.request(back.id)["status"] == "sent", within_s=10)
    assert took_s < 2
    assert "wake_failed" in [record["event"] for record in captured]
    assert len(provider.messages()) == len(rows.attempts()) == 5
    assert all(process.running for process in processes)
    assert logged().count("Cannot connect") < 50  # a try every two seconds from each worker
    assert rabbit.password not in logged()


@pytest.mark.full
def test_queue_and_wake_up_outlive_a_power_failure(parts: Parts, rabbit: RabbitMq) -> None:
    """A wake-up that was confirmed is on disk, in a durable queue."""
    assert wake(parts)

    rabbit.kill()
    rabbit.start()

    assert waiting(rabbit) == 1


def test_wake_up_carries_nothing_and_expires(parts: Parts, rabbit: RabbitMq) -> None:
    """The message names the job, is kept on disk, and the broker drops it when it is too late."""
    assert wake(parts)

    with Connection(rabbit.url) as connection:
        message = connection.default_channel.basic_get("send", no_ack=True)
    assert message.headers["task"] == "send_codes"
    assert (message.headers["argsrepr"], message.headers["kwargsrepr"]) == ("()", "{}")
    assert json.loads(message.body)[:2] == [[], {}]
    assert message.properties["delivery_mode"] == 2
    assert 0 < int(message.properties["expiration"]) <= jobs.SEND_CODES.expires_s * 1000


def test_lost_wake_up_silences_the_next_for_a_second_only(parts: Parts, rabbit: RabbitMq) -> None:
    """With its message lost, the flag in Redis holds back wake-ups until it runs out by itself."""
    assert parts.waker.wake()
    with Connection(rabbit.url) as connection:
        connection.default_channel.queue_purge("send")

    assert parts.waker.wake()
    at_first = waiting(rabbit)
    until(lambda: parts.waker.wake() and waiting(rabbit) == 1, within_s=5)

    assert at_first == 0


def test_unresponsive_broker_delays_little(
    parts: Parts, make_parts: MakeParts, rabbit: RabbitMq, ask: Ask, rows: Rows
) -> None:
    """An unresponsive broker delays a request by 2 s at most, over old and new connections."""
    assert wake(parts)
    fresh = make_parts(OTPQUEUE_BROKER_URL=rabbit.url)

    rabbit.hang()
    took_s = []
    for each in (parts, parts, fresh):
        begun = time.monotonic()
        assert not wake(each)
        took_s.append(time.monotonic() - begun)
    parts.waker.clear_flag()
    begun = time.monotonic()
    accepted = ask(numbers(1)[0])
    took_s.append(time.monotonic() - begun)
    rabbit.go_on()

    assert max(took_s) < 2
    assert rows.request(accepted.id)["send_state"] == "due"
    assert [wake(each) for each in (parts, fresh, parts)] == [True] * 3


def test_full_broker_is_no_success(parts: Parts, rabbit: RabbitMq) -> None:
    """A broker that takes no messages, short of memory or disk, makes a wake-up fail instead of losing it."""
    assert wake(parts)

    rabbit.control("set_vm_memory_high_watermark", "0")
    try:
        full = [wake(parts), wake(parts)]
    finally:
        rabbit.control("set_vm_memory_high_watermark", "0.4")

    assert full == [False, False]
    assert until(lambda: wake(parts))


@pytest.mark.parametrize("part", ["password", "virtual host"])
def test_wrong_url_fails_the_wake_up(make_parts: MakeParts, rabbit: RabbitMq, part: str) -> None:
    """A wrong password or virtual host fails the wake-up, not the caller, and is not logged."""
    url = {
        "password": rabbit.url.replace(rabbit.password, "wrong-s3cret"),
        "virtual host": rabbit.url.removesuffix("otpqueue") + "nowhere",
    }[part]

    with structlog.testing.capture_logs() as logged:
        assert not wake(make_parts(OTPQUEUE_BROKER_URL=url))

    said = str(logged)
    assert {"password": "AccessRefused", "virtual host": "NotAllowed"}[part] in said
    assert "s3cret" not in said
    assert rabbit.password not in said


@pytest.mark.full
def test_queue_of_another_kind(
    begin: Start, rabbit: RabbitMq, parts: Parts, ask: Ask, rows: Rows, logged: Callable[[], str]
) -> None:
    """A conflicting queue ends no worker. Once it is deleted, codes are sent within seconds."""
    with Connection(rabbit.url) as connection:
        channel = connection.default_channel
        channel.queue_delete("send")
        channel.queue_declare("send", durable=False, auto_delete=False)
    worker = begin(*SEND)
    until(lambda: logged().count("consumer_failed") >= 2, within_s=60)
    assert worker.running
    assert "PreconditionFailed" in logged()

    with Connection(rabbit.url) as connection:
        connection.default_channel.queue_delete("send")
    until_served(parts, "send")
    request = ask()

    until(lambda: rows.request(request.id)["status"] == "sent")
    assert worker.running
