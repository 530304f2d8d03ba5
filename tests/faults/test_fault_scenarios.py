"""Two of the named outages with short times, in every run of the tests; the command gives the figures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults import scenarios


@pytest.mark.full
def test_killed_worker_with_fifty_sends_in_flight(tmp_path: Path) -> None:
    """Each of them is recorded as unknown and sent once more; no row is stuck."""
    figures = scenarios.killed(
        tmp_path,
        settings={"OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "3", "OTPQUEUE_SENDER_THREADS": "64"},
        within_s=90,
    )

    assert figures["requests"] == 50


@pytest.mark.parametrize(
    ("calls", "apis"), [(200, 2), pytest.param(1000, 4, marks=pytest.mark.full)], ids=["small", "full"]
)
def test_verifies_at_once(tmp_path: Path, calls: int, apis: int) -> None:
    """One of them is answered 200."""
    figures = scenarios.once(tmp_path, calls=calls, apis=apis, settings={})

    assert figures["calls"] == calls
