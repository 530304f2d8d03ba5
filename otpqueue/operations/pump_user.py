"""The interface between a pump and its user: what is claimed, performed and recorded."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Generic, TypeVar

TaskT = TypeVar("TaskT")
"""A row that this process has claimed."""

ResultT = TypeVar("ResultT")
"""The outcome of a task, to be recorded."""


@dataclass(frozen=True)
class HoldTimer:
    """How long a claim has been held. Adjustments of the host's clock do not change it."""

    since: datetime
    started: float
    """The same moment on the monotonic clock, in seconds."""

    @property
    def seconds(self) -> float:
        """Seconds since the claim."""
        return time.monotonic() - self.started

    @property
    def now(self) -> datetime:
        """The current time, counted from `since`."""
        return self.since + timedelta(seconds=self.seconds)


@dataclass(frozen=True)
class ClaimAllowance:
    """How many tasks may be claimed now."""

    slots: int
    retry_in_s: float = 0.0
    """With no slots: when to ask for a permit again."""
    is_probe: bool = False
    """Whether the one task finds out if a service is back."""


NO_CLAIMS = ClaimAllowance(0)


@dataclass(frozen=True, kw_only=True)
class TurnResult(Generic[TaskT, ResultT]):
    """What one turn claimed and recorded."""

    claimed: Sequence[TaskT] = ()
    has_more: bool = False
    """Whether more may be due than there were slots for."""
    expected: int = 0
    """How many of the claimed tasks are of the kind that callers nudge for."""
    next_due: datetime | None = None
    """If nothing was due: when the next task falls due. It may lie in the past, where others hold it."""
    recorded: Sequence[ResultT] = ()
    given_back: int = 0
    """How many of the recorded tasks were not performed and are due again."""
    locked: Collection[int] = field(default=frozenset())
    """Positions of the results that were not recorded, since another session has locked their rows."""
    follow_ups: Sequence[str] = ()
    """What `follow_up_results` gets a moment later."""


class PumpUser(ABC, Generic[TaskT, ResultT]):
    """What a pump sends, and where it is recorded. All methods are called by several threads."""

    def prepare_job(self) -> bool:
        """Begin a job; return False, logged, if nothing can be claimed."""
        return True

    def permit_claims(self, free: int) -> ClaimAllowance:
        """Return how many tasks may be claimed now, up to the `free` threads."""
        return ClaimAllowance(free)

    @abstractmethod
    def take_turn(
        self, results: Sequence[ResultT], permit: ClaimAllowance, *, now: datetime
    ) -> TurnResult[TaskT, ResultT]:
        """Record `results`, then claim what `permit` allows, in one commit.

        Every claimed task reaches `release_task` once. If this raises, nothing was recorded: a
        DatabaseUnavailable passes, with any other error one of the results is refused for good.
        """

    def observe_claims(self, claimed: Sequence[TaskT], hold: HoldTimer) -> Future[None] | None:  # noqa: ARG002
        """Observe tasks that were just given to threads; the job ends after the future does."""
        return None

    @abstractmethod
    def perform_task(self, task: TaskT, hold: HoldTimer) -> ResultT:
        """Perform a task, in a thread of its own. An error is a bug: the lease expires."""

    @abstractmethod
    def return_task(self, task: TaskT, hold: HoldTimer) -> ResultT:
        """Return the result of a task that is given back unperformed."""

    @abstractmethod
    def release_task(self, task: TaskT) -> None:
        """Note that a task occupies its thread no longer."""

    def note_results(self, results: Sequence[ResultT]) -> None:
        """Note results as soon as they are known, even if they cannot be recorded yet."""

    def follow_up_results(self, names: Sequence[str]) -> None:
        """Do what is to be done a moment after results were recorded. Raises no DatabaseUnavailable."""

    @abstractmethod
    def report_recorded(self, results: Sequence[ResultT]) -> None:
        """Log, count and publish results that are recorded."""

    @abstractmethod
    def report_unrecorded(self, results: int, *, error: str) -> None:
        """Log how many results are to be recorded later, and why."""

    @abstractmethod
    def report_refused(self, result: ResultT, error: Exception) -> None:
        """Log the error with which Postgres refused a result for good."""

    @abstractmethod
    def report_crash(self, task: TaskT, error: Exception) -> None:
        """Log the error that ended a task."""
