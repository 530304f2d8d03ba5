"""Health check of the service: Postgres, Redis, queues, beat, Infobip and clocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from redis.exceptions import RedisError, ResponseError
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.caps import CapScope
from otpqueue.domain.circuit import CircuitState
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import (
    Heartbeat,
    Liveness,
    find_widest_skew_s,
    get_beat_liveness,
    get_queue_liveness,
)
from otpqueue.domain.provider_calls import (
    PROVIDER_CALLS,
    CallFailure,
    classify_call,
    find_most_frequent_failure,
)
from otpqueue.domain.stats import MetricTally
from otpqueue.domain.templates import ProviderIds
from otpqueue.jobs import QUEUES
from otpqueue.store import heartbeats, stops
from otpqueue.store.engine import connection
from otpqueue.store.stats import reports

MOST_SKEW_S = 5.0
"""One host's clock sets a deadline and another's enforces it.

Beyond this skew codes expire early or are sent late.
"""


_NOW = timedelta(minutes=1)
_LATELY = timedelta(minutes=5)
_WORKING = {Liveness.RUNNING, Liveness.STARTING}


class ProviderHealth(StrEnum):
    """The state of Infobip, by the outcomes of recent calls. The health check makes no call itself."""

    CONNECTED = "connected"
    """Most calls of this minute and the last one, or else of the last five minutes, had a useful answer."""
    FAILING = "failing"
    """Most of those calls failed."""
    QUIET = "no recent traffic"
    PAUSED = "paused"
    """The circuit is open: workers pause calls after too many failures."""
    NOT_CONFIGURED = "not configured"
    UNKNOWN = "unknown"
    """Postgres, which has the statistics, is down."""


@dataclass(frozen=True, kw_only=True)
class HealthStatus:
    """The result of a health check."""

    database: bool
    migrated: bool
    """Whether the schema is migrated."""
    redis: bool
    """Whether Redis answers and accepts writes."""
    infobip: ProviderHealth
    heartbeats: tuple[Heartbeat, ...] | None
    """The last heartbeat of each process; None while Postgres is down."""
    call_failure: CallFailure | None = None
    """The most frequent cause of failed calls in the window of `infobip`; None if none failed."""
    redis_refuses: bool = False
    """Whether Redis answers but rejects writes: a replica, out of memory, or missing permissions."""
    stopped: frozenset[CapScope] = frozenset()
    """The subjects of the stops in force. A stop is not an error."""

    @property
    def queues(self) -> dict[str, Liveness] | None:
        """The state of each queue's workers; None while Postgres is down."""
        return None if self.heartbeats is None else get_queue_liveness(self.heartbeats, QUEUES)

    @property
    def beat(self) -> Liveness | None:
        """The state of beat; None while Postgres is down."""
        return None if self.heartbeats is None else get_beat_liveness(self.heartbeats)

    @property
    def infobip_status(self) -> str:
        """The state of Infobip with its cause: `connected`, `failing: answers 5xx`, `paused: no answer`."""
        if self.call_failure and self.infobip in {ProviderHealth.FAILING, ProviderHealth.PAUSED}:
            return f"{self.infobip}: {self.call_failure}"
        return self.infobip.value

    @property
    def skew_s(self) -> float | None:
        """The largest clock skew of a host against Postgres, in seconds, positive if ahead.

        None if unknown.
        """
        return find_widest_skew_s(self.heartbeats or ())

    @property
    def serves(self) -> bool:
        """Whether calls can be answered. Only Postgres is needed for that; the rest recovers later."""
        return self.database and self.migrated

    @property
    def whole(self) -> bool:
        """Whether new codes will be sent in time, and old data will be deleted."""
        # Without traffic there is no call to judge by, which is not an error.
        provider = self.infobip in {ProviderHealth.CONNECTED, ProviderHealth.QUIET}
        staffed = self.queues is not None and {*self.queues.values(), self.beat} <= _WORKING
        on_time = abs(self.skew_s or 0) <= MOST_SKEW_S
        return self.serves and self.redis and provider and staffed and on_time


@dataclass(frozen=True, kw_only=True)
class CheckHealth:
    """Checks health."""

    engine: Engine
    circuit: Callable[[], CircuitState]
    """Pings Redis. Raises RedisError."""
    redis_writes: Callable[[], None]
    """Runs the commands that rate limits need. Raises RedisError."""
    provider_ids: Callable[[], ProviderIds | None]

    def __call__(self, *, now: datetime) -> HealthStatus:
        """Check each part. Never raises for a part that is down."""
        database = migrated = False
        provider = ProviderHealth.UNKNOWN
        stopped: frozenset[CapScope] = frozenset()
        signs, failure = None, None
        try:
            with connection(self.engine) as conn:
                conn.execute(text("SELECT 1"))
            database = True
            with connection(self.engine) as conn:
                stopped = frozenset(one.scope for one in stops.list_stops(conn))
                signs = tuple(heartbeats.list_heartbeats(conn))
                provider, failure = _judge_calls(conn, now)
            if self.provider_ids() is None:
                provider = ProviderHealth.NOT_CONFIGURED
            migrated = True
        except (DatabaseUnavailable, ProgrammingError):
            pass  # parts that were not reached stay False
        redis = closed = True
        redis_refuses = False
        try:
            closed = self.circuit() is CircuitState.CLOSED
            self.redis_writes()
        except RedisError as error:
            redis, redis_refuses = False, isinstance(error, ResponseError)
        if not closed and provider is not ProviderHealth.NOT_CONFIGURED:
            provider = ProviderHealth.PAUSED
        return HealthStatus(
            database=database,
            migrated=migrated,
            redis=redis,
            redis_refuses=redis_refuses,
            infobip=provider,
            call_failure=failure,
            heartbeats=signs,
            stopped=stopped,
        )


def _judge_calls(conn: Connection, now: datetime) -> tuple[ProviderHealth, CallFailure | None]:
    this_minute = now.replace(second=0, microsecond=0)
    state, failure = ProviderHealth.QUIET, None
    for window in (_NOW, _LATELY):
        since = this_minute - window
        tally = MetricTally(reports.read_sums(conn, since=since, until=now, metrics=PROVIDER_CALLS))
        failure = find_most_frequent_failure(tally)
        if calls := sum(tally.count(metric) for metric in PROVIDER_CALLS):
            state = ProviderHealth.FAILING if 2 * _count_failed(tally) > calls else ProviderHealth.CONNECTED
            break
    return state, failure


def _count_failed(tally: MetricTally) -> int:
    """Return the number of failed calls. A 404 may be about one code or template alone and does not count."""
    return sum(
        n
        for metric in PROVIDER_CALLS
        for status, n in tally.count_by_label(metric).items()
        if classify_call(metric, status) not in {None, CallFailure.NOT_FOUND}
    )
