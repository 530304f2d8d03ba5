"""Durations as text: a whole number and a unit, such as `30m`, `24h`, `7d` or `2w`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Final

UNIT_MS: Final[Mapping[str, int]] = {
    "ms": 1,
    "s": 1000,
    "m": 60_000,
    "h": 3_600_000,
    "d": 86_400_000,
    "w": 7 * 86_400_000,
}
"""Milliseconds in each unit, the shortest unit first."""

UNITS: Final = ("s", "m", "h", "d", "w")
LONGEST: Final = timedelta(days=36_500)
"""A hundred years: a moment that far from now is still a valid date."""

_DURATION = re.compile(r"([0-9]{0,15})([a-z]{1,2})", re.ASCII)


class InvalidDuration(ValueError):
    """A text is not a duration. The message names the accepted units and suits every caller."""

    def __init__(self, units: tuple[str, ...]) -> None:
        named = f"{', '.join(units[:-1])} or {units[-1]}"
        super().__init__(
            f"must be a whole number and a unit ({named}), for example 30{units[1]}; at most {LONGEST.days}d"
        )


def parse_duration(text: str, *, units: tuple[str, ...] = UNITS, number_required: bool = True) -> timedelta:
    """Return the duration that `text` says; zero is a duration.

    units            the accepted units, keys of UNIT_MS, the shortest first
    number_required  False: a unit alone means one, as in the `d` of `5/d`

    Raises InvalidDuration.
    """
    found = _DURATION.fullmatch(text)
    if found is None or found[2] not in units or (number_required and not found[1]):
        raise InvalidDuration(units)
    ms = int(found[1] or 1) * UNIT_MS[found[2]]
    if ms > LONGEST / timedelta(milliseconds=1):
        raise InvalidDuration(units)
    return timedelta(milliseconds=ms)
