"""Two of the named outages with short times, in every run of the tests; the command gives the figures."""

from __future__ import annotations

from pathlib import Path

from tests.faults import scenarios


def test_killed_worker_with_fifty_sends_in_flight(tmp_path: Path) -> None:
    """Each of them is recorded as unknown and sent once more; no row is stuck."""
    figures = scenarios.killed(
        tmp_path,
        settings={"OTPQUEUE_PROVIDER_TIMEOUT_S": "3", "OTPQUEUE_SENDER_THREADS": "64"},
        within_s=90,
    )

    assert figures["requests"] == 50


def test_a_thousand_verifies_at_once(tmp_path: Path) -> None:
    """One of them is answered 200."""
    figures = scenarios.once(tmp_path, settings={})

    assert figures["calls"] == 1000
