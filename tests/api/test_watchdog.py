"""The watchdog of an API process: it shows life and watches, whatever it meets."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import structlog

from otpqueue import clock
from otpqueue.api.watchdog import Watchdog
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.wiring import Parts
from tests.api.conftest import Caller, MakeOtherParts
from tests.operations.looking import heartbeats, until


def watchdog(parts: Parts, watch: Callable[[datetime], object]) -> Watchdog:
    """Return the watchdog of a process."""
    return Watchdog(heart=parts.make_heartbeat_reporter(ProcessKind.API), watch=watch, clock=clock.now)


def test_it_beats_and_watches(lonely: Caller) -> None:
    """A round shows life, then looks after the workers."""
    looked_at: list[datetime] = []
    dog = watchdog(lonely.parts, looked_at.append)

    dog.run_once()
    dog.run_once()

    assert [one.kind for one in heartbeats(lonely.parts)] == [ProcessKind.API]
    assert len(looked_at) == 2
    assert looked_at[0] <= looked_at[1] <= clock.now()


def test_what_fails_does_not_end_it(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without Postgres, or when the look after the workers fails, the next round comes all the same."""
    looks = 0

    def fail(_: datetime) -> None:
        nonlocal looks
        looks += 1
        raise RuntimeError("secret")

    dog = watchdog(make_other_parts(DATABASE_URL=f"postgresql://x@{nowhere}/x"), fail)

    with structlog.testing.capture_logs() as logged:
        dog.run_once()
        dog.run_once()

    assert looks == 2
    assert [record["event"] for record in logged] == [
        "heartbeat_failed",
        "watchdog_failed",
        "watchdog_failed",
    ]
    assert logged[-1]["error"] == "RuntimeError"
    assert "secret" not in str(logged)


def test_it_takes_its_sign_away(lonely: Caller) -> None:
    """It shows life as soon as it starts, and stops at once."""
    dog = watchdog(lonely.parts, lambda _: None)

    dog.start()
    until(lambda: heartbeats(lonely.parts))
    dog.stop()

    assert heartbeats(lonely.parts) == []
