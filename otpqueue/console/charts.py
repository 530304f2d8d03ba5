"""Charts as plain values, which a template draws in SVG and repeats in a table.

The drawing is stretched to the available width, so it contains no text: the axis labels are HTML beside it,
evenly spaced. The drawing is WIDTH by HEIGHT units; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate

from otpqueue.console.chart_labels import Format, format_times, format_values
from otpqueue.console.formatting import NONE

WIDTH, HEIGHT = 600.0, 200.0

_STEPS = (1, 2, 4, 6, 8, 10)
"""A scale ends at one of these times a power of ten; half of it is a round number too."""

_GAP = 0.15
"""The free part of a column's width."""

Value = float | None
"""None for no data, which is not 0."""


class ChartKind(StrEnum):
    """The form of a chart."""

    LINES = "lines"
    COLUMNS = "columns"
    """Stacked columns: the series are parts of a total."""


@dataclass(frozen=True, kw_only=True)
class ChartSeries:
    """A series: one value per step, drawn in one colour."""

    name: str
    values: tuple[Value, ...]
    colour: str
    """A class of the style sheet."""
    total: str | None = None
    """Shown in the legend beside the name."""


@dataclass(frozen=True, kw_only=True)
class ChartBar:
    """A rectangle."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True, kw_only=True)
class DrawnSeries:
    """A series as a path or as rectangles."""

    series: ChartSeries
    path: str = ""
    bars: tuple[ChartBar, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChartStep:
    """One step of time: an area for the pointer, and a row of the table."""

    at: datetime
    x: float
    width: float
    values: tuple[str, ...]
    """One for each series, as text."""
    said: str
    running: bool
    """Whether it has not ended: its values still grow."""


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart, ready for the template."""

    id: str
    title: str
    unit: str
    """The unit of the values: `codes per minute`."""
    kind: ChartKind
    drawn: tuple[DrawnSeries, ...]
    steps: tuple[ChartStep, ...]
    value_labels: tuple[str, ...]
    """From the top down, evenly spaced; no two are equal."""
    time_labels: tuple[str, ...]
    """From the left, evenly spaced; no two are equal."""
    levels: tuple[float, ...]
    """The y of the grid lines."""
    threshold: float | None = None
    """The y of the threshold."""
    summary: str = ""
    """One sentence for screen readers."""
    nothing: str | None = None
    """The text in an empty chart."""

    @property
    def series(self) -> tuple[ChartSeries, ...]:
        """The series in the order of the legend."""
        return tuple(one.series for one in self.drawn)


def plot(
    *,
    id: str,  # noqa: A002 - the attribute of HTML
    title: str,
    unit: str,
    kind: ChartKind,
    times: Sequence[datetime],
    step: timedelta,
    series: Sequence[ChartSeries],
    formatted: Format,
    nothing: str,
    threshold: float | None = None,
    least_top: float = 2,
    running: bool = False,
) -> Chart:
    """Return a chart of series over evenly spaced times, each the beginning of a step.

    The scale goes from 0 to a round number of at least `least_top`. With `running` the last step has not
    ended: no line leads to it, because that would look like a decline.
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
        if kind is ChartKind.COLUMNS
        else tuple(
            DrawnSeries(series=one, path=_path(one.values, width, top, running=running)) for one in series
        ),
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
        value_labels=format_values(halves, formatted),
        time_labels=format_times(times, step),
        levels=tuple(_y(value, top) for value in halves),
        threshold=None if threshold is None else _y(threshold, top),
        summary=_summary(series, unit, formatted),
        nothing=nothing if _is_empty(series) else None,
    )


def _is_empty(series: Sequence[ChartSeries]) -> bool:
    return not any(value for one in series for value in one.values)


def _highest(series: Sequence[ChartSeries], kind: ChartKind, threshold: float | None) -> float:
    each_step = zip(*(one.values for one in series), strict=True)
    together = sum if kind is ChartKind.COLUMNS else max
    highest = max((together([value or 0 for value in values]) for values in each_step), default=0)
    return max(highest, threshold or 0)


def _top(highest: float, least: float) -> float:
    highest = max(highest, least)
    power = 10.0 ** math.floor(math.log10(highest))
    return next(step * power for step in _STEPS if step * power >= highest * (1 - 1e-9))


def _y(value: float, top: float) -> float:
    return round(HEIGHT * (1 - min(value, top) / top), 2)


def _path(values: Sequence[Value], width: float, top: float, *, running: bool) -> str:
    """Return a line through each run of adjacent values."""
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


def _columns(series: Sequence[ChartSeries], width: float, top: float) -> tuple[DrawnSeries, ...]:
    columns = zip(*(one.values for one in series), strict=True)
    below = [[0.0, *accumulate(value or 0 for value in column)] for column in columns]
    return tuple(
        DrawnSeries(
            series=one,
            bars=tuple(
                ChartBar(
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
    series: Sequence[ChartSeries],
    formatted: Format,
    *,
    daily: bool,
    running: bool,
) -> ChartStep:
    values = tuple(NONE if (value := one.values[number]) is None else formatted(value) for one in series)
    parts = [f"{one.name} {value}" for one, value in zip(series, values, strict=True) if value != NONE]
    moment = f"{at:%d %b %H:%M}" if daily else f"{at:%H:%M}"
    return ChartStep(
        at=at,
        x=round(number * width, 2),
        width=round(width, 2),
        values=values,
        said=f"{moment} UTC{' (running)' if running else ''}: {', '.join(parts) or 'no data'}",
        running=running,
    )


def _summary(series: Sequence[ChartSeries], unit: str, formatted: Format) -> str:
    if _is_empty(series):
        return f"{unit}: no data in this time."
    parts = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if known:
            last = next(value for value in reversed(one.values) if value is not None)
            parts.append(f"{one.name}: highest {formatted(max(known))}, last {formatted(last)}")
    return f"{unit}. " + "; ".join(parts) + "."
