"""The parts of a process: what was opened is closed."""

from __future__ import annotations

import pytest

from otpqueue.settings import load
from otpqueue.wiring import Parts


@pytest.fixture
def parts() -> Parts:
    """Return parts that connect to nothing."""
    return Parts(load({}, dotenv=None))


def test_newest_part_is_closed_first(parts: Parts) -> None:
    """A part may use an older one until it is closed; a part that was used again is closed again."""
    closed: list[str] = []
    parts.close_later(lambda: closed.append("engine"))
    parts.close_later(lambda: closed.append("waker"))

    parts.close()
    parts.close()

    assert closed == ["waker", "engine", "waker", "engine"]


def test_part_that_fails_to_close_leaves_no_other_open(parts: Parts) -> None:
    """All parts are closed, and the error is raised."""
    closed: list[str] = []
    parts.close_later(lambda: closed.append("engine"))
    parts.close_later(lambda: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        parts.close()

    assert closed == ["engine"]


def test_unused_parts_are_not_made_to_be_closed(parts: Parts) -> None:
    """Closing makes no part: here each would raise SettingsError."""
    parts.close()
