"""Periodic jobs of a worker that started before `otpqueue migrate`."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError
from structlog.testing import capture_logs

from otpqueue import clock, jobs
from otpqueue.store.engine import connection
from otpqueue.worker.tasks import _run_job
from tests.conftest import Engines, MakeParts


def test_job_without_tables(engines: Engines, make_parts: MakeParts) -> None:
    """A missing table postpones the job with a warning; any other error of a statement is raised."""
    parts = make_parts(DATABASE_URL=engines.postgres.create_database("test_not_migrated"))

    def select_missing_column() -> None:
        with connection(parts.engine) as conn:
            conn.execute(text("SELECT nothing"))

    def misspell() -> None:
        with connection(parts.engine) as conn:
            conn.execute(text("SELEC 1"))

    try:
        with capture_logs() as records:
            _run_job(jobs.SWEEP, lambda: parts.sweep(now=clock.now()))
            _run_job(jobs.SWEEP, select_missing_column)
        with pytest.raises(ProgrammingError):
            _run_job(jobs.SWEEP, misspell)
    finally:
        parts.close()
        engines.postgres.drop_database("test_not_migrated")

    assert [(one["event"], one["reason"]) for one in records] == [
        ("job_put_off", "database_not_migrated")
    ] * 2
