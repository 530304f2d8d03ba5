"""Heartbeats of our processes. They show which queues have a worker and whether beat runs."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ProcessKind(StrEnum):
    """The type of a process."""

    WORKER = "worker"
    BEAT = "beat"
    API = "api"


class Liveness(StrEnum):
    """The liveness of a role that processes fill: serve a queue, or run the schedule."""

    RUNNING = "running"
    STARTING = "starting"
    """Only processes that started at most `STARTING_FOR_S` ago and have not reached the broker yet."""
    CUT_OFF = "cut off"
    """The processes run, but none of them has had contact with the broker recently."""
    SILENT = "silent"
    """No process in this role runs."""


EVERY_S = {ProcessKind.WORKER: 5.0, ProcessKind.BEAT: 5.0, ProcessKind.API: 15.0}
"""The heartbeat interval in seconds, by type of process."""

SILENT_AFTER_S = {kind: 3 * every_s for kind, every_s in EVERY_S.items()}
"""A process without a heartbeat for this many seconds counts as stopped."""


STARTING_FOR_S = 20.0
"""How long a new process may take to reach the broker. After that it counts as cut off."""


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The last heartbeat of one process. Times are by Postgres's clock."""

    process: str
    """Its kind, host and process id: `worker|web-1:4711`."""
    kind: ProcessKind
    queues: tuple[str, ...]
    """The queues that a worker serves."""
    in_touch: bool
    """Whether it has recent contact with the broker: a worker consumes, beat publishes.

    Always true for an API process, which notices a broken broker only at its next publish.
    """
    version: str
    heard: bool = True
    """Whether it has had contact with the broker since it started."""
    started_at: datetime
    seen_at: datetime
    age_s: float
    """Seconds since the last heartbeat."""
    idle_s: float
    """Seconds since the last heartbeat that reported contact with the broker."""
    skew_s: float | None
    """How far its host's clock is ahead of Postgres's, in seconds. None until the process has measured it."""

    @property
    def is_alive(self) -> bool:
        """Whether its last heartbeat is recent enough."""
        return self.age_s <= SILENT_AFTER_S[self.kind]

    @property
    def is_connected(self) -> bool:
        """Whether it is alive and has contact with the broker."""
        return self.is_alive and self.in_touch

    @property
    def is_starting(self) -> bool:
        """Whether it is alive, has just started and has not reached the broker yet."""
        return self.is_alive and not self.in_touch and not self.heard and self.idle_s <= STARTING_FOR_S


def get_liveness(*heartbeats: Heartbeat) -> Liveness:
    """Return the liveness of a role that any of these processes may fill."""
    living = [one for one in heartbeats if one.is_alive]
    if any(one.in_touch for one in living):
        return Liveness.RUNNING
    if any(one.is_starting for one in living):
        return Liveness.STARTING
    return Liveness.CUT_OFF if living else Liveness.SILENT


def get_queue_liveness(heartbeats: Collection[Heartbeat], queues: Iterable[str]) -> dict[str, Liveness]:
    """Return the liveness of the workers of each queue."""
    workers = [one for one in heartbeats if one.kind is ProcessKind.WORKER]
    return {queue: get_liveness(*(one for one in workers if queue in one.queues)) for queue in queues}


def get_beat_liveness(heartbeats: Iterable[Heartbeat]) -> Liveness:
    """Return the liveness of beat."""
    return get_liveness(*(one for one in heartbeats if one.kind is ProcessKind.BEAT))


def find_widest_skew_s(heartbeats: Iterable[Heartbeat]) -> float | None:
    """Return the largest clock skew of the living processes' hosts, in seconds.

    None if no process has measured it.
    """
    measured = [one.skew_s for one in heartbeats if one.is_alive and one.skew_s is not None]
    return max(measured, key=abs, default=None)
