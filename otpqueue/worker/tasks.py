"""The jobs as Celery tasks. Each calls one operation.

They have no arguments. `**_` lets a worker accept messages of a later version.
"""

from __future__ import annotations

import time
from typing import Any

from celery import Celery
from sqlalchemy.exc import ProgrammingError

from otpqueue import clock, jobs
from otpqueue.domain.audit import AuditActor, AuditSurface, acting_as
from otpqueue.domain.errors import Unavailable
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger
from otpqueue.wiring import Parts

log = get_logger(__name__)

_NOT_MIGRATED = {"42P01", "42703"}
"""SQLSTATEs: no such table, no such column. `otpqueue migrate` has not run yet."""


def register_tasks(app: Celery, parts: Parts) -> None:
    """Register the tasks. Creates the parts now, before threads could create them twice."""
    pump, sweep_once, expire_once, purge_once = parts.pump, parts.sweep, parts.expire, parts.purge
    roll_up_once = parts.roll_up
    evaluate, notify_once = parts.evaluate_alerts, parts.notify_alerts
    webhook_pump = parts.webhook_pump

    @app.task(name=jobs.SEND_CODES.name)  # type: ignore[untyped-decorator]
    def send_codes(**_: Any) -> None:
        parts.waker.clear_flag()
        _run_job(jobs.SEND_CODES, pump.run)

    @app.task(name=jobs.SWEEP.name)  # type: ignore[untyped-decorator]
    def sweep(**_: Any) -> None:
        _run_job(jobs.SWEEP, lambda: sweep_once(now=clock.now()))

    @app.task(name=jobs.EXPIRE.name)  # type: ignore[untyped-decorator]
    def expire(**_: Any) -> None:
        _run_job(jobs.EXPIRE, lambda: expire_once(now=clock.now()))

    @app.task(name=jobs.PURGE.name)  # type: ignore[untyped-decorator]
    def purge(**_: Any) -> None:
        _run_job(jobs.PURGE, lambda: purge_once(now=clock.now()))

    @app.task(name=jobs.ROLL_UP.name)  # type: ignore[untyped-decorator]
    def roll_up(**_: Any) -> None:
        _run_job(jobs.ROLL_UP, roll_up_once)

    @app.task(name=jobs.EVALUATE_ALERTS.name)  # type: ignore[untyped-decorator]
    def evaluate_alerts(**_: Any) -> None:
        _run_job(jobs.EVALUATE_ALERTS, lambda: evaluate(now=clock.now()))

    @app.task(name=jobs.NOTIFY.name)  # type: ignore[untyped-decorator]
    def notify(**_: Any) -> None:
        _run_job(jobs.NOTIFY, lambda: notify_once(now=clock.now()))

    @app.task(name=jobs.SEND_WEBHOOKS.name)  # type: ignore[untyped-decorator]
    def send_webhooks(**_: Any) -> None:
        parts.webhook_waker.clear_flag()
        _run_job(jobs.SEND_WEBHOOKS, webhook_pump.run)

    @app.task(name=jobs.POLL_RECEIPTS.name)  # type: ignore[untyped-decorator]
    def poll_receipts(**_: Any) -> None:
        _run_job(jobs.POLL_RECEIPTS, lambda: parts.receipts.pull(parts.infobip, now=clock.now()))


def _run_job(job: jobs.Job, operation: Any) -> None:
    begun, result = time.monotonic(), "failed"
    try:
        with acting_as(AuditActor(surface=AuditSurface.BEAT, name=job.name)):
            operation()
        result = "done"
    except Unavailable as error:
        result = "put_off"
        # An outage is not a bug. The next job runs within seconds, and no row is lost.
        log.warning("job_put_off", job=job.name, reason=error.code)
    except ProgrammingError as error:
        if getattr(error.orig, "sqlstate", None) not in _NOT_MIGRATED:
            raise
        result = "put_off"
        log.warning("job_put_off", job=job.name, reason="database_not_migrated")
    finally:
        metrics.observe(metrics.JOB_DURATION, time.monotonic() - begun, job.name)
        metrics.count(metrics.JOBS, job.name, result)
