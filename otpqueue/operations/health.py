"""Say whether the service can do its work, from what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.caps import Scope
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import Heartbeat, Life, life_of_beat, life_of_queues, widest_skew_s
from otpqueue.domain.templates import ProviderIds
from otpqueue.jobs import QUEUES
from otpqueue.store import heartbeats, stops
from otpqueue.store.engine import connection

MOST_SKEW_S = 5.0
"""Deadlines are set by one host's clock and kept by another's: past that codes die early, or leave late."""


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """What works, in the guide's words."""

    database: bool
    migrated: bool
    """Whether the database has the tables."""
    redis: bool
    infobip: bool
    """Whether the provider is set up; whether it answers shows in traffic, not in a probe."""
    heartbeats: tuple[Heartbeat, ...] | None
    """The signs of life; None when nobody can tell."""
    stopped: frozenset[Scope] = frozenset()
    """For what an operator has stopped sending: that is a wish, not an illness."""

    @property
    def queues(self) -> dict[str, Life] | None:
        """How each queue is served; None when nobody can tell."""
        return None if self.heartbeats is None else life_of_queues(self.heartbeats, QUEUES)

    @property
    def beat(self) -> Life | None:
        """How beat does; None when nobody can tell."""
        return None if self.heartbeats is None else life_of_beat(self.heartbeats)

    @property
    def skew_s(self) -> float | None:
        """How far the clock of the host that is off most is ahead of Postgres's; None if unknown."""
        return widest_skew_s(self.heartbeats or ())

    @property
    def serves(self) -> bool:
        """Whether calls can be answered: everything is in Postgres, all else heals behind it."""
        return self.database and self.migrated

    @property
    def whole(self) -> bool:
        """Whether codes asked for now will leave in time, and what is too old will be deleted."""
        staffed = self.queues is not None and {*self.queues.values(), self.beat} == {Life.RUNNING}
        return (
            self.serves and self.redis and self.infobip and staffed and abs(self.skew_s or 0) <= MOST_SKEW_S
        )


@dataclass(frozen=True, kw_only=True)
class CheckHealth:
    """Checks health."""

    engine: Engine
    redis: Redis
    provider_ids: Callable[[], ProviderIds | None]

    def __call__(self) -> Healthy:
        """Look at each part; never raises for a part that is down."""
        database = migrated = infobip = False
        stopped: frozenset[Scope] = frozenset()
        signs = None
        try:
            with connection(self.engine) as conn:
                conn.execute(text("SELECT 1"))
            database = True
            with connection(self.engine) as conn:
                stopped = frozenset(one.scope for one in stops.in_force(conn))
                signs = tuple(heartbeats.living(conn))
            infobip = self.provider_ids() is not None
            migrated = True
        except (DatabaseUnavailable, ProgrammingError):
            pass  # what was not reached stays False
        try:
            redis = bool(self.redis.ping())
        except RedisError:
            redis = False
        return Healthy(
            database=database,
            migrated=migrated,
            redis=redis,
            infobip=infobip,
            heartbeats=signs,
            stopped=stopped,
        )
