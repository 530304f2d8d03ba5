"""Beat's schedule."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from otpqueue import jobs
from otpqueue.settings import Settings


def build_beat_schedule(settings: Settings) -> dict[str, dict[str, Any]]:
    """Return Celery's beat schedule.

    Messages expire, so that a worker which was stopped for an hour does not find an hour of messages.
    """
    every = {
        jobs.SWEEP: settings.sweep_every_s,
        jobs.EXPIRE: settings.expire_every_s,
        jobs.EVALUATE_ALERTS: settings.evaluate_alerts_every_s,
        jobs.NOTIFY: settings.notify_every_s,
        jobs.PURGE: settings.purge_every_s,
        jobs.ROLL_UP: settings.roll_up_every_s,
        jobs.SEND_WEBHOOKS: settings.webhooks_every_s,
    }
    if settings.poll_receipts_every_s:
        every[jobs.POLL_RECEIPTS] = settings.poll_receipts_every_s
    entries: dict[str, dict[str, Any]] = {
        job.name: {
            "task": job.name,
            "schedule": seconds,
            "options": {"queue": job.queue, "expires": max(job.expires_s, seconds), "ignore_result": True},
        }
        for job, seconds in every.items()
    }
    # Due when beat starts, to sweep up what was missed and to show that beat can publish.
    entries[jobs.SWEEP.name]["last_run_at"] = datetime.fromtimestamp(0, UTC)
    return entries
