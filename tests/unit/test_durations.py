"""Durations as text."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.durations import LONGEST, UNIT_MS, UNITS, InvalidDuration, parse_duration


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("0s", timedelta()),
        ("45s", timedelta(seconds=45)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(days=1)),
        ("90d", timedelta(days=90)),
        ("2w", timedelta(days=14)),
        ("007d", timedelta(days=7)),
        ("36500d", LONGEST),
    ],
)
def test_number_and_unit(text: str, duration: timedelta) -> None:
    """A whole number and a unit are a duration."""
    assert parse_duration(text) == duration


@pytest.mark.parametrize(
    "text",
    [
        "",
        "90",
        "d",
        "1.5h",
        "-1d",
        "1y",
        "1 d",
        "1D",
        "1d\n",
        "1h30m",
        "1ms",
        "\u0661d",
        "36501d",
        "9" * 16 + "s",
    ],
)
def test_invalid_duration(text: str) -> None:
    """Any other text is refused with the units and the longest duration."""
    with pytest.raises(InvalidDuration) as refused:
        parse_duration(text)

    assert str(refused.value) == (
        "must be a whole number and a unit (s, m, h, d or w), for example 30m; at most 36500d"
    )


def test_units_of_a_caller() -> None:
    """A caller may accept other units, which its error names."""
    assert parse_duration("1500ms", units=("ms", "s")) == timedelta(seconds=1.5)
    with pytest.raises(InvalidDuration, match=r"a unit \(ms or s\), for example 30s"):
        parse_duration("1m", units=("ms", "s"))


def test_unit_alone() -> None:
    """Where a number is optional, a unit alone means one."""
    assert parse_duration("d", number_required=False) == timedelta(days=1)


@given(st.integers(0, 5000), st.sampled_from(UNITS))
def test_every_number_and_unit(number: int, unit: str) -> None:
    """Every accepted text is the number times the unit, unless it is too long."""
    expected = timedelta(milliseconds=number * UNIT_MS[unit])
    if expected > LONGEST:
        with pytest.raises(InvalidDuration):
            parse_duration(f"{number}{unit}")
    else:
        assert parse_duration(f"{number}{unit}") == expected
