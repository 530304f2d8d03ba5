"""Say whether the service can do its work, from what it needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.caps import Scope
from otpqueue.domain.circuit import State
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import Heartbeat, Life, life_of_beat, life_of_queues, widest_skew_s
from otpqueue.domain.stats import NO_STATUS, Metric, Tally
from otpqueue.domain.templates import ProviderIds
from otpqueue.jobs import QUEUES
from otpqueue.store import heartbeats, stat_reports, stops
from otpqueue.store.engine import connection

MOST_SKEW_S = 5.0
"""Deadlines are set by one host's clock and kept by another's: past that codes die early, or leave late."""


_NOW = timedelta(minutes=1)
_LATELY = timedelta(minutes=5)
_MISCONFIGURED = ("401", "403")
"""Whoever is asked for, the answer is the same until our configuration is mended."""


class Provider(StrEnum):
    """How Infobip does: as calls of it went, never by a call that is made to find out."""

    ANSWERING = "answering"
    FAILING = "failing"
    """Of the calls of this minute and the last one, or else of five, most had no good answer."""
    QUIET = "no recent traffic"
    PAUSED = "paused: circuit open"
    """So many calls had no good answer that none is made for a while."""
    NOT_CONFIGURED = "not configured"
    UNKNOWN = "unknown"
    """Postgres, which knows, is away."""


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """What works, in the guide's words."""

    database: bool
    migrated: bool
    """Whether the database has the tables."""
    redis: bool
    """Whether Redis answers and takes what we write."""
    infobip: Provider
    heartbeats: tuple[Heartbeat, ...] | None
    """The signs of life; None when nobody can tell."""
    redis_refuses: bool = False
    """Whether it answers, but refuses: a replica, one without memory, one that denies us commands."""
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
        # On a quiet night nobody has asked the provider: that is no illness.
        provider = self.infobip in {Provider.ANSWERING, Provider.QUIET}
        staffed = self.queues is not None and {*self.queues.values(), self.beat} == {Life.RUNNING}
        on_time = abs(self.skew_s or 0) <= MOST_SKEW_S
        return self.serves and self.redis and provider and staffed and on_time


@dataclass(frozen=True, kw_only=True)
class CheckHealth:
    """Checks health."""

    engine: Engine
    circuit: Callable[[], State]
    """Asks Redis. Raises RedisError."""
    redis_writes: Callable[[], None]
    """Does what counting needs. Raises RedisError."""
    provider_ids: Callable[[], ProviderIds | None]

    def __call__(self, *, now: datetime) -> Healthy:
        """Look at each part; never raises for a part that is down."""
        database = migrated = False
        provider = Provider.UNKNOWN
        stopped: frozenset[Scope] = frozenset()
        signs = None
        try:
            with connection(self.engine) as conn:
                conn.execute(text("SELECT 1"))
            database = True
            with connection(self.engine) as conn:
                stopped = frozenset(one.scope for one in stops.in_force(conn))
                signs = tuple(heartbeats.living(conn))
                provider = _as_calls_went(conn, now)
            if self.provider_ids() is None:
                provider = Provider.NOT_CONFIGURED
            migrated = True
        except (DatabaseUnavailable, ProgrammingError):
            pass  # what was not reached stays False
        redis = closed = True
        redis_refuses = False
        try:
            closed = self.circuit() is State.CLOSED
            self.redis_writes()
        except RedisError as error:
            redis, redis_refuses = False, isinstance(error, ResponseError)
        if not closed and provider is not Provider.NOT_CONFIGURED:
            provider = Provider.PAUSED
        return Healthy(
            database=database,
            migrated=migrated,
            redis=redis,
            redis_refuses=redis_refuses,
            infobip=provider,
            heartbeats=signs,
            stopped=stopped,
        )


def _as_calls_went(conn: Connection, now: datetime) -> Provider:
    this_minute = now.replace(second=0, microsecond=0)
    calls = (Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS)
    for window in (_NOW, _LATELY):
        tally = Tally(stat_reports.sums(conn, since=this_minute - window, until=now, metrics=calls))
        statuses = [(status, n) for metric in calls for status, n in tally.by_label(metric).items()]
        bad = sum(n for status, n in statuses if _is_bad(status))
        if asked := sum(n for _, n in statuses):
            return Provider.FAILING if bad > asked - bad else Provider.ANSWERING
    return Provider.QUIET


def _is_bad(status: str) -> bool:
    return status == NO_STATUS or status.startswith("5") or status in _MISCONFIGURED
