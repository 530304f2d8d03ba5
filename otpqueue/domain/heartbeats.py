"""Signs of life of our processes, and what follows from them: which queues are served, whether beat lives."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ProcessKind(StrEnum):
    """What a process is."""

    WORKER = "worker"
    BEAT = "beat"
    API = "api"


class Liveness(StrEnum):
    """How something does that processes must do: serve a queue, start the periodic jobs."""

    RUNNING = "running"
    STARTING = "starting"
    """Processes that would do it started at most `STARTING_FOR_S` ago and have not reached the broker yet."""
    CUT_OFF = "cut off"
    """Processes that would do it live, but none of them has heard of the broker lately."""
    SILENT = "silent"
    """No process that would do it lives."""


EVERY_S = {ProcessKind.WORKER: 5.0, ProcessKind.BEAT: 5.0, ProcessKind.API: 15.0}
"""How often a process shows life."""

SILENT_AFTER_S = {kind: 3 * every_s for kind, every_s in EVERY_S.items()}
"""A process that has not shown life for so long counts as gone."""


STARTING_FOR_S = 20.0
"""How long a new process may take to reach the broker; after that it counts as cut off."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The last sign of life of one process. Times are by Postgres's clock."""

    process: str
    """Its kind, host and process id: `worker|web-1:4711`."""
    kind: ProcessKind
    queues: tuple[str, ...]
    """What a worker serves."""
    in_touch: bool
    """Whether it was in touch with the broker: a worker took from it, beat put something into it. An API
    process always is: it would notice with the next call only."""
    version: str
    heard: bool = True
    """Whether it has been in touch with the broker since it started."""
    started_at: datetime
    seen_at: datetime
    age_s: float
    """For how long it has been silent."""
    idle_s: float
    """For how long it has done no work as far as we know: silent, or not in touch with the broker."""
    skew_s: float | None
    """How far its host's clock is ahead of Postgres's; None before it has measured that."""

    @property
    def lives(self) -> bool:
        """Whether the process counts as living."""
        return self.age_s <= SILENT_AFTER_S[self.kind]

    @property
    def works(self) -> bool:
        """Whether it lives and hears the broker."""
        return self.lives and self.in_touch

    @property
    def starts(self) -> bool:
        """Whether it lives, has just started and has not reached the broker yet."""
        return self.lives and not self.in_touch and not self.heard and self.idle_s <= STARTING_FOR_S


def life_of(*heartbeats: Heartbeat) -> Liveness:
    """Return how something does that any of these processes would do."""
    living = [one for one in heartbeats if one.lives]
    if any(one.in_touch for one in living):
        return Liveness.RUNNING
    if any(one.starts for one in living):
        return Liveness.STARTING
    return Liveness.CUT_OFF if living else Liveness.SILENT


def life_of_queues(heartbeats: Collection[Heartbeat], queues: Iterable[str]) -> dict[str, Liveness]:
    """Return how each of these queues is served."""
    workers = [one for one in heartbeats if one.kind is ProcessKind.WORKER]
    return {queue: life_of(*(one for one in workers if queue in one.queues)) for queue in queues}


def life_of_beat(heartbeats: Iterable[Heartbeat]) -> Liveness:
    """Return how beat does."""
    return life_of(*(one for one in heartbeats if one.kind is ProcessKind.BEAT))


def widest_skew_s(heartbeats: Iterable[Heartbeat]) -> float | None:
    """Return how far the clock of a living process's host is off at most; None where none has measured it."""
    measured = [one.skew_s for one in heartbeats if one.lives and one.skew_s is not None]
    return max(measured, key=abs, default=None)
