"""The pump: claims due rows of a table, performs them in threads and records their outcomes.

A worker process has one pump for each of its users (`pump_user.py`): codes, and webhooks. The table is the
queue; a Celery job only starts a pump. A job takes turns: each records what has finished and claims up to the
free threads, in one commit. Results, nudges and a stop are events that it waits for.

After its last row a job lingers: it continues to poll for `linger_s` and announces that in Redis, so that
callers nudge it instead of publishing a job. After `job_s` a successor claims, and the job only waits for
what it has in flight.

One module because `Pump` is one state machine; what has no part in its states is in `pump_*.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Generic

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.nudges import UNNUDGED_POLL_S, NudgeListener, Nudges, PollSchedule
from otpqueue.operations.pump_job import RETRY_S, FinishedTask, JobSignal, PumpJob
from otpqueue.operations.pump_recorder import ResultRecorder
from otpqueue.operations.pump_user import NO_CLAIMS, ClaimAllowance, HoldTimer, PumpUser, ResultT, TaskT
from otpqueue.telemetry import logs

log = logs.get_logger(__name__)

_AWAY_S = 0.5
"""Pause before results are recorded again while Postgres is unavailable."""

_LAST_POLL_S = 0.1
"""How long after the end of its lingering a job polls once more."""

_CALL_PAUSES_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses between jobs that are published for other workers while claims take all free threads."""

_CALLS_OVER_S = 5.0
"""After this long without such a claim the next one publishes at once."""

_ABANDONED_S = 0.2
"""How often a job that waits for what it has in flight checks whether it is abandoned."""


@dataclass(frozen=True, kw_only=True)
class PumpSettings:
    """How the pump of one process works. Times in seconds."""

    threads: int
    lease_s: float
    """How long a claim lasts; after half of it a task that has not begun is given back."""
    job_s: float
    """For how long a job claims before it wakes its successor."""
    keep_s: float
    """For how long a result is kept that cannot be recorded."""
    linger_s: float = 0.0
    """How long a job continues to poll after its last row; 0 ends it at once."""
    poll_s: float = UNNUDGED_POLL_S
    """Pause between polls while no nudges are received."""


class Pump(Generic[TaskT, ResultT]):
    """Performs what is due. Thread-safe: of several jobs one claims, the others make it poll again."""

    def __init__(
        self,
        user: PumpUser[TaskT, ResultT],
        *,
        name: str,
        wake: Callable[[], bool],
        clock: Callable[[], datetime],
        settings: PumpSettings,
        nudges: Nudges | None = None,
    ) -> None:
        """`name` is that of what is sent, for threads and logs.

        `wake` publishes a job: for a successor, or another worker. Without `nudges` the table is polled.
        """
        self._user, self._name, self._settings = user, name, settings
        self._wake, self._clock = wake, clock
        self._listener = NudgeListener(nudges, self._signal_claimer) if nudges and settings.linger_s else None
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix=name)
        self._claiming = threading.Lock()
        self._claimer: PumpJob[ResultT] | None = None
        self._claimer_lock = threading.Lock()
        self._nudge = threading.Event()
        self._stop = threading.Event()
        self._abandoned = threading.Event()
        self._jobs_done = threading.Condition()
        self._jobs = 0
        self._busy = 0
        self._busy_lock = threading.Lock()
        self._recorder = ResultRecorder(
            user, name=name, clock=clock, keep_s=settings.keep_s, on_given_back=self._pass_on_returned
        )
        self._calls, self._call_at, self._filled_at = 0, 0.0, 0.0

    def stop(self) -> None:
        """Claim no more: tasks that have begun are finished, the other claimed ones are given back."""
        self._stop.set()
        self._nudge.set()
        self._signal_claimer(JobSignal.STOP)

    def abandon(self, *, within_s: float) -> int:
        """Stop, and wait for no task that has begun; return how many had, once all else is recorded.

        Their leases expire. Recording is given up after `within_s` seconds.
        """
        self.stop()
        self._abandoned.set()
        with self._jobs_done:
            self._jobs_done.wait_for(lambda: not self._jobs, timeout=within_s)
        return self._busy

    def run(self) -> None:
        """Work until nothing is due, for about `job_s` seconds, and return when all of it is recorded.

        An unavailable database is logged; beat wakes a worker again.
        """
        with self._jobs_done:
            self._jobs += 1
        try:
            self._run_job()
        finally:
            with self._jobs_done:
                self._jobs -= 1
                self._jobs_done.notify_all()

    def _run_job(self) -> None:
        self._nudge.set()
        self._signal_claimer(JobSignal.POLL)
        # A job that finds the lock taken leaves its nudge, which the holder sees after releasing it.
        while self._nudge.is_set() and not self._stop.is_set() and self._claiming.acquire(blocking=False):
            job = PumpJob[ResultT]()
            try:
                self._nudge.clear()
                self._claim_for_a_while(job)
            except DatabaseUnavailable:
                log.warning("claim_failed", error="database_unavailable", what=self._name)
            finally:
                self._claiming.release()
                self._drain_job(job)

    def _signal_claimer(self, event: JobSignal | int) -> bool:
        """Pass an event to the job that claims; return whether there is one."""
        with self._claimer_lock:
            if self._claimer is None:
                return False
            self._claimer.events.put(event)
            return True

    def _claim_for_a_while(self, job: PumpJob[ResultT]) -> None:
        if not self._user.prepare_job():
            return
        end = time.monotonic() + self._settings.job_s
        self._claimer = job
        if self._listener:
            self._listener.start()
        try:
            self._take_turns(job, end)
        finally:
            if self._listener:
                self._listener.stop()
            with self._claimer_lock:
                self._claimer = None
            job.wait(0)
            if job.nudges:
                self._nudge.set()

    def _take_turns(self, job: PumpJob[ResultT], end: float) -> None:
        settings = self._settings
        polls = PollSchedule(
            now=time.monotonic(),
            linger_s=settings.linger_s,
            horizon_s=settings.job_s,
            poll_s=settings.poll_s,
        )
        while not self._stop.is_set():
            self._await_turn(job, polls, end)
            if self._stop.is_set():
                return
            if time.monotonic() >= end:
                self._hand_over()
                return
            self._take_turn(job, polls)
            if self._is_over(job, polls) and not self._poll_once_more(job, polls):
                return

    def _hand_over(self) -> None:
        if not self._wake():
            self._nudge.set()
        elif self._listener:
            self._listener.hand_over()

    def _is_over(self, job: PumpJob[ResultT], polls: PollSchedule) -> bool:
        return job.is_idle and polls.is_over(time.monotonic())

    def _poll_once_more(self, job: PumpJob[ResultT], polls: PollSchedule) -> bool:
        """Stop lingering; return whether a caller who saw the flag before has committed since."""
        if not self._listener:
            return False
        self._listener.stop()
        until = time.monotonic() + _LAST_POLL_S
        while not job.nudges and not self._stop.is_set() and time.monotonic() < until:
            job.wait(until)
        polls.poll_now(time.monotonic())
        self._take_turn(job, polls)
        if self._is_over(job, polls):
            return False
        self._listener.start()
        return True

    def _await_turn(self, job: PumpJob[ResultT], polls: PollSchedule, end: float) -> None:
        pause_s = job.turn_at - time.monotonic()
        if pause_s > 0:
            # Events of the meantime need not wake this thread once for each.
            time.sleep(pause_s)
        job.wait(0)
        while not self._stop.is_set():
            now = time.monotonic()
            if job.nudges:
                polls.note_nudges(now, job.nudges)
                job.nudges = 0
            if job.is_hurried:
                polls.poll_now(now)
                job.is_hurried = False
            poll_at = polls.at if self._has_room(job) else now + RETRY_S
            due = min(end, poll_at, job.record_due, job.follow_up_due)
            if due <= now:
                return
            job.wait(due)

    def _has_room(self, job: PumpJob[ResultT]) -> bool:
        # Few free threads at a time would make many small claims: wait for a quarter of them.
        free = self._settings.threads - self._busy
        return free > 0 and not (job.in_flight and free < self._settings.threads // 4)

    def _take_turn(self, job: PumpJob[ResultT], polls: PollSchedule) -> None:
        now = time.monotonic()
        if now >= job.follow_up_due:
            self._follow_up(job)
        self._note_results(job)
        permit = NO_CLAIMS
        if self._has_room(job) and now >= min(polls.at, job.record_due):
            permit = self._user.permit_claims(self._settings.threads - self._busy)
            if not permit.slots:
                polls.postpone_poll(now + permit.retry_in_s)
        try:
            if permit.slots:
                self._record_and_claim(job, polls, permit)
            elif now >= job.record_due:
                self._recorder.record_results(job)
        except DatabaseUnavailable:
            raise
        except Exception:
            if not job.finished:
                raise
            # One refused result ends neither the job nor the recording of the others.
            self._recorder.record_singly(job)

    def _record_and_claim(self, job: PumpJob[ResultT], polls: PollSchedule, permit: ClaimAllowance) -> None:
        self._nudge.clear()
        hold = HoldTimer(self._clock(), time.monotonic())
        turn = self._recorder.take_turn(job, permit, now=hold.since)
        now = time.monotonic()
        polls.note_poll(
            now,
            found=len(turn.claimed),
            expected=turn.expected,
            more=turn.has_more,
            next_due_in_s=(turn.next_due - self._clock()).total_seconds() if turn.next_due else None,
            is_receiving=self._listener is not None and self._listener.is_receiving,
        )
        if self._listener:
            self._listener.admit_nudge()
        if turn.has_more:
            self._call_worker(now)
        if turn.claimed:
            with self._busy_lock:
                self._busy += len(turn.claimed)
            job.in_flight += len(turn.claimed)
            for task in turn.claimed:
                self._threads.submit(self._perform_task, job, task, hold)
            job.observation = self._user.observe_claims(turn.claimed, hold) or job.observation

    def _call_worker(self, now: float) -> None:
        """Publish a job for another worker, with growing pauses while more is due than there are threads."""
        if now - self._filled_at > _CALLS_OVER_S:
            self._calls = 0
        self._filled_at = now
        if now >= self._call_at or not self._calls:
            self._wake()
            self._call_at = now + _CALL_PAUSES_S[min(self._calls, len(_CALL_PAUSES_S) - 1)]
            self._calls += 1

    def _pass_on_returned(self) -> None:
        if self._stop.is_set():
            self._wake()

    def _perform_task(self, job: PumpJob[ResultT], task: TaskT, hold: HoldTimer) -> None:
        event: FinishedTask[ResultT] | JobSignal = JobSignal.CRASHED
        try:
            if self._stop.is_set() or hold.seconds > self._settings.lease_s / 2:
                result = self._user.return_task(task, hold)
            else:
                result = self._user.perform_task(task, hold)
            event = FinishedTask(result, time.monotonic())
        except Exception as error:  # noqa: BLE001 - the user logs it; the lease expires
            self._user.report_crash(task, error)
        finally:
            self._user.release_task(task)
            with self._busy_lock:
                self._busy -= 1
            job.events.put(event)

    def _drain_job(self, job: PumpJob[ResultT]) -> None:
        """Wait for what is in flight and record it, claiming nothing."""
        while not job.is_idle and not self._abandoned.is_set():
            job.wait(min(job.record_due, time.monotonic() + _ABANDONED_S))
            self._note_results(job)
            if time.monotonic() >= job.record_due:
                self._record_results(job)
        job.wait(0)
        if job.finished:
            self._record_results(job)
        self._follow_up(job)
        if job.observation and not self._abandoned.is_set():
            job.observation.result()

    def _record_results(self, job: PumpJob[ResultT]) -> None:
        if not self._recorder.record_or_keep(job):
            self._abandoned.wait(_AWAY_S)

    def _note_results(self, job: PumpJob[ResultT]) -> None:
        if job.unnoted:
            results, job.unnoted = job.unnoted, []
            self._user.note_results(results)

    def _follow_up(self, job: PumpJob[ResultT]) -> None:
        if job.follow_ups:
            names, job.follow_ups = job.follow_ups, []
            self._user.follow_up_results(names)
