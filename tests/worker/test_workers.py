"""Real Celery workers and beat: woken, killed, stopped, and cut off from Redis."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.request import Status
from otpqueue.embedded import Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import INFOBIP_KEY, NUMBER, Ask, Provider
from tests.operations.looking import Rows, heartbeats, numbers, served, until
from tests.worker.conftest import Start

SEND = ("worker", "--queues=send")
PERIODIC = ("worker", "--queues=periodic")
BEAT = ("beat",)
OFTEN = {
    "OTPQUEUE_TUNING_SWEEP_EVERY_S": "1",
    "OTPQUEUE_TUNING_EXPIRE_EVERY_S": "1",
    "OTPQUEUE_TUNING_ROLL_UP_EVERY_S": "1",
}


def until_served(parts: Parts, *queues: str) -> None:
    """Wait until workers of these queues have sent a heartbeat."""
    until(lambda: set(queues) <= served(parts), within_s=60)


def statuses(rows: Rows) -> Counter[str]:
    """Return how many requests have which status."""
    return Counter(row["status"] for row in rows.requests())


def test_woken_workers_send_everything_once(
    start: Start,
    parts: Parts,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    logged: Callable[[], str],
) -> None:
    """Two workers send a single request at once and a hundred in a row, each once; the rest is silence."""
    start(*SEND)
    start(*SEND)
    until_served(parts, "send")

    alone = ask()
    until(lambda: rows.request(alone.id)["status"] == "sent")
    for number in numbers(100):
        ask(number)
    until(lambda: statuses(rows) == {"sent": 101})
    for _ in range(5):
        # Late wake-ups: each finds nothing.
        parts.waker.clear_flag()
        parts.waker.wake()
    until(lambda: parts.redis.llen("send") == 0)

    assert len(provider.messages()) == len(rows.attempts()) == 101
    attempted = TypedCode(code=provider.code(NUMBER))
    verified = parts.verify(alone.id, attempted, client_id=alone.client_id, now=clock.now())
    assert verified.status is Status.VERIFIED
    # Run as root, Celery warns in plain text that it would rather not be.
    records = [json.loads(line) for line in logged().splitlines() if line.startswith("{")]
    sent = [record for record in records if record["event"] == "otp_sent"]
    assert len(sent) == 101
    assert {record["process"] for record in sent} == {"worker-send"}
    assert not [record for record in records if record["level"] == "error"]
    for secret in (NUMBER[1:], "7700900", attempted.code, str(rows.request(alone.id)["pin_id"]), INFOBIP_KEY):
        assert secret not in logged().replace(str(alone.id), "")


def test_killed_worker_loses_nothing(
    start: Start, parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """What a worker held that was killed between claim and record is swept to unknown and sent by another."""
    start(*PERIODIC, **OFTEN)
    start(*BEAT, **OFTEN)
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=5000, times=1)
    worker = start(*SEND, OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="1.5", OTPQUEUE_TUNING_SEND_LEASE_S="3")
    request = ask()
    until(lambda: rows.attempts(request.id) and provider.messages())

    os.kill(worker.pid, signal.SIGKILL)
    worker.wait(10)
    held = rows.request(request.id)
    successor = start(*SEND)
    until(lambda: rows.request(request.id)["status"] == "sent", within_s=60)

    assert (held["status"], held["send_state"]) == ("queued", "claimed")
    first, second = rows.attempts(request.id)
    assert (first["outcome"], first["code"]) == ("unknown", "lease_ran_out")
    assert first["finished_at"] >= held["lease_until"]
    assert second["outcome"] == "accepted"
    assert second["worker"].endswith(f":{successor.pid}")
    # The killed worker's code had left; the newest one counts.
    assert len(provider.messages()) == 2
    attempted = TypedCode(code=provider.code())
    verified = parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())
    assert verified.status is Status.VERIFIED


def test_stopped_worker_finishes_what_it_is_sending(
    start: Start, parts: Parts, ask: Ask, provider: Provider, rows: Rows, logged: Callable[[], str]
) -> None:
    """On SIGTERM what is in flight is finished and recorded, the rest stays due, and the exit code is 0."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=900)
    worker = start(
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
    returncode = worker.wait(20)

    assert returncode == 0, logged()
    sent = len(provider.messages())
    assert 4 <= sent < 12
    requests = rows.requests()
    assert Counter((row["status"], row["send_state"]) for row in requests) == {
        ("sent", "idle"): sent,
        ("queued", "due"): 12 - sent,
    }
    assert {row["tries"] for row in requests if row["status"] == "queued"} == {0}
    assert {row["outcome"] for row in rows.attempts()} <= {"accepted", "returned"}
    assert "Traceback" not in logged()

    # The next worker sends those that stayed due.
    provider.clear_faults()
    parts.pump.run()
    assert statuses(rows) == {"sent": 12}
    assert len(provider.messages()) == 12


def test_workers_share_a_backlog(
    start: Start, parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """What has piled up is spread over all processes, not left to the one that was woken."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=100)
    for number in numbers(200):
        ask(number)
    # Patient, so that a slow machine makes no attempt unknown.
    settings = {
        "OTPQUEUE_SENDER_THREADS": "4",
        "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "15",
        "OTPQUEUE_TUNING_SEND_LEASE_S": "30",
        "OTPQUEUE_TUNING_CHECK_LEASE_S": "20",
    }

    workers = [start(*SEND, **settings), start(*SEND, **settings)]
    until(lambda: sum(one.is_connected for one in heartbeats(parts)) == 2, within_s=60)
    parts.waker.clear_flag()
    parts.waker.wake()
    until(lambda: statuses(rows) == {"sent": 200}, within_s=50)

    shares = Counter(row["worker"].rpartition(":")[2] for row in rows.attempts())
    assert set(shares) == {str(worker.pid) for worker in workers}
    assert min(shares.values()) > 200 / 5
    assert len(provider.messages()) == 200


def test_second_sigterm_ends_a_worker_at_once(
    start: Start, ask: Ask, provider: Provider, rows: Rows, logged: Callable[[], str]
) -> None:
    """A second SIGTERM ends the worker without waiting. Unfinished attempts keep their lease."""
    slow, quick = numbers(2)
    provider.fault(match={"path": "/2fa/2/pin", "to": slow.removeprefix("+")}, latency_ms=60_000)
    patient = {
        "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "50",
        "OTPQUEUE_TUNING_SEND_LEASE_S": "100",
        "OTPQUEUE_TUNING_CHECK_LEASE_S": "60",
    }
    worker = start(*SEND, **patient, OTPQUEUE_STOP_WITHIN_S="100")
    held, sent = ask(slow), ask(quick)
    until(lambda: rows.request(sent.id)["status"] == "sent" and len(provider.messages()) == 2, within_s=60)

    os.kill(worker.pid, signal.SIGTERM)
    until(lambda: "Warm shutdown" in logged())
    assert worker.running
    os.kill(worker.pid, signal.SIGTERM)

    assert worker.wait(20) == 1
    assert '"worker_ended_early"' in logged()
    assert (rows.request(held.id)["send_state"], rows.attempts(held.id)[0]["outcome"]) == ("claimed", None)


def test_worker_stops_within_its_time(
    start: Start, ask: Ask, provider: Provider, rows: Rows, logged: Callable[[], str]
) -> None:
    """After one SIGTERM the worker waits no longer than its time limit."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=60_000)
    patient = {
        "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "50",
        "OTPQUEUE_TUNING_SEND_LEASE_S": "100",
        "OTPQUEUE_TUNING_CHECK_LEASE_S": "60",
    }
    worker = start(*SEND, **patient, OTPQUEUE_STOP_WITHIN_S="1")
    ask()
    until(provider.messages, within_s=60)

    os.kill(worker.pid, signal.SIGTERM)

    assert worker.wait(20) == 1
    assert '"reason": "out_of_time"' in logged()


def test_workers_survive_redis(
    start: Start,
    parts_of: Callable[[Valkey], Parts],
    own_valkey: Valkey,
    client_id: UUID,
    provider: Provider,
    rows: Rows,
) -> None:
    """Workers and beat go on after Redis was emptied and after it was away; what was asked then is sent."""
    parts = parts_of(own_valkey)
    redis = {"REDIS_URL": own_valkey.url}
    processes = [start(*SEND, **redis), start(*PERIODIC, **redis, **OFTEN), start(*BEAT, **redis, **OFTEN)]
    left = iter(numbers(10))

    def ask() -> UUID:
        wanted = RequestedCode(phone_number=next(left))
        return parts.request(wanted, client_id=client_id, now=clock.now()).id

    until_served(parts, "send", "periodic")
    request = ask()
    until(lambda: rows.request(request)["status"] == "sent")

    parts.redis.flushall()
    after_flush = ask()
    until(lambda: rows.request(after_flush)["status"] == "sent")

    own_valkey.stop()
    while_away = ask()
    own_valkey.start()
    until(lambda: rows.request(while_away)["status"] == "sent", within_s=60)

    back = ask()
    until(lambda: rows.request(back)["status"] == "sent")
    assert len(provider.messages()) == len(rows.attempts()) == 4
    assert all(process.running for process in processes)


def test_beat_starts_what_is_periodic(
    start: Start, parts: Parts, client_id: UUID, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """With beat, twice over, codes end at their time, lost wake-ups are made good, all is counted once."""
    for command in (PERIODIC, SEND, BEAT, BEAT):
        start(*command, **OFTEN)
    until_served(parts, "send", "periodic")
    old = ask(numbers(3)[0])
    until(lambda: rows.request(old.id)["status"] == "sent")
    ended_early = rows.request(old.id)["finished_at"]

    rows.change(old.id, expires_at=clock.now() - timedelta(seconds=1))
    wanted = RequestedCode(phone_number=numbers(3)[1])
    long_ago = clock.now() - timedelta(seconds=100)
    unsent = parts.request(wanted, client_id=client_id, now=long_ago)
    silent = ask(numbers(3)[2])
    parts.redis.delete("send")  # its wake-up is lost, unless it was taken already

    until(lambda: rows.request(old.id)["status"] == "expired")
    until(lambda: rows.request(unsent.id)["status"] == "expired")
    until(lambda: rows.request(silent.id)["status"] == "sent")
    assert ended_early is None
    assert rows.request(old.id)["reason"] == "code_lifetime"
    assert rows.request(unsent.id)["reason"] == "send_deadline"
    assert len(provider.messages()) == 2
    until(lambda: counts(parts) == {"requested": 3, "sent": 2, "expired": 2})


def counts(parts: Parts) -> dict[str, int]:
    """Return how many requests the statistics say were made, sent and expired."""
    with connection(parts.engine) as conn:
        rows = conn.execute(
            text(
                "SELECT metric, sum(n) FROM stats_hours WHERE metric IN ('requested', 'sent', 'expired')"
                " GROUP BY metric"
            )
        )
        return {metric: int(n) for metric, n in rows}
