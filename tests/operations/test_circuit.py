"""The circuit breaker between workers and provider: shared through Redis, local to each worker without it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog

from otpqueue import clock
from otpqueue.domain.circuit import CircuitSignal, CircuitState, ClaimPermit
from otpqueue.embedded import EngineHome, Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts, Provider
from tests.operations.conftest import MakePump
from tests.operations.looking import Rows, at_once, numbers, until

FAILURES = [(CircuitSignal.FAILED, False)] * 10
LONG_PAUSE = {"OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "60", "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "60"}
DEAD: dict[str, Any] = {"match": {"path": "/2fa/2/pin"}, "status": 503}


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Yield a Valkey that may be stopped."""
    with (
        EngineHome(tmp_path_factory.mktemp("own")) as home,
        Valkey(home.path / "valkey", durable=False) as valkey,
    ):
        yield valkey


def test_every_process_sees_it(make_parts: MakeParts) -> None:
    """All workers see the failures of one.

    After an open circuit one of them probes, and its success closes it.
    """
    slow = {"OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "0.3", "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "0.3"}
    workers = [make_parts(**slow).circuit for _ in range(3)]
    workers[0].record_signals(FAILURES)

    assert [worker.claim()[0] for worker in workers] == [ClaimPermit.NOTHING] * 3
    assert workers[1].get_state() is CircuitState.OPEN
    until(lambda: workers[0].get_state() is CircuitState.HALF_OPEN)
    permits = at_once([worker.claim for worker in workers])
    assert sorted(permit for permit, _ in permits) == [
        ClaimPermit.NOTHING,
        ClaimPermit.NOTHING,
        ClaimPermit.PROBE,
    ]

    workers[2].record_signals([(CircuitSignal.ALIVE, True)])
    assert [worker.claim()[0] for worker in workers] == [ClaimPermit.ALL] * 3


def test_closed_circuit_leaves_nothing_in_redis(parts: Parts) -> None:
    """A closed circuit has no key in Redis."""
    parts.circuit.record_signals([(CircuitSignal.FAILED, False)])
    assert parts.redis.exists("otpqueue:circuit")

    parts.circuit.record_signals([(CircuitSignal.ALIVE, False)])

    assert not parts.redis.exists("otpqueue:circuit")


def test_what_another_version_left_counts_as_closed(parts: Parts) -> None:
    """An unreadable value is replaced by the next write."""
    for left in ("not json", '{"colour": "red"}', "[]", "7"):
        parts.redis.set("otpqueue:circuit", left)
        assert parts.circuit.claim()[0] is ClaimPermit.ALL

    parts.circuit.record_signals(FAILURES)

    assert parts.circuit.get_state() is CircuitState.OPEN


def test_without_redis_each_worker_has_its_own(make_parts: MakeParts, own_valkey: Valkey) -> None:
    """Without Redis each worker keeps its state, opens and closes its own circuit, and does not block.

    Later they share again.
    """
    one, other = (make_parts(REDIS_URL=own_valkey.url, **LONG_PAUSE).circuit for _ in range(2))
    one.record_signals(FAILURES)
    other.get_state()
    own_valkey.stop()

    assert one.get_state() is other.get_state() is CircuitState.OPEN
    one.record_signals([(CircuitSignal.ALIVE, False)])
    assert (one.get_state(), other.get_state()) == (CircuitState.CLOSED, CircuitState.OPEN)

    with structlog.testing.capture_logs() as logged:
        for _ in range(100):
            one.claim()
    assert len(logged) <= 1  # neither a record nor a connection for each call

    own_valkey.start()
    until(lambda: other.get_state() is CircuitState.CLOSED)  # Redis lost its data, and all agree


def test_many_writers_at_once(make_parts: MakeParts) -> None:
    """Concurrent failures from many threads of many processes are all counted."""
    circuits = [make_parts(OTPQUEUE_TUNING_CIRCUIT_FAILURES="1000").circuit for _ in range(4)]

    at_once(
        [
            lambda one=one: one.record_signals([(CircuitSignal.FAILED, False)])
            for one in circuits
            for _ in range(4)
        ]
    )

    circuits[0].record_signals([(CircuitSignal.FAILED, False)])
    assert circuits[0].get_state() is CircuitState.CLOSED
    assert circuits[0]._own.failures == 17


def test_dead_provider_is_left_alone_and_deadlines_are_kept(
    make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """While the provider is down only probes are sent.

    Requests keep their attempts, and all are sent afterwards.
    """
    parts = make_parts(
        OTPQUEUE_TUNING_CIRCUIT_FAILURES="4",
        OTPQUEUE_TUNING_CIRCUIT_PAUSE_S="0.2",
        OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S="0.4",
        OTPQUEUE_TUNING_JOB_S="1",
    )
    parts.provision(parts.transport, now=clock.now())
    provider.fault(**DEAD)
    for number in numbers(60):
        parts.request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now())

    begun = time.monotonic()
    with structlog.testing.capture_logs() as logged:
        parts.pump.run()
    pauses = (time.monotonic() - begun) / 0.2

    attempts = rows.attempts()
    # Eight senders had begun before the fourth failure was seen. After that, there is one probe per pause.
    assert 4 <= len(attempts) <= 8 + 8 + pauses
    assert {row["status"] for row in rows.requests()} == {"queued"}
    assert max(row["tries"] for row in rows.requests()) < parts.settings.max_attempts
    assert [record for record in logged if record["event"] == "circuit_opened"]

    provider.clear_faults()
    for _ in range(10):
        parts.pump.run()
    assert {row["status"] for row in rows.requests()} == {"sent"}
    assert len(provider.messages()) == 60
    assert parts.circuit.get_state() is CircuitState.CLOSED


def test_one_probe_for_all_processes(
    make_parts: MakeParts, client_id: UUID, parts: Parts, provider: Provider, rows: Rows
) -> None:
    """Of four processes that pump while the circuit is half open, one calls the provider, once."""
    settings = {
        "OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "2",
        "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "30",
        "OTPQUEUE_TUNING_JOB_S": "3",
    }
    processes = [make_parts(**settings) for _ in range(4)]
    processes[0].circuit.record_signals(FAILURES)
    provider.fault(**DEAD)
    for number in numbers(20):
        parts.request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now())

    at_once([process.pump.run for process in processes])

    # The pauses are 2 and 4 s, so a job of three seconds fits one probe.
    assert len(rows.attempts()) == 1


def test_refusals_of_single_numbers_do_not_open_it(
    parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """Refusals of single numbers, however many, do not stop the others."""
    provider.fault(match={"path": "/2fa/2/pin"}, status=400, times=30)
    for number in numbers(40):
        ask(number)

    parts.pump.run()

    assert {row["outcome"] for row in rows.attempts()} == {"refused", "accepted"}
    assert sorted(row["status"] for row in rows.requests()) == ["failed"] * 30 + ["sent"] * 10
    assert parts.circuit.get_state() is CircuitState.CLOSED


def test_probe_without_work_is_left_to_others(parts: Parts, make_parts: MakeParts) -> None:
    """A worker without due requests releases the probe at once."""
    parts.circuit.record_signals(FAILURES)
    until(lambda: parts.circuit.get_state() is CircuitState.HALF_OPEN)

    parts.pump.run()

    assert make_parts().circuit.claim()[0] is ClaimPermit.PROBE


def test_stop_ends_the_pause(
    make_parts: MakeParts, ask: Ask, rows: Rows, background: ThreadPoolExecutor
) -> None:
    """A worker that waits for the circuit stops at once when it is asked to."""
    parts = make_parts(**LONG_PAUSE)
    ask()
    parts.circuit.record_signals(FAILURES)
    job = background.submit(parts.pump.run)
    time.sleep(0.2)
    assert not job.done()

    parts.pump.stop()

    job.result(5)
    assert rows.attempts() == []


@pytest.mark.parametrize("step", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=400)])
def test_clock_that_steps_doubles_and_loses_nothing(
    step: timedelta, ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump
) -> None:
    """The clock of a worker's host jumps while it sends. Its claims are sent once, and none is stuck."""
    calls = iter(range(10_000))

    def steps_after_three_calls() -> Any:
        return clock.now() + (step if next(calls) >= 3 else timedelta(0))

    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=50)
    for number in numbers(30):
        ask(number)

    wrong: Callable[[], None] = make_pump(job_s=1.0, clock=steps_after_three_calls).run
    wrong()
    make_pump().run()

    assert len(provider.messages()) == len({message["to"] for message in provider.messages()})
    assert {row["send_state"] for row in rows.requests()} == {"idle"}
    assert {row["status"] for row in rows.requests()} == {"sent"}
    assert len(provider.messages()) == 30


def test_abandoned_job_records_what_it_knows(
    ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump, background: ThreadPoolExecutor
) -> None:
    """A worker that may no longer wait records finished sends and leaves the rest to their leases."""
    slow, quick = numbers(2)
    provider.fault(match={"path": "/2fa/2/pin", "to": slow.removeprefix("+")}, latency_ms=4000)
    ask(slow)
    ask(quick)
    pump = make_pump()
    job = background.submit(pump.run)
    until(lambda: "accepted" in [row["outcome"] for row in rows.attempts()])

    in_flight = pump.abandon(within_s=2)

    job.result(3)
    assert in_flight == 1
    assert sorted(str(row["outcome"]) for row in rows.attempts()) == ["None", "accepted"]
    assert sorted(row["send_state"] for row in rows.requests()) == ["claimed", "idle"]
