"""The polling schedule of a pump: soon after a nudge, rarely otherwise."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from otpqueue.operations.nudges import (
    QUIET_POLL_S,
    TAKEN_POLL_S,
    UNNUDGED_POLL_S,
    WAIT_FOR_ROW_S,
    PollSchedule,
)


def poll(polls: PollSchedule, now: float, found: int = 0, **differing: Any) -> float:
    """Poll, and return in how many seconds the next poll is due."""
    what: dict[str, Any] = {"expected": found, "more": False, "next_due_in_s": None, "is_receiving": True}
    polls.note_poll(now, found=found, **(what | differing))
    return polls.at - now


@pytest.fixture
def polls() -> PollSchedule:
    """Return a schedule that has polled at the start of its job and a second later, and has not found any."""
    polls = PollSchedule(now=-2, linger_s=1, horizon_s=10)
    poll(polls, -2)
    poll(polls, -1)
    return polls


def test_first_look_is_at_once() -> None:
    """A job begins with a poll, and polls again soon: callers may be about to commit."""
    polls = PollSchedule(now=5, linger_s=1, horizon_s=10)

    assert polls.at == 5
    assert poll(polls, 5) < 0.01


def test_pauses_after_a_nudge_grow(polls: PollSchedule) -> None:
    """It polls at once, and less and less often, as long as the row may still come."""
    polls.postpone_poll(100)
    polls.note_nudges(1, 1)
    pauses = [polls.at - 1]
    while pauses[-1] < 0.4:
        pauses.append(poll(polls, polls.at))

    assert pauses[:6] == pytest.approx([0.002, 0.002, 0.004, 0.008, 0.016, 0.03])
    assert all(sooner <= later + 1e-9 for sooner, later in pairwise(pauses))
    assert pauses[-1] == pytest.approx(QUIET_POLL_S)
    assert sum(pauses[:-1]) == pytest.approx(WAIT_FOR_ROW_S, abs=0.031)


def test_found_row_is_not_polled_for(polls: PollSchedule) -> None:
    """One nudge, one row: what follows is quiet. Two nudges, one row: it polls on."""
    polls.note_nudges(1, 1)
    assert poll(polls, 1.002, found=1) == pytest.approx(QUIET_POLL_S)

    polls.note_nudges(2, 2)
    assert poll(polls, 2.002, found=1) < 0.01
    assert poll(polls, 2.004, found=1) == pytest.approx(QUIET_POLL_S)


def test_row_without_a_nudge_settles_no_nudge(polls: PollSchedule) -> None:
    """A retry that falls due at the same moment is not the awaited row."""
    polls.note_nudges(1, 1)

    assert poll(polls, 1.002, found=1, expected=0) < 0.01


def test_nudge_without_a_row_is_dropped(polls: PollSchedule) -> None:
    """A caller who was refused costs some polls; a newer nudge is still polled for."""
    polls.note_nudges(1, 1)
    polls.note_nudges(1.2, 1)

    assert poll(polls, 1.1 + WAIT_FOR_ROW_S) < 0.05
    assert poll(polls, 1.3 + WAIT_FOR_ROW_S) == pytest.approx(QUIET_POLL_S)


def test_burst_is_followed_at_once(polls: PollSchedule) -> None:
    """Where several rows are found, or more than there was room for, the next poll waits for nothing."""
    assert poll(polls, 1, found=3) == 0
    assert poll(polls, 1.1, found=1, more=True) == 0


def test_pump_without_nudges_polls_often(polls: PollSchedule) -> None:
    """Where nudges cannot be received the table is polled."""
    assert poll(polls, 1, is_receiving=False) == pytest.approx(UNNUDGED_POLL_S)


@pytest.mark.parametrize(
    ("in_s", "pause_s"), [(0.2, 0.201), (9, QUIET_POLL_S), (100, QUIET_POLL_S), (-3, TAKEN_POLL_S)]
)
def test_due_rows_are_polled_for(polls: PollSchedule, in_s: float, pause_s: float) -> None:
    """A retry is polled for when it is due; what is due and held by others, after a moment."""
    assert poll(polls, 1, next_due_in_s=in_s) == pytest.approx(pause_s)


def test_job_is_over_a_while_after_its_last_row(polls: PollSchedule) -> None:
    """It lingers from its last row on, and while a nudge or a retry is waited for."""
    poll(polls, 3, found=1)
    assert not polls.is_over(9)  # no query since
    poll(polls, 3.5)
    assert not polls.is_over(3.9)
    assert polls.at == pytest.approx(4)
    assert polls.is_over(4)

    polls.note_nudges(4, 1)
    assert not polls.is_over(4)
    poll(polls, 4.5)
    assert polls.is_over(4.5)

    poll(polls, 4.6, next_due_in_s=8)
    assert not polls.is_over(4.6)
    poll(polls, 4.6, next_due_in_s=11)  # past the job's time: the sweep's
    assert polls.is_over(4.6)


def test_job_is_not_over_while_it_may_not_look(polls: PollSchedule) -> None:
    """While the circuit is open it is unknown whether there is work."""
    poll(polls, 2)
    polls.postpone_poll(3)

    assert polls.at == 3
    assert not polls.is_over(10)


def test_job_that_does_not_linger_ends_when_nothing_is_due() -> None:
    """Late commits publish a job of their own."""
    polls = PollSchedule(now=0, linger_s=0, horizon_s=10)
    assert not polls.is_over(0)

    poll(polls, 0)

    assert polls.is_over(0)
