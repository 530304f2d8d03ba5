"""Lingering jobs: callers publish nothing meanwhile, and rows that are committed late are found."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from otpqueue import clock, jobs
from otpqueue.operations import nudges
from otpqueue.operations.pump import Pump
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts, Provider
from tests.operations.conftest import MakePump
from tests.operations.looking import Rows, numbers, until

Commit = Callable[[str], UUID]


@pytest.fixture
def commit(parts: Parts, client_id: UUID) -> Commit:
    """Return a function that commits a request and wakes no worker."""
    elsewhere = replace(jobs.SEND_CODES, name="elsewhere", queue="elsewhere")
    waker = jobs.Waker(redis=parts.redis, celery=parts.publisher, job=elsewhere)
    request = replace(parts.request, admission=replace(parts.admission, waker=waker))
    return lambda number: request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now()).id


@pytest.fixture(autouse=True)
def patient_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the flag of a lingering pump, on a machine so busy that its listener is late to renew it."""
    monkeypatch.setattr(jobs, "LINGERING_MS", 60_000)


@pytest.fixture
def only_nudged_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the periodic queries that would otherwise find missed rows."""
    monkeypatch.setattr(nudges, "QUIET_POLL_S", 60)


@contextmanager
def lingering(pump: Pump[Any, Any], background: ThreadPoolExecutor, parts: Parts) -> Iterator[None]:
    """Run a job until the block ends. The block starts after the job's first query."""
    job = background.submit(pump.run)
    try:
        # The flag may be another pump's.
        until(lambda: pump._listener is not None and pump._listener.is_receiving)
        assert parts.redis.get(parts.waker.flag_key) == jobs.LINGERING.encode()
        time.sleep(nudges.WAIT_FOR_ROW_S + 0.2)  # the rows that it waits for at its beginning
        yield
    finally:
        pump.stop()
        job.result(20)


def published(parts: Parts) -> int:
    """Return how many jobs were published. No worker takes them."""
    return int(parts.redis.llen(jobs.SEND_CODES.queue))


def is_sent(rows: Rows, request_id: UUID) -> Callable[[], bool]:
    """Return a function that returns whether a request was sent."""
    return lambda: bool(rows.request(request_id)["status"] == "sent")


def test_nothing_is_published_under_steady_traffic(
    parts: Parts, ask: Ask, rows: Rows, background: ThreadPoolExecutor, make_pump: MakePump
) -> None:
    """While a job lingers each code is sent at once, and no job is published."""
    pump = make_pump(nudges=parts.waker, linger_s=20, job_s=60)

    with lingering(pump, background, parts):
        for number in numbers(30):
            ask(number)
            time.sleep(0.03)
        until(lambda: {row["status"] for row in rows.requests()} == {"sent"})

        assert published(parts) == 0
    assert len(rows.attempts()) == 30


@pytest.mark.usefixtures("only_nudged_polls")
@pytest.mark.parametrize("late_s", [0.0, 0.01, 0.05, 0.1])
def test_row_committed_after_its_nudge_leaves_at_once(
    parts: Parts,
    commit: Commit,
    rows: Rows,
    background: ThreadPoolExecutor,
    make_pump: MakePump,
    late_s: float,
) -> None:
    """The caller's script nudges before the row is committed. The pump queries until it finds the row."""
    pump = make_pump(nudges=parts.waker, linger_s=20, job_s=60)

    with lingering(pump, background, parts):
        parts.waker.wake()
        time.sleep(late_s)
        late = commit(numbers(1)[0])

        until(is_sent(rows, late), within_s=10)
    assert published(parts) == 0


@pytest.mark.usefixtures("only_nudged_polls")
def test_each_of_several_nudges_is_polled_for(
    parts: Parts, commit: Commit, rows: Rows, background: ThreadPoolExecutor, make_pump: MakePump
) -> None:
    """Of two callers that nudge together one commits late. Finding the other one's row is not enough."""
    pump = make_pump(nudges=parts.waker, linger_s=20, job_s=60)
    first, second = numbers(2)

    with lingering(pump, background, parts):
        parts.waker.wake()
        parts.waker.wake()
        at_once = commit(first)
        until(is_sent(rows, at_once), within_s=10)
        parts.waker.wake()  # and the third is refused
        late = commit(second)

        until(is_sent(rows, late), within_s=10)


@pytest.mark.usefixtures("only_nudged_polls")
def test_job_that_ends_loses_no_wake_up(
    parts: Parts,
    commit: Commit,
    rows: Rows,
    make_pump: MakePump,
    background: ThreadPoolExecutor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A caller that saw the flag just before its deletion, and committed just after, is served."""
    late: list[Any] = []
    stop = parts.waker.stop_lingering

    def stop_during_commit() -> None:
        if not late:
            late.append(background.submit(lambda: time.sleep(0.03) or commit(numbers(1)[0])))
        stop()

    monkeypatch.setattr(parts.waker, "stop_lingering", stop_during_commit)
    # So that a slow machine commits in time.
    monkeypatch.setattr("otpqueue.operations.pump._LAST_POLL_S", 3)

    make_pump(nudges=parts.waker, linger_s=0.3).run()

    assert is_sent(rows, late[0].result(10))()
    assert parts.redis.get(parts.waker.flag_key) is None


def test_nudge_that_comes_after_the_job_is_passed_on(parts: Parts) -> None:
    """A nudge that arrives after its job has ended publishes a job."""
    listener = nudges.NudgeListener(parts.waker, lambda _: False)
    listener.start()
    parts.waker.wake()  # nudges; the listener is closed without a query
    listener.stop()
    parts.redis.delete(parts.waker.flag_key)

    until(lambda: parts.waker.wake() and published(parts) >= 1)
    until(lambda: parts.redis.llen(parts.waker.nudge_key) == 0)


def test_flag_goes_with_the_job(parts: Parts, ask: Ask, rows: Rows, make_pump: MakePump) -> None:
    """When a job has ended the next caller publishes, and the next job sends its code."""
    pump = make_pump(nudges=parts.waker, linger_s=0.2)
    ask(numbers(2)[0])
    pump.run()
    assert published(parts) == 1

    parts.redis.delete(parts.waker.flag_key)  # of the first publish, which no worker took
    last = ask(numbers(2)[1])

    assert published(parts) == 2
    pump.run()
    assert is_sent(rows, last.id)()


def test_two_pumps_linger_side_by_side(
    parts: Parts,
    make_parts: MakeParts,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    background: ThreadPoolExecutor,
) -> None:
    """Each code is sent once. When one pump stops, the other is nudged soon and no code is missed."""
    # A claim that takes all free threads publishes a job for another worker: more threads than codes.
    lasting = {
        "OTPQUEUE_TUNING_JOB_LINGER_S": "20",
        "OTPQUEUE_TUNING_JOB_S": "60",
        "OTPQUEUE_SENDER_THREADS": "32",
    }
    one, other = (make_parts(**lasting) for _ in range(2))
    left = iter(numbers(30))

    with lingering(one.pump, background, parts):
        with lingering(other.pump, background, parts):
            for _ in range(15):
                ask(next(left))
            until(lambda: {row["status"] for row in rows.requests()} == {"sent"})
            assert published(parts) == 0
        until(lambda: parts.redis.get(parts.waker.flag_key) == jobs.LINGERING.encode(), within_s=5)
        for _ in range(15):
            ask(next(left))
        until(lambda: {row["status"] for row in rows.requests()} == {"sent"})

        assert published(parts) == 0
    assert len(provider.messages()) == len(rows.attempts()) == 30


@pytest.mark.usefixtures("only_nudged_polls")
def test_without_redis_the_table_is_polled(
    parts: Parts,
    make_parts: MakeParts,
    commit: Commit,
    rows: Rows,
    background: ThreadPoolExecutor,
    closed_port: int,
) -> None:
    """A pump without nudges queries often, and its codes are sent."""
    deaf = make_parts(
        REDIS_URL=f"redis://127.0.0.1:{closed_port}/0",
        OTPQUEUE_TUNING_JOB_LINGER_S="20",
        OTPQUEUE_TUNING_JOB_S="60",
    )
    job = background.submit(deaf.pump.run)
    time.sleep(nudges.WAIT_FOR_ROW_S + 0.2)

    late = commit(numbers(1)[0])

    until(is_sent(rows, late), within_s=10)
    deaf.pump.stop()
    job.result(20)


def test_job_hands_over_without_a_gap(
    parts: Parts, ask: Ask, rows: Rows, background: ThreadPoolExecutor, make_pump: MakePump
) -> None:
    """A job at its maximum run time publishes its successor. Nudges wait until that begins."""
    woken: list[int] = []
    pump = make_pump(nudges=parts.waker, linger_s=20, job_s=0.5, wake=lambda: bool(woken.append(1)) or True)
    pump.run()
    assert woken == [1]
    assert parts.redis.get(parts.waker.flag_key) == jobs.LINGERING.encode()

    request = ask(numbers(1)[0])
    assert published(parts) == 0
    successor = background.submit(pump.run)

    until(is_sent(rows, request.id))
    successor.result(10)


def test_statements_of_a_batch(
    parts: Parts, ask: Ask, rows: Rows, make_pump: MakePump, statements: list[str]
) -> None:
    """A batch of codes costs one call that claims, one that records, and one query of early reports."""
    for number in numbers(5):
        ask(number)
    pump = make_pump()
    pump.run()  # caches ids and webhooks
    assert {row["status"] for row in rows.requests()} == {"sent"}
    for number in numbers(10)[5:]:
        ask(number)
    before = commands(parts)
    statements.clear()

    pump.run()

    executed = list(statements)
    assert {row["status"] for row in rows.requests()} == {"sent"}
    turns = [one for one in executed if "pump_turn" in one]
    early = [one for one in executed if "unmatched_receipts" in one]
    others = [one for one in executed if one not in turns and one not in early]
    assert 2 <= len(turns) <= 1 + 5  # one record each if the provider answers one by one
    assert len(early) == 1
    assert len(others) <= 1, others  # the provider's ids, once a job
    # The circuit is read for each claim, unless it was read a moment ago: TIME and GET.
    assert commands(parts) - before <= 2 * len(turns)


def commands(parts: Parts) -> int:
    """Return how many write commands Redis has executed."""
    found = parts.redis.info("commandstats")
    return sum(int(one["calls"]) for name, one in found.items() if name != "cmdstat_info")
