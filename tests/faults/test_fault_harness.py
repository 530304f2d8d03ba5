"""A short run of the fault harness: real processes are killed, and no promise is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import checks, report
from tests.faults.chaos import KINDS, schedule
from tests.faults.run import Plan, run

PLAN = Plan(seed=3, requests=140, kills=len(KINDS), rate=6.0, long=False)
"""Each kind of fault once."""


@pytest.mark.timeout(300)
def test_no_promise_is_broken(tmp_path: Path) -> None:
    """150 requests while senders, API, beat, Redis and Postgres are killed, paused and started again."""
    history = run(PLAN, tmp_path)

    found = checks.violations(history)
    assert not found, report.complaint(history, found, seed=PLAN.seed)
    # And it was no fair weather. Whether the one kill strikes a sender with something in its hands is chance
    # on a busy machine: tests/worker/test_workers.py sees to that.
    assert "kill-send" in history.faults, report.table(history)
    assert any(attempt.outcome == "unknown" for attempt in history.attempts)
    # A fault is omitted if every node of its role is already down.
    assert len(KINDS.keys() & history.faults.keys()) > len(KINDS) * 2 / 3


def test_seed_alone_decides_the_schedule() -> None:
    """The same seed orders the same faults, another one others; all kinds come before any comes again."""
    first = schedule(7, duration_s=100, count=40)

    assert first == schedule(7, duration_s=100, count=40)
    assert first != schedule(8, duration_s=100, count=40)
    assert len({step.kind for step in first[: len(KINDS)]}) == len(KINDS)
    assert [step.at for step in first] == sorted(step.at for step in first)
    assert "drop-wakes" not in {step.kind for step in schedule(7, duration_s=100, count=40, broker=True)}
