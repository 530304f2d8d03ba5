"""Record the results of a pump's job: many in one turn, later or singly where that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Generic

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.pump_job import FinishedTask, PumpJob
from otpqueue.operations.pump_user import NO_CLAIMS, ClaimAllowance, PumpUser, ResultT, TaskT, TurnResult
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_PACE_S = (0.002, 0.02)
"""Shortest and longest pause between two turns: twice as long as the turn took, within these bounds.

A turn therefore records and claims more under load, and turns alone never keep Postgres busy.
"""

_LOCKED_TURNS = 2
"""Locked rows are logged when this many turns in a row met them: most locks are released before that."""


class ResultRecorder(Generic[TaskT, ResultT]):
    """Takes the turns of a pump's jobs, and keeps in the job what cannot be recorded now."""

    def __init__(
        self,
        user: PumpUser[TaskT, ResultT],
        *,
        name: str,
        clock: Callable[[], datetime],
        keep_s: float,
        on_given_back: Callable[[], None],
    ) -> None:
        """`on_given_back` is called after each turn that recorded tasks as given back."""
        self._user, self._name, self._clock = user, name, clock
        self._keep_s, self._on_given_back = keep_s, on_given_back

    def take_turn(
        self, job: PumpJob[ResultT], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[TaskT, ResultT]:
        """Record what has finished and claim. Where the user raises, the results stay in the job."""
        batch, job.finished = job.finished, []
        begun = time.monotonic()
        try:
            turn = self._user.take_turn([one.result for one in batch], permit, now=now)
        except Exception:
            job.finished = batch + job.finished
            raise
        took_s = time.monotonic() - begun
        job.turn_at = begun + took_s + min(max(2 * took_s, _PACE_S[0]), _PACE_S[1])
        if batch:
            self._keep_locked(job, batch, turn)
            self._user.report_recorded(turn.recorded)
            job.add_follow_ups(turn.follow_ups)
            if turn.given_back:
                self._on_given_back()
        return turn

    def record_results(self, job: PumpJob[ResultT]) -> None:
        """Record what has finished and claim nothing. Raises what the user raises."""
        self.take_turn(job, NO_CLAIMS, now=self._clock())

    def record_or_keep(self, job: PumpJob[ResultT]) -> bool:
        """Record what has finished, except what is refused for good; False while Postgres is unavailable."""
        try:
            self.record_results(job)
        except DatabaseUnavailable:
            self._user.report_unrecorded(len(job.finished), error="database_unavailable")
            finished, job.finished = job.finished, []
            self._keep_results(job, finished)
            return False
        except Exception:  # noqa: BLE001 - `record_singly` finds the refused result, which is logged
            self.record_singly(job)
        return True

    def record_singly(self, job: PumpJob[ResultT]) -> None:
        """Record results one by one, since Postgres refuses one of them for good; that one is dropped."""
        kept: list[FinishedTask[ResultT]] = []
        finished, job.finished = job.finished, []
        for position, one in enumerate(finished):
            job.finished = [one]
            try:
                self.record_results(job)
            except DatabaseUnavailable:
                kept += finished[position:]
                break
            except Exception as error:  # noqa: BLE001 - the user logs it; the lease expires
                self._user.report_refused(one.result, error)
            else:
                kept += job.finished
        job.finished = []
        self._keep_results(job, kept)
        job.locked_turns = int(bool(job.finished))

    def _keep_locked(
        self, job: PumpJob[ResultT], batch: list[FinishedTask[ResultT]], turn: TurnResult[TaskT, ResultT]
    ) -> None:
        if not turn.locked:
            job.locked_turns = 0
            return
        job.locked_turns += 1
        if job.locked_turns == _LOCKED_TURNS:
            self._user.report_unrecorded(len(turn.locked), error="rows_locked")
        self._keep_results(job, [batch[position] for position in sorted(turn.locked)])

    def _keep_results(self, job: PumpJob[ResultT], finished: list[FinishedTask[ResultT]]) -> None:
        job.keep_results(finished)
        if dropped := job.drop_results(known_before=time.monotonic() - self._keep_s):
            log.error("results_dropped", what=self._name, results=dropped)
