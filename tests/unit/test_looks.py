"""The polling schedule of a pump: soon after a nudge, rarely otherwise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from otpqueue.operations.nudges import DEAF_LOOK_S, QUIET_LOOK_S, TAKEN_LOOK_S, WAIT_FOR_ROW_S, LookSchedule


def look(looks: LookSchedule, now: float, found: int = 0, **differing: Any) -> float:
    """Look, and return in how many seconds the next look is due."""
    what: dict[str, Any] = {"expected": found, "more": False, "next_due_in_s": None, "is_heard": True}
    looks.note_look(now, found=found, **(what | differing))
    return looks.at - now


@pytest.fixture
def looks() -> LookSchedule:
    """Return a schedule that has looked at the start of its job and a second later, and has not found any."""
    looks = LookSchedule(now=-2, linger_s=1, horizon_s=10)
    look(looks, -2)
    look(looks, -1)
    return looks


def test_first_look_is_at_once() -> None:
    """A job begins with a look, and looks again soon: callers may be about to commit."""
    looks = LookSchedule(now=5, linger_s=1, horizon_s=10)

    assert looks.at == 5
    assert look(looks, 5) < 0.01


def test_pauses_after_a_nudge_grow(looks: LookSchedule) -> None:
    """It looks at once, and less and less often, as long as the row may still come."""
    looks.postpone_look(100)
    looks.note_nudges(1, 1)
    pauses = [looks.at - 1]
    while pauses[-1] < 0.4:
        pauses.append(look(looks, looks.at))

    assert pauses[:6] == pytest.approx([0.002, 0.002, 0.004, 0.008, 0.016, 0.03])
    assert all(sooner <= later + 1e-9 for sooner, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(QUIET_LOOK_S)
    assert sum(pauses[:-1]) == pytest.approx(WAIT_FOR_ROW_S, abs=0.031)


def test_row_that_was_found_is_not_looked_for(looks: LookSchedule) -> None:
    """One nudge, one row: what follows is quiet. Two nudges, one row: it looks on."""
    looks.note_nudges(1, 1)
    assert look(looks, 1.002, found=1) == pytest.approx(QUIET_LOOK_S)

    looks.note_nudges(2, 2)
    assert look(looks, 2.002, found=1) < 0.01
    assert look(looks, 2.004, found=1) == pytest.approx(QUIET_LOOK_S)


def test_row_without_a_nudge_settles_no_nudge(looks: LookSchedule) -> None:
    """A retry that falls due at the same moment is not the awaited row."""
    looks.note_nudges(1, 1)

    assert look(looks, 1.002, found=1, expected=0) < 0.01


def test_nudge_that_came_to_nothing_is_forgotten(looks: LookSchedule) -> None:
    """A caller who was refused costs some looks; a newer nudge is still looked for."""
    looks.note_nudges(1, 1)
    looks.note_nudges(1.2, 1)

    assert look(looks, 1.1 + WAIT_FOR_ROW_S) < 0.05
    assert look(looks, 1.3 + WAIT_FOR_ROW_S) == pytest.approx(QUIET_LOOK_S)


def test_crowd_is_followed(looks: LookSchedule) -> None:
    """Where several rows are found, or more than there was room for, the next look waits for nothing."""
    assert look(looks, 1, found=3) == 0
    assert look(looks, 1.1, found=1, more=True) == 0


def test_deaf_pump_looks_often(looks: LookSchedule) -> None:
    """Where nudges cannot be heard the table is polled."""
    assert look(looks, 1, is_heard=False) == pytest.approx(DEAF_LOOK_S)


@pytest.mark.parametrize(
    ("in_s", "pause_s"), [(0.2, 0.201), (9, QUIET_LOOK_S), (100, QUIET_LOOK_S), (-3, TAKEN_LOOK_S)]
)
def test_what_falls_due_is_looked_at(looks: LookSchedule, in_s: float, pause_s: float) -> None:
    """A retry is looked for when it is due; what is due and held by others, after a moment."""
    assert look(looks, 1, next_due_in_s=in_s) == pytest.approx(pause_s)


def test_job_is_over_a_while_after_its_last_row(looks: LookSchedule) -> None:
    """It lingers from its last row on, and while a nudge or a retry is waited for."""
    look(looks, 3, found=1)
    assert not looks.is_over(9)  # no query since
    look(looks, 3.5)
    assert not looks.is_over(3.9)
    assert looks.at == pytest.approx(4)
    assert looks.is_over(4)

    looks.note_nudges(4, 1)
    assert not looks.is_over(4)
    look(looks, 4.5)
    assert looks.is_over(4.5)

    look(looks, 4.6, next_due_in_s=8)
    assert not looks.is_over(4.6)
    look(looks, 4.6, next_due_in_s=11)  # past the job's time: the sweep's
    assert looks.is_over(4.6)


def test_job_is_not_over_while_it_may_not_look(looks: LookSchedule) -> None:
    """While the circuit is open it is unknown whether there is work."""
    look(looks, 2)
    looks.postpone_look(3)

    assert looks.at == 3
    assert not looks.is_over(10)


def test_job_that_does_not_linger_ends_when_nothing_is_due() -> None:
    """Late commits publish a job of their own."""
    looks = LookSchedule(now=0, linger_s=0, horizon_s=10)
    assert not looks.is_over(0)

    look(looks, 0)

    assert looks.is_over(0)
