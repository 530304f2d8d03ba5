"""Settings, connections to Postgres, Redis and the broker, encryption keys and tracing."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import ArgumentError

from otpqueue import clock, jobs, policies
from otpqueue.broker import check_broker, connect_redis, make_celery
from otpqueue.limiter import Limiter
from otpqueue.settings import Settings, SettingsError
from otpqueue.store.engine import make_engine
from otpqueue.store.sessions import TimeLimits
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics, traces
from otpqueue.telemetry.traces import Tracer

HEALTH_LIMITS = TimeLimits(wait_s=1, statement_s=1, lock_s=1)
CONSOLE_LIMITS = TimeLimits(wait_s=1, statement_s=3, lock_s=1)
CONSOLE_POOL = 3


def name_process() -> str:
    """Return the name of this process among all: `host:pid`."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True)
class Connections:
    """What the parts of every subject share."""

    settings: Settings
    process: str = "otpqueue"
    """The service name of traces, unless OTEL_SERVICE_NAME is set."""
    for_console: bool = False
    """Whether these parts serve the console, with few connections of their own and short timeouts."""
    _closers: list[Callable[[], object]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Raise SettingsError for invalid settings."""
        policies.check(self.settings, today=clock.now().date())

    @cached_property
    def tracer(self) -> Tracer:
        """Starts spans."""
        if not self.settings.traces:
            return traces.OFF
        try:
            from otpqueue.telemetry.otel import OpenTelemetry  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            problem = "OTPQUEUE_TRACES needs OpenTelemetry: pip install 'otpqueue[otel]'"
            raise SettingsError([problem]) from None
        try:
            tracer = OpenTelemetry(process=self.process)
        except ValueError as problem:
            raise SettingsError([f"OTPQUEUE_TRACES cannot be used: {problem}"]) from None
        self.close_later(tracer.close)
        return tracer

    @cached_property
    def engine(self) -> Engine:
        """The pool of Postgres connections."""
        settings = self.settings
        if self.for_console:
            return self.make_engine(CONSOLE_POOL, CONSOLE_LIMITS)
        limits = TimeLimits(
            wait_s=settings.database_wait_s,
            statement_s=settings.database_statement_timeout_s,
            lock_s=settings.database_lock_timeout_s,
            idle_in_transaction_s=settings.database_idle_in_transaction_s,
        )
        metrics.set_gauge(metrics.CONNECTIONS_MOST, settings.database_pool)
        return self.make_engine(settings.database_pool, limits)

    @cached_property
    def health_engine(self) -> Engine:
        """One connection for health checks and heartbeats.

        They must work when all other connections are in use.
        """
        if self.for_console:
            return self.engine
        return self.make_engine(1, HEALTH_LIMITS)

    def make_engine(self, pool_size: int, limits: TimeLimits) -> Engine:
        """Return a new pool of Postgres connections, which `close` closes."""
        url, pgbouncer = self.settings.require("database_url"), self.settings.database_pgbouncer
        try:
            engine = make_engine(url, pool_size=pool_size, limits=limits, pgbouncer=pgbouncer)
        except (ArgumentError, ValueError):
            problem = "DATABASE_URL is not valid. Check its port and the options after its `?`."
            raise SettingsError([problem]) from None
        self.close_later(engine.dispose)
        return engine

    def close(self) -> None:
        """Close what was opened, the newest first. A part that is used again reopens its connections.

        A part that fails to close does not keep the others open; its error is raised afterwards.
        """
        with ExitStack() as stack:
            for closer in self._closers:
                stack.callback(closer)

    def close_later(self, closer: Callable[[], object]) -> None:
        """Have `close` call this, too."""
        self._closers.append(closer)

    @cached_property
    def vault(self) -> Vault:
        """Seals and hashes values."""
        hashing_key, *others = self.settings.hashing_keys()
        try:
            return Vault(
                sealing_keys=self.settings.sealing_keys(), hashing_key=hashing_key, other_hashing_keys=others
            )
        except ValueError as problem:
            raise SettingsError([f"OTPQUEUE_HASH_KEY: {problem}"]) from None

    @cached_property
    def redis(self) -> Redis:
        """The Redis client."""
        try:
            redis = connect_redis(self.settings.require("redis_url"))
        except ValueError as problem:
            raise SettingsError([f"REDIS_URL {problem}"]) from None
        self.close_later(redis.close)
        return redis

    @cached_property
    def publisher(self) -> Celery:
        """The Celery application for publishers, which fails quickly."""
        broker = self.settings.broker
        try:
            check_broker(broker)
        except ValueError as problem:
            name = "OTPQUEUE_BROKER_URL" if self.settings.broker_url else "REDIS_URL"
            raise SettingsError([f"{name} {problem}"]) from None
        publisher = make_celery(broker, quick=True)
        self.close_later(publisher.close)
        return publisher

    @cached_property
    def waker(self) -> jobs.Waker:
        """Wakes a worker that sends codes."""
        return self._make_waker(jobs.SEND_CODES)

    @cached_property
    def webhook_waker(self) -> jobs.Waker:
        """Wakes a worker that sends webhooks."""
        return self._make_waker(jobs.SEND_WEBHOOKS)

    def _make_waker(self, job: jobs.Job) -> jobs.Waker:
        waker = jobs.Waker(redis=self.redis, celery=self.publisher, job=job)
        self.close_later(waker.close)
        return waker

    @cached_property
    def limiter(self) -> Limiter:
        """Counts calls in Redis."""
        return Limiter(self.redis, wake_lua=jobs.WAKE_LUA)

    def ping_redis(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(self.redis.ping())
        except RedisError:
            return False
