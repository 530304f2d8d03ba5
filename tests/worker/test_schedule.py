"""Beat's schedule at its start."""

from __future__ import annotations

from celery.beat import Scheduler

from otpqueue import broker, jobs
from otpqueue.settings import load
from otpqueue.worker.schedule import build_beat_schedule


def test_a_sweep_is_due_when_beat_starts() -> None:
    """The first sweep does not wait for its interval. All other jobs do: a restart must not repeat them."""
    app = broker.make_celery("memory://", quick=False)
    app.conf.beat_schedule = build_beat_schedule(load({"OTPQUEUE_POLL_RECEIPTS_EVERY_S": "60"}, dotenv=None))

    entries = Scheduler(app=app).schedule

    ours = {name: entry.is_due() for name, entry in entries.items() if name in {job.name for job in jobs.ALL}}
    assert {name for name, due in ours.items() if due.is_due} == {jobs.SWEEP.name}
    assert 0 < min(due.next for due in ours.values()) <= 5
