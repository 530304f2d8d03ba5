"""Say whether the service can do its work, from what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.caps import Scope
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.templates import ProviderIds
from otpqueue.jobs import QUEUES, Presence
from otpqueue.store import stops
from otpqueue.store.engine import connection


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """What works, in the guide's words."""

    database: bool
    migrated: bool
    """Whether the database has the tables."""
    redis: bool
    infobip: bool
    """Whether the provider is set up; whether it answers shows in traffic, not in a probe."""
    workers_missing: tuple[str, ...] | None
    """Queues that no living worker serves; None when nobody can tell."""
    stopped: frozenset[Scope] = frozenset()
    """For what an operator has stopped sending: that is a wish, not an illness."""

    @property
    def serves(self) -> bool:
        """Whether calls can be answered: everything is in Postgres, all else heals behind it."""
        return self.database and self.migrated

    @property
    def whole(self) -> bool:
        """Whether codes asked for now will leave, and what is too old will be deleted."""
        return self.serves and self.redis and self.infobip and self.workers_missing == ()


@dataclass(frozen=True, kw_only=True)
class CheckHealth:
    """Checks health."""

    engine: Engine
    presence: Presence
    provider_ids: Callable[[], ProviderIds | None]

    def __call__(self) -> Healthy:
        """Look at each part; never raises for a part that is down."""
        database = migrated = infobip = False
        stopped: frozenset[Scope] = frozenset()
        try:
            with connection(self.engine) as conn:
                conn.execute(text("SELECT 1"))
            database = True
            with connection(self.engine) as conn:
                stopped = frozenset(one.scope for one in stops.in_force(conn))
            infobip = self.provider_ids() is not None
            migrated = True
        except (DatabaseUnavailable, ProgrammingError):
            pass  # what was not reached stays False
        redis, missing = True, None
        try:
            served = self.presence.queues_served()
            missing = tuple(queue for queue in QUEUES if queue not in served)
        except RedisError:
            redis = False
        return Healthy(
            database=database,
            migrated=migrated,
            redis=redis,
            infobip=infobip,
            workers_missing=missing,
            stopped=stopped,
        )
