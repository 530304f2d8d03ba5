"""The pump with a user of its own: what it claims, performs, records, keeps and hands over."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog

from otpqueue import clock
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.pump import Pump, PumpSettings
from otpqueue.operations.pump_job import FinishedTask, PumpJob
from otpqueue.operations.pump_user import ClaimAllowance, HoldTimer, PumpUser, TurnResult
from tests.operations.looking import until

SETTINGS = PumpSettings(threads=8, lease_s=60, job_s=30, keep_s=60)
RETURNED = -1
"""The result of a number that was given back, as `(number, RETURNED)`."""

Squared = tuple[int, int]


@dataclass
class Squares(PumpUser[int, Squared]):
    """Squares numbers from a queue in memory, which loses nothing that the pump gives back."""

    due: deque[int] = field(default_factory=deque)
    recorded: list[Squared] = field(default_factory=list)
    noted: list[Squared] = field(default_factory=list)
    followed_up: list[tuple[float, list[str]]] = field(default_factory=list)
    unrecorded: list[tuple[int, str]] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    crashed: list[int] = field(default_factory=list)
    turns: list[tuple[int, int]] = field(default_factory=list)
    """Of each: how many results, and how many slots."""
    at: list[float] = field(default_factory=list)
    """When each turn began, on the monotonic clock."""
    perform: Callable[[int], int] = lambda number: number * number
    locked: set[int] = field(default_factory=set)
    """Numbers with rows that another session has locked."""
    never: set[int] = field(default_factory=set)
    """Numbers with results that are refused permanently."""
    is_away: threading.Event = field(default_factory=threading.Event)
    """Whether the database is unavailable."""
    permits: deque[ClaimAllowance] = field(default_factory=deque)
    """What is permitted before everything is."""
    is_ready: bool = True
    observing: Callable[[Sequence[int]], Future[None] | None] = lambda _: None
    next_due_in_s: float | None = None
    busy: Counter[int] = field(default_factory=Counter)
    most_busy: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def prepare_job(self) -> bool:
        return self.is_ready

    def permit_claims(self, free: int) -> ClaimAllowance:
        return self.permits.popleft() if self.permits else ClaimAllowance(free)

    def take_turn(
        self, results: Sequence[Squared], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[int, Squared]:
        with self.lock:
            self.turns.append((len(results), permit.slots))
            self.at.append(time.monotonic())
            if self.is_away.is_set():
                raise DatabaseUnavailable(retry_after_s=1)
            if any(number in self.never for number, _ in results):
                raise ValueError("never")
            recorded = [one for one in results if one[0] not in self.locked]
            given_back = [number for number, square in recorded if square == RETURNED]
            self.due.extend(given_back)
            self.recorded += recorded
            claimed = [self.due.popleft() for _ in range(min(permit.slots, len(self.due)))]
            self.busy.update(claimed)
            self.most_busy = max(self.most_busy, self.busy.total())
            is_due_later = not claimed and self.next_due_in_s is not None
            return TurnResult(
                claimed=claimed,
                has_more=len(claimed) == permit.slots > 0 and not permit.is_probe,
                expected=len(claimed),
                next_due=now + timedelta(seconds=self.next_due_in_s or 0) if is_due_later else None,
                recorded=recorded,
                given_back=len(given_back),
                locked={position for position, one in enumerate(results) if one[0] in self.locked},
                follow_ups=[str(number) for number, _ in recorded],
            )

    def observe_claims(self, claimed: Sequence[int], hold: HoldTimer) -> Future[None] | None:
        assert hold.seconds >= 0
        return self.observing(claimed)

    def perform_task(self, task: int, hold: HoldTimer) -> Squared:
        assert hold.now >= hold.since
        return task, self.perform(task)

    def return_task(self, task: int, hold: HoldTimer) -> Squared:
        assert hold.seconds >= 0
        return task, RETURNED

    def release_task(self, task: int) -> None:
        with self.lock:
            self.busy -= Counter([task])

    def note_results(self, results: Sequence[Squared]) -> None:
        self.noted += results

    def follow_up_results(self, names: Sequence[str]) -> None:
        self.followed_up.append((time.monotonic(), list(names)))

    def report_recorded(self, results: Sequence[Squared]) -> None:
        assert all(one in self.recorded for one in results)

    def report_unrecorded(self, results: int, *, error: str) -> None:
        self.unrecorded.append((results, error))

    def report_refused(self, result: Squared, error: Exception) -> None:
        assert isinstance(error, ValueError)
        self.refused.append(result[0])

    def report_crash(self, task: int, error: Exception) -> None:
        assert isinstance(error, ZeroDivisionError)
        self.crashed.append(task)


@dataclass
class Wakes:
    """Counts the jobs that are published."""

    count: int = 0
    works: bool = True
    then: Callable[[], object] = lambda: None

    def __call__(self) -> bool:
        self.count += 1
        self.then()
        return self.works


def make_pump(
    user: Squares, *, wake: Callable[[], bool] | None = None, **differing: Any
) -> Pump[int, Squared]:
    """Return a pump of a user, with some settings of its own."""
    settings = PumpSettings(**{**vars(SETTINGS), **differing})
    return Pump(user, name="squares", wake=wake or Wakes(), clock=clock.now, settings=settings)


@pytest.fixture
def gate() -> threading.Event:
    """Return an event for tasks to wait for."""
    return threading.Event()


def waiting_for(gate: threading.Event, *, numbers: set[int] | None = None) -> Callable[[int], int]:
    """Return a way to square that waits for an event, with some numbers or with all."""

    def square(number: int) -> int:
        if numbers is None or number in numbers:
            assert gate.wait(20)
        return number * number

    return square


def test_each_task_is_performed_and_recorded_once() -> None:
    """A job ends when nothing is due, with all results recorded, noted and followed up."""
    user = Squares(deque(range(100)))

    make_pump(user).run()

    assert sorted(user.recorded) == sorted(user.noted) == [(number, number * number) for number in range(100)]
    assert sorted(int(name) for _, names in user.followed_up for name in names) == list(range(100))
    assert user.busy.total() == 0


def test_results_are_recorded_in_the_call_that_claims() -> None:
    """While rows are due, no turn records alone: results go along with the next claim."""
    user = Squares(deque(range(400)))

    make_pump(user).run()

    assert [turn for turn in user.turns if turn[0] and not turn[1]] == []
    assert len(user.turns) <= 400 / 2 + 4


def test_never_more_in_flight_than_threads() -> None:
    """Jobs of one pump share its threads."""
    user = Squares(deque(range(60)), perform=lambda number: time.sleep(0.01) or number)
    pump = make_pump(user)

    with ThreadPoolExecutor(4) as jobs:
        for job in [jobs.submit(pump.run) for _ in range(4)]:
            job.result(20)

    assert len(user.recorded) == 60
    assert 5 <= user.most_busy <= 8


def test_turns_are_paced() -> None:
    """Between two turns there is a pause, however soon results come."""
    user = Squares(deque(range(40)), perform=lambda number: time.sleep(0.001 * (number % 7)) or number)

    make_pump(user, threads=4).run()

    pauses = [later - earlier for earlier, later in zip(user.at, user.at[1:], strict=False)]
    assert len(pauses) > 5
    assert min(pauses) >= 0.002


def test_few_free_threads_claim_nothing(gate: threading.Event) -> None:
    """While most threads are busy, rows wait until a quarter of the threads is free."""
    user = Squares(deque(range(20)), perform=waiting_for(gate, numbers=set(range(7))))
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(make_pump(user).run)
        until(lambda: (7, 49) in user.recorded)
        time.sleep(0.2)

        assert len(user.due) == 12
        gate.set()
        job.result(20)

    assert len(user.recorded) == 20


def test_job_that_comes_when_another_ends_is_not_lost() -> None:
    """A row that comes with a job just after the last look of another is found by that one."""
    user = Squares(deque([1]))
    pump = make_pump(user)

    def come_late(claimed: Sequence[int]) -> Future[None] | None:
        if 1 in claimed:
            until(lambda: (1, 1) in user.recorded or user.turns[-1][0] == 0)
        return None

    user.observing = come_late
    take_turn = user.take_turn

    def take_turn_and_add(*args: Any, **kwargs: Any) -> TurnResult[int, Squared]:
        turn = take_turn(*args, **kwargs)
        if not turn.claimed and (1, 1) in user.recorded and (2, 4) not in user.recorded and not user.due:
            user.due.append(2)
            with ThreadPoolExecutor(1) as other:
                other.submit(pump.run).result(5)
        return turn

    user.take_turn = take_turn_and_add  # type: ignore[method-assign]
    pump.run()

    assert user.recorded == [(1, 1), (2, 4)]


def test_job_that_comes_makes_another_look(gate: threading.Event) -> None:
    """The job that claims looks at once, however long its own pause would be."""
    user = Squares(deque([1]), perform=waiting_for(gate, numbers={1}))
    pump = make_pump(user, poll_s=60)
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(pump.run)
        until(lambda: user.busy.total() == 1)
        user.due.append(2)
        pump.run()

        until(lambda: (2, 4) in user.recorded, within_s=10)
        gate.set()
        job.result(20)


def test_results_are_gathered_while_others_are_in_flight() -> None:
    """The first of several results waits a moment for the next ones; the last one is recorded at once."""
    job = PumpJob[Squared]()
    job.in_flight = 2
    for number in (1, 2):
        job.events.put(FinishedTask((number, number * number), time.monotonic()))
        job.wait(0)

        assert (job.record_due > job.finished[0].at) == (number == 1)


def test_unprepared_job_claims_nothing() -> None:
    """Where the user cannot begin a job no turn is taken."""
    user = Squares(deque([1]), is_ready=False)

    make_pump(user).run()

    assert user.turns == []


def test_forbidden_claims_are_asked_for_later() -> None:
    """Without a permit nothing is claimed until the time it names; a probe claims one."""
    user = Squares(
        deque([1, 2, 3]), permits=deque([ClaimAllowance(0, retry_in_s=0.3), ClaimAllowance(1, is_probe=True)])
    )
    wakes = Wakes()
    begun = time.monotonic()

    make_pump(user, wake=wakes).run()

    assert user.turns[0] == (0, 1)
    assert user.at[0] - begun >= 0.3
    assert len(user.recorded) == 3
    assert wakes.count == 0


def test_full_claims_call_other_workers_with_growing_pauses() -> None:
    """The first claim that takes all threads publishes a job; those that follow at once do not."""
    user = Squares(deque(range(200)), perform=lambda number: time.sleep(0.002) or number)
    wakes = Wakes()

    make_pump(user, wake=wakes, threads=4).run()

    full = [turn for turn in user.turns if turn[1] and turn[1] <= 4]
    assert len(full) > 20
    assert 1 <= wakes.count <= 4


def test_job_at_the_end_of_its_time_wakes_a_successor(gate: threading.Event) -> None:
    """It claims no more and still records what it has in flight."""
    user = Squares(deque(range(3)), perform=waiting_for(gate))
    wakes = Wakes(then=gate.set)

    make_pump(user, wake=wakes, job_s=0.1).run()

    assert wakes.count == 1
    assert sorted(user.recorded) == [(0, 0), (1, 1), (2, 4)]


def test_job_that_cannot_wake_a_successor_goes_on() -> None:
    """Rows are claimed in the same job when no message can be published."""
    user = Squares(deque(range(30)), perform=lambda number: time.sleep(0.05) or number)

    make_pump(user, wake=Wakes(works=False), job_s=0.02, threads=2).run()

    assert len(user.recorded) == 30


def test_job_waits_for_what_falls_due_in_its_time() -> None:
    """A row that falls due within the job's time is performed by it, and no sooner."""
    user = Squares(deque(), next_due_in_s=0.3)
    begun = time.monotonic()

    def become_due() -> None:
        time.sleep(0.3)
        user.next_due_in_s = None
        user.due.append(5)

    with ThreadPoolExecutor(1) as other:
        other.submit(become_due)
        make_pump(user, job_s=5).run()

    assert user.recorded == [(5, 25)]
    assert time.monotonic() - begun < 5
    assert len(user.turns) < 15


def test_stop_finishes_what_has_begun_and_gives_back_the_rest(gate: threading.Event) -> None:
    """What is claimed and not begun is due again, and another worker is woken for it."""
    user = Squares(deque(range(3)), perform=waiting_for(gate))
    wakes = Wakes()
    pump = make_pump(user, wake=wakes, threads=4)
    wakes.then = pump.stop
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(pump.run)
        until(lambda: user.busy.total() == 3)
        user.due.append(3)  # its claim takes the last thread and wakes a worker: the pump stops there
        until(lambda: wakes.count)
        gate.set()
        job.result(20)
    pump.run()

    assert sorted(user.recorded) == [(0, 0), (1, 1), (2, 4), (3, RETURNED)]
    assert list(user.due) == [3]
    assert wakes.count == 2


def test_claim_older_than_half_its_lease_is_given_back() -> None:
    """A task that begins late is not performed: its lease might expire meanwhile."""
    user = Squares(deque([1]))
    wakes = Wakes(then=lambda: time.sleep(0.3))

    make_pump(user, wake=wakes, threads=1, lease_s=0.4, job_s=0.2).run()

    assert user.recorded[0] == (1, RETURNED)
    assert list(user.due) == [1]


def test_crash_ends_its_own_task_only() -> None:
    """A bug in one task is reported; its thread is free again and the others are recorded."""

    def crash(number: int) -> int:
        if number == 3:
            raise ZeroDivisionError
        return number * number

    user = Squares(deque(range(6)), perform=crash)

    make_pump(user, threads=1).run()

    assert user.crashed == [3]
    assert sorted(number for number, _ in user.recorded) == [0, 1, 2, 4, 5]
    assert user.busy.total() == 0


def test_results_are_kept_while_the_database_is_unavailable() -> None:
    """What is known is recorded once the database is back, and noted at once."""
    user = Squares(deque([1, 2]))
    user.perform = lambda number: user.is_away.set() or number * number
    with ThreadPoolExecutor(1) as jobs, structlog.testing.capture_logs() as logs:
        job = jobs.submit(make_pump(user).run)
        until(lambda: user.unrecorded)

        assert user.recorded == []
        assert sorted(user.noted) == [(1, 1), (2, 4)]
        user.is_away.clear()
        job.result(20)

    assert sorted(user.recorded) == [(1, 1), (2, 4)]
    assert {error for _, error in user.unrecorded} == {"database_unavailable"}
    assert [(one["event"], one["what"]) for one in logs] == [("claim_failed", "squares")]


def test_results_that_are_no_use_any_more_are_dropped() -> None:
    """A result is kept for `keep_s` and its loss is logged."""
    user = Squares(deque([1]))
    user.perform = lambda number: user.is_away.set() or number

    with structlog.testing.capture_logs() as logs:
        make_pump(user, keep_s=0.2).run()

    assert user.recorded == []
    assert [(one["what"], one["results"]) for one in logs if one["event"] == "results_dropped"] == [
        ("squares", 1)
    ]


def test_locked_row_holds_up_no_other() -> None:
    """The result of a locked row is kept; the job continues to claim, and logs a long lock once."""
    user = Squares(deque([1, 2]), locked={1})
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(make_pump(user).run)
        until(lambda: user.unrecorded)
        user.due.append(3)
        until(lambda: (3, 9) in user.recorded)
        time.sleep(0.3)

        assert not job.done()
        user.locked.clear()
        job.result(20)

    assert sorted(user.recorded) == [(1, 1), (2, 4), (3, 9)]
    assert user.unrecorded == [(1, "rows_locked")]


def test_refused_result_ends_neither_the_others_nor_the_job() -> None:
    """One result that is refused for good is reported and dropped; what is due later is still performed."""
    user = Squares(deque(range(40)), never={3, 17})

    make_pump(user, threads=4).run()

    assert sorted(user.refused) == [3, 17]
    assert sorted(number for number, _ in user.recorded) == sorted(set(range(40)) - {3, 17})
    assert not user.due


def test_locked_result_survives_the_refusal_of_another() -> None:
    """Results that are recorded one by one are kept as well when their rows are locked."""
    user = Squares(deque([1, 2]), never={1}, locked={2})
    both = threading.Barrier(2)
    user.perform = lambda number: both.wait(10) * 0 + number * number
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(make_pump(user).run)
        until(lambda: user.refused)
        user.locked.clear()
        job.result(20)

    assert (user.refused, user.recorded) == ([1], [(2, 4)])


def test_error_of_a_claim_ends_the_job() -> None:
    """An error that no result causes is raised, once what is known is recorded."""
    user = Squares(deque([1]))
    take_turn = user.take_turn

    def fail_to_claim(
        results: Sequence[Squared], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[int, Squared]:
        if permit.slots and user.turns:
            raise RuntimeError("no such function")
        return take_turn(results, permit, now=now)

    user.take_turn = fail_to_claim  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="no such function"):
        make_pump(user).run()

    assert user.recorded == [(1, 1)]


def test_abandon_waits_for_no_task_that_has_begun(gate: threading.Event) -> None:
    """The others are recorded, and what had begun is counted."""
    user = Squares(deque([1, 2, 3]), perform=waiting_for(gate, numbers={2}))
    pump = make_pump(user)
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(pump.run)
        until(lambda: len(user.recorded) == 2)

        begun = time.monotonic()
        assert pump.abandon(within_s=10) == 1
        assert time.monotonic() - begun < 5
        job.result(1)
        gate.set()

    assert sorted(user.recorded) == [(1, 1), (3, 9)]


@pytest.mark.parametrize("is_back", [False, True])
def test_abandoned_recording_is_tried_once(is_back: bool) -> None:
    """An abandoned job records what it knows; while the database is unavailable it drops that."""
    user = Squares(deque([1]))
    user.perform = lambda number: user.is_away.set() or number
    pump = make_pump(user)
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(pump.run)
        until(lambda: user.unrecorded)
        if is_back:
            user.is_away.clear()

        assert pump.abandon(within_s=10) == 0
        job.result(5)

    assert user.recorded == ([(1, 1)] if is_back else [])


def test_job_ends_after_the_look_at_its_claims() -> None:
    """The work of the user beside the tasks ends with the job."""
    seen: list[int] = []
    with ThreadPoolExecutor(1) as looking:

        def look(claimed: Sequence[int]) -> None:
            time.sleep(0.2)
            seen.extend(claimed)

        def observe(claimed: Sequence[int]) -> Future[None]:
            return looking.submit(look, claimed)

        make_pump(Squares(deque([1, 2]), observing=observe)).run()

        assert sorted(seen) == [1, 2]


def test_results_are_followed_up_a_moment_later(gate: threading.Event) -> None:
    """A job that is busy follows results up together, a tenth of a second after the first."""
    user = Squares(deque(range(6)), perform=waiting_for(gate, numbers={5}))
    with ThreadPoolExecutor(1) as jobs:
        job = jobs.submit(make_pump(user).run)
        until(lambda: user.followed_up)
        (at, names) = user.followed_up[0]
        gate.set()
        job.result(20)

    assert sorted(names) == ["0", "1", "2", "3", "4"]
    first_recorded_at = next(at for (results, _), at in zip(user.turns, user.at, strict=True) if results)
    assert at - first_recorded_at >= 0.1
