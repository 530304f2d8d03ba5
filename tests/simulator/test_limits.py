import pytest

from otpqueue.simulator.durations import AttemptLimit
from otpqueue.simulator.limits import HitWindows


def test_sliding_window():
    """A sliding window has room again when its oldest hit is as old as the window is long."""
    windows, limit = HitWindows("sliding"), AttemptLimit(2, 10)
    windows.hit("a", 100)
    windows.hit("a", 104)
    assert windows.wait("a", limit, 105) == 5
    assert windows.wait("b", limit, 105) == 0
    assert windows.wait("a", limit, 110) == 0


def test_fixed_window():
    """A fixed window has room again at the next whole multiple of its length."""
    windows, limit = HitWindows("fixed"), AttemptLimit(1, 10)
    windows.hit("a", 108)
    assert windows.wait("a", limit, 109) == 1
    assert windows.wait("a", limit, 110) == 0


@pytest.mark.parametrize("kind", ["sliding", "fixed"])
def test_limit_of_none_never_has_room(kind):
    """Zero attempts means always waiting."""
    assert HitWindows(kind).wait("a", AttemptLimit(0, 10), 105) > 0
