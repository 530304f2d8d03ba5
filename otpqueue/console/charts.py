"""Charts as plain values: what a template needs to draw them in SVG, and to say the same in a table.

The drawing is stretched to the width that there is, so nothing in it is text: labels of the axes stand beside
it in HTML, evenly spaced. Units of the drawing are WIDTH by HEIGHT; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate

from otpqueue.console.words import NONE

WIDTH, HEIGHT = 600.0, 200.0

_STEPS = (1, 2, 4, 6, 8, 10)
"""What a scale may end at, times a power of ten: half of it is a round number, too."""

_LABELS_IN_TIME = 5
_GAP = 0.15
"""Of a column's width, left free."""

Value = float | None
"""None where there is nothing to show, which is something else than nought."""

Format = Callable[[float], str]


class Kind(StrEnum):
    """How series are drawn."""

    LINES = "lines"
    COLUMNS = "columns"
    """One upon the other: they are parts of a whole."""


@dataclass(frozen=True, kw_only=True)
class Series:
    """What is drawn in one colour: a value a step."""

    name: str
    values: tuple[Value, ...]
    colour: str
    """A class of the style sheet."""
    total: str | None = None
    """What the legend says beside the name."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """A series as it is drawn: a path, or rectangles."""

    series: Series
    path: str = ""
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of time, whole height: what a pointer finds there, and a row of the table."""

    at: datetime
    x: float
    width: float
    values: tuple[str, ...]
    """One for each series, as text."""
    said: str
    running: bool
    """Whether it is not over: its values still grow."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, ready to be drawn."""

    id: str
    title: str
    unit: str
    """What the values are: `codes per minute`."""
    kind: Kind
    drawn: tuple[Drawn, ...]
    steps: tuple[Step, ...]
    value_labels: tuple[str, ...]
    """From the top down, evenly spaced."""
    time_labels: tuple[str, ...]
    """From the left, evenly spaced."""
    levels: tuple[float, ...]
    """Where lines cross the drawing, y."""
    threshold: float | None = None
    """Where a threshold stands, y."""
    summary: str = ""
    """One sentence for who cannot see it."""
    nothing: str | None = None
    """What to say where there is nothing to draw."""

    @property
    def series(self) -> tuple[Series, ...]:
        """The series, in the order of the legend."""
        return tuple(one.series for one in self.drawn)


def plot(
    *,
    id: str,  # noqa: A002 - the attribute of HTML
    title: str,
    unit: str,
    kind: Kind,
    times: Sequence[datetime],
    step: timedelta,
    series: Sequence[Series],
    formatted: Format,
    nothing: str,
    threshold: float | None = None,
    least_top: float = 2,
    running: bool = False,
) -> Chart:
    """Return a chart of series over evenly spaced times, each of which begins a step.

    The scale begins at nought and ends at a round number, `least_top` or more. With `running` the last step
    is not over: no line leads to it, since it would look like a fall.
    """
    top = _top(_highest(series, kind, threshold), least_top)
    width = WIDTH / max(1, len(times))
    halves = (top, top / 2, 0.0)
    return Chart(
        id=id,
        title=title,
        unit=unit,
        kind=kind,
        drawn=_columns(series, width, top)
        if kind is Kind.COLUMNS
        else tuple(Drawn(series=one, path=_path(one.values, width, top, running=running)) for one in series),
        steps=tuple(
            _step(
                number,
                at,
                width,
                series,
                formatted,
                daily=step >= timedelta(hours=1),
                running=running and number + 1 == len(times),
            )
            for number, at in enumerate(times)
        ),
        value_labels=tuple(formatted(value) for value in halves),
        time_labels=_time_labels(times, step),
        levels=tuple(_y(value, top) for value in halves),
        threshold=None if threshold is None else _y(threshold, top),
        summary=_summary(series, unit, formatted),
        nothing=nothing if _is_empty(series) else None,
    )


def _is_empty(series: Sequence[Series]) -> bool:
    return not any(value for one in series for value in one.values)


def _highest(series: Sequence[Series], kind: Kind, threshold: float | None) -> float:
    each_step = zip(*(one.values for one in series), strict=True)
    together = sum if kind is Kind.COLUMNS else max
    highest = max((together([value or 0 for value in values]) for values in each_step), default=0)
    return max(highest, threshold or 0)


def _top(highest: float, least: float) -> float:
    highest = max(highest, least)
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest * (1 - 1e-9))


def _y(value: float, top: float) -> float:
    return round(HEIGHT * (1 - min(value, top) / top), 2)


def _path(values: Sequence[Value], width: float, top: float, *, running: bool) -> str:
    """Return a line through all values that stand beside one another."""
    last = len(values) - 1
    pieces: list[list[str]] = [[]]
    for number, value in enumerate(values):
        if value is None or (running and number == last):
            pieces.append([])
        if value is not None:
            pieces[-1].append(f"{round((number + 0.5) * width, 2):g} {_y(value, top):g}")
    # A line of no length with round ends is a dot.
    return "".join(
        f"M{'L'.join(points)}" if len(points) > 1 else f"M{points[0]}h0" for points in pieces if points
    )


def _columns(series: Sequence[Series], width: float, top: float) -> tuple[Drawn, ...]:
    columns = zip(*(one.values for one in series), strict=True)
    below = [[0.0, *accumulate(value or 0 for value in column)] for column in columns]
    return tuple(
        Drawn(
            series=one,
            bars=tuple(
                Bar(
                    x=round((number + _GAP / 2) * width, 2),
                    y=_y(below[number][place] + value, top),
                    width=round(width * (1 - _GAP), 2),
                    height=round(_y(below[number][place], top) - _y(below[number][place] + value, top), 2),
                )
                for number, value in enumerate(one.values)
                if value
            ),
        )
        for place, one in enumerate(series)
    )


def _step(
    number: int,
    at: datetime,
    width: float,
    series: Sequence[Series],
    formatted: Format,
    *,
    daily: bool,
    running: bool,
) -> Step:
    values = tuple(NONE if (value := one.values[number]) is None else formatted(value) for one in series)
    told = [f"{one.name} {value}" for one, value in zip(series, values, strict=True) if value != NONE]
    moment = f"{at:%d %b %H:%M}" if daily else f"{at:%H:%M}"
    return Step(
        at=at,
        x=round(number * width, 2),
        width=round(width, 2),
        values=values,
        said=f"{moment} UTC{' (not over)' if running else ''}: {', '.join(told) or 'nothing'}",
        running=running,
    )


def _time_labels(times: Sequence[datetime], step: timedelta) -> tuple[str, ...]:
    if not times:
        return ()
    whole = times[-1] + step - times[0]
    moments = [times[0] + whole * part / (_LABELS_IN_TIME - 1) for part in range(_LABELS_IN_TIME)]
    return tuple(f"{moment:%H:%M}" for moment in moments)


def _summary(series: Sequence[Series], unit: str, formatted: Format) -> str:
    if _is_empty(series):
        return f"{unit}: nothing in this time."
    told = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            last = next(value for value in reversed(one.values) if value is not None)
            told.append(f"{one.name}: highest {formatted(max(known))}, last {formatted(last)}")
    return f"{unit}. " + "; ".join(told) + "."
