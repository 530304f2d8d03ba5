"""One job of a pump: its events, what it has in flight, and what it has still to record."""

from __future__ import annotations

import math
import queue
import time
from collections.abc import Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Generic

from otpqueue.operations.pump_user import ResultT

GATHER_S = 0.01
"""While tasks are in flight, wait this long to record more results in the same turn."""

RETRY_S = 0.05
"""Pause before a retry: of a claim while all threads are busy, of recording a locked row."""

FOLLOW_UP_S = 0.1
"""Pause between the first result that was recorded and its follow-up."""


@dataclass(frozen=True)
class FinishedTask(Generic[ResultT]):
    """The result of a task."""

    result: ResultT
    at: float
    """When it was known, on the monotonic clock, in seconds."""


class JobSignal(Enum):
    """An event for a job that is neither a result nor a nudge."""

    STOP = "stop"
    POLL = "poll"
    """Another job has come: there are rows."""
    CRASHED = "crashed"
    """A task has ended without a result."""


class PumpJob(Generic[ResultT]):
    """The state of one job. Only `events` is thread-safe. Times are of the monotonic clock, in seconds."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[FinishedTask[ResultT] | JobSignal | int] = queue.SimpleQueue()
        """Results, signals, and counts of nudges."""
        self.nudges = 0
        self.is_hurried = False
        """Whether to poll for rows now."""
        self.in_flight = 0
        self.unnoted: list[ResultT] = []
        """Results that the user has not noted."""
        self.finished: list[FinishedTask[ResultT]] = []
        """What is to be recorded."""
        self.record_at = 0.0
        self.locked_turns = 0
        """How many turns in a row left results unrecorded because of locked rows."""
        self.follow_ups: list[str] = []
        self.follow_up_at = 0.0
        self.turn_at = 0.0
        """No turn before this."""
        self.observation: Future[None] | None = None
        """The user's observation of the newest claims, which comes after those of all others."""

    @property
    def is_idle(self) -> bool:
        """Return whether nothing is in flight or to be recorded."""
        return not self.in_flight and not self.finished

    @property
    def record_due(self) -> float:
        """Return when what has finished is to be recorded."""
        if not self.finished:
            return math.inf
        return self.record_at if self.in_flight or self.locked_turns else 0.0

    @property
    def follow_up_due(self) -> float:
        """Return when recorded results are to be followed up."""
        return self.follow_up_at if self.follow_ups else math.inf

    def wait(self, until: float) -> None:
        """Wait for one event, at most until that time; take it and all others that have come by then."""
        seconds = until - time.monotonic()
        with suppress(queue.Empty):
            event = self.events.get(timeout=seconds) if seconds > 0 else self.events.get_nowait()
            while True:
                self._take_event(event)
                event = self.events.get_nowait()

    def _take_event(self, event: FinishedTask[ResultT] | JobSignal | int) -> None:
        if isinstance(event, FinishedTask):
            self.in_flight -= 1
            self.unnoted.append(event.result)
            if not self.finished:
                self.record_at = time.monotonic() + GATHER_S
            self.finished.append(event)
        elif isinstance(event, int):
            self.nudges += event
        elif event is JobSignal.CRASHED:
            self.in_flight -= 1
        elif event is JobSignal.POLL:
            self.is_hurried = True

    def keep_results(self, finished: Iterable[FinishedTask[ResultT]]) -> None:
        """Record these again after a pause."""
        self.finished += finished
        self.record_at = time.monotonic() + RETRY_S

    def drop_results(self, *, known_before: float) -> int:
        """Drop what has been known since before that time; return how many results that were."""
        before = len(self.finished)
        self.finished = [one for one in self.finished if one.at > known_before]
        return before - len(self.finished)

    def add_follow_ups(self, names: Iterable[str]) -> None:
        """Have these followed up."""
        if not self.follow_ups:
            self.follow_up_at = time.monotonic() + FOLLOW_UP_S
        self.follow_ups += names
