"""Say whether the service can do its work, from what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError
from sqlalchemy import Engine, text

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.sending import ProviderIds
from otpqueue.jobs import QUEUES, Presence
from otpqueue.store.engine import connection


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """What works, in the guide's words."""

    database: bool
    redis: bool
    infobip: bool
    """Whether the provider is set up; whether it answers shows in traffic, not in a probe."""
    workers_missing: tuple[str, ...] | None
    """Queues that no living worker serves; None when nobody can tell."""

    @property
    def serves(self) -> bool:
        """Whether calls can be answered: everything is in Postgres, all else heals behind it."""
        return self.database

    @property
    def whole(self) -> bool:
        """Whether codes asked for now will leave."""
        return self.database and self.redis and self.infobip and self.workers_missing == ()


@dataclass(frozen=True, kw_only=True)
class CheckHealth:
    """Checks health."""

    engine: Engine
    presence: Presence
    provider_ids: Callable[[], ProviderIds | None]

    def __call__(self) -> Healthy:
        """Look at each part; never raises for a part that is down."""
        try:
            with connection(self.engine) as conn:
                conn.execute(text("SELECT 1"))
            database, infobip = True, self.provider_ids() is not None
        except DatabaseUnavailable:
            database, infobip = False, False
        try:
            served = self.presence.queues_served()
        except RedisError:
            return Healthy(database=database, redis=False, infobip=infobip, workers_missing=None)
        missing = tuple(queue for queue in QUEUES if queue not in served)
        return Healthy(database=database, redis=True, infobip=infobip, workers_missing=missing)
