"""The labels of a chart's axes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

_ROUNDING = 0.02
"""How far from its place a label may be, as a share of the axis."""

Format = Callable[[float], str]

_TIME_LABELS = (5, 4, 3, 2)
"""How many labels an axis of time may have; the most that are exact and distinct."""

_LONG = timedelta(hours=20)
"""Charts of more than this show dates."""


def format_values(values: Sequence[float], formatted: Format) -> tuple[str, ...]:
    """Return the labels of the grid lines; an inner one that would repeat a neighbour is left out."""
    labels = [formatted(value) for value in values]
    first, *inner, last = labels
    return (first, *(one if labels.count(one) == 1 else "" for one in inner), "" if last == first else last)


def format_times(times: Sequence[datetime], step: timedelta) -> tuple[str, ...]:
    """Return evenly spaced labels of an axis of time: as many as are exact and distinct."""
    if not times:
        return ()
    length = times[-1] + step - times[0]
    for in_minutes in (True, False):
        for count in _TIME_LABELS:
            moments = [times[0] + length * part / (count - 1) for part in range(count)]
            labels = _in_minutes(moments, length) if in_minutes else [f"{one:%H:%M:%S}" for one in moments]
            if len(set(labels)) == count:
                return tuple(labels)
    return (f"{times[0]:%H:%M:%S}",)


def _in_minutes(moments: Sequence[datetime], length: timedelta) -> list[str]:
    """Return times without seconds, with dates in a long chart; nothing if that would be too inexact."""
    rounded = [_to_minute(moment) for moment in moments]
    if any(abs(one - other) > length * _ROUNDING for one, other in zip(moments, rounded, strict=True)):
        return []
    if length <= _LONG:
        return [f"{moment:%H:%M}" for moment in rounded]
    if length >= 3 * _LONG:
        return [f"{moment:%d %b}" for moment in rounded]
    days = [None, *(moment.date() for moment in rounded)]
    return [
        f"{moment:%d %b %H:%M}" if moment.date() != before else f"{moment:%H:%M}"
        for moment, before in zip(rounded, days[:-1], strict=True)
    ]


def _to_minute(moment: datetime) -> datetime:
    return (moment + timedelta(seconds=30)).replace(second=0, microsecond=0)
