"""Health, heartbeats, gauges and statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cached_property, partial
from importlib.metadata import version

from sqlalchemy import Engine

from otpqueue import clock
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.operations.health import CheckHealth
from otpqueue.operations.heartbeat import HeartbeatReporter
from otpqueue.operations.privacy.count_seals import count_seals
from otpqueue.operations.stats.gauges import KEPT_S, WAIT_S, CachedReading, ReadGauges, of_database
from otpqueue.operations.stats.report import ReadStatistics
from otpqueue.operations.stats.roll_up import RollUp
from otpqueue.telemetry import metrics
from otpqueue.wiring.admission import AdmissionParts
from otpqueue.wiring.connections import HEALTH_LIMITS, name_process
from otpqueue.wiring.provider import ProviderParts


class MonitoringParts(ProviderParts, AdmissionParts):
    """What watches this process and all others."""

    @cached_property
    def health(self) -> CheckHealth:
        """Checks health."""
        engine = self.health_engine
        ids = replace(self.provision, engine=engine).ids
        return CheckHealth(
            engine=engine,
            circuit=self.circuit.get_shared_state,
            redis_writes=self.limiter.check_redis,
            provider_ids=ids,
        )

    def make_heartbeat_reporter(
        self, kind: ProcessKind, *, in_touch_for_s: float | None = None
    ) -> HeartbeatReporter:
        """Return a reporter of this process's heartbeats."""
        return HeartbeatReporter(
            engine=self.health_engine,
            kind=kind,
            name=name_process(),
            version=version("otpqueue"),
            clock=clock.now,
            in_touch_for_s=in_touch_for_s,
            count_seals=partial(count_seals, self.health_engine, self.vault),
        )

    @cached_property
    def gauges(self) -> ReadGauges:
        """Queries the gauges of a scrape on a separate connection, so that health checks need not wait."""
        reading: CachedReading[Sequence[metrics.Reading]] = CachedReading(
            lambda: of_database(self.gauges_engine, now=clock.now()), kept_s=KEPT_S, wait_s=WAIT_S
        )
        return ReadGauges(from_database=reading, circuit=self.circuit.get_shared_state)

    @cached_property
    def gauges_engine(self) -> Engine:
        """The connection for those gauges."""
        return self.make_engine(1, HEALTH_LIMITS)

    @cached_property
    def stats(self) -> ReadStatistics:
        """Reads statistics."""
        return ReadStatistics(engine=self.engine, kept=timedelta(days=self.settings.retention_days))

    @cached_property
    def roll_up(self) -> RollUp:
        """Rolls up events into statistics."""
        return RollUp(engine=self.engine)
