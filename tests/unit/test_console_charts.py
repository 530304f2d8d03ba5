"""Chart geometry and its text alternatives."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.console.charts import HEIGHT, WIDTH, Chart, ChartKind, ChartSeries, Value, plot
from otpqueue.console.formatting import ms, number, share

START = datetime(2026, 11, 26, 20, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
VALUES = st.one_of(st.none(), st.integers(0, 10_000), st.floats(0, 1e6, allow_nan=False))


def drawn(*series: tuple[Value, ...], kind: ChartKind = ChartKind.LINES, **more: object) -> Chart:
    """Return a chart of series over minutes."""
    steps = len(series[0])
    return plot(
        id="one",
        title="One",
        unit="codes a minute",
        kind=kind,
        times=[START + MINUTE * step for step in range(steps)],
        step=MINUTE,
        series=[
            ChartSeries(name=f"s{place}", values=values, colour="blue") for place, values in enumerate(series)
        ],
        **{"formatted": number, "nothing": "nothing", **more},  # type: ignore[arg-type]
    )


def points(path: str) -> list[tuple[float, float]]:
    """Return the points of a path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.e+-]+) ([\d.e+-]+)", path)]


@given(
    st.integers(1, 80).flatmap(lambda steps: st.lists(st.tuples(*[VALUES] * steps), min_size=1, max_size=4))
)
def test_everything_is_inside(series: list[tuple[Value, ...]]) -> None:
    """Lines, columns and levels lie within the drawing for all values."""
    for kind in ChartKind:
        chart = drawn(*series, kind=kind)
        for one in chart.drawn:
            for x, y in points(one.path):
                assert 0 <= x <= WIDTH
                assert -0.01 <= y <= HEIGHT
            for bar in one.bars:
                assert 0 <= bar.x <= bar.x + bar.width <= WIDTH + 0.01
                assert -0.01 <= bar.y <= bar.y + bar.height <= HEIGHT + 0.02
        assert chart.levels == (0, HEIGHT / 2, HEIGHT)
        assert len(chart.steps) == len(series[0])
        assert all(len(step.values) == len(series) for step in chart.steps)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=1, max_size=60))
def test_columns_stand_upon_each_other(values: list[tuple[int, int]]) -> None:
    """A column is as high as the sum of its parts. Empty parts are not drawn."""
    lower, upper = zip(*values, strict=True)
    chart = drawn(tuple(lower), tuple(upper), kind=ChartKind.COLUMNS)
    below, above = chart.drawn
    feet = {bar.x: bar.y for bar in below.bars}

    assert len(below.bars) == sum(value > 0 for value in lower)
    for bar in above.bars:
        assert bar.y + bar.height == pytest.approx(feet.get(bar.x, HEIGHT), abs=0.02)


def test_line_breaks_where_nothing_is_known() -> None:
    """A line has a gap where a value is missing. A single value is a dot."""
    chart = drawn((1, 1, None, 2, None, 1, 1))

    assert chart.drawn[0].path == (
        "M42.8571 100L128.571 100M300 0h0M471.429 100L557.143 100".replace("42.8571", "42.86")
        .replace("128.571", "128.57")
        .replace("471.429", "471.43")
        .replace("557.143", "557.14")
    )


def test_no_line_leads_to_the_running_step() -> None:
    """The current step is drawn as a dot and labelled as running."""
    chart = drawn((2, 2, 1), running=True)

    assert chart.drawn[0].path.endswith("M500 100h0")
    assert [step.running for step in chart.steps] == [False, False, True]
    assert chart.steps[-1].said == "20:02 UTC (running): s0 1"


@pytest.mark.parametrize(
    ("highest", "labels"),
    [
        (0, ("2", "1", "0")),
        (2, ("2", "1", "0")),
        (3, ("4", "2", "0")),
        (5, ("6", "3", "0")),
        (7, ("8", "4", "0")),
        (9, ("10", "5", "0")),
        (11, ("20", "10", "0")),
        (999, ("1\u202f000", "500", "0")),
        (1001, ("2\u202f000", "1\u202f000", "0")),
    ],
)
def test_scale_is_round(highest: int, labels: tuple[str, ...]) -> None:
    """The scale ends at a round number with a round half."""
    assert drawn((highest,)).value_labels == labels


def test_threshold_fits_in() -> None:
    """A threshold above all values is still visible."""
    chart = drawn((1, 2, 3), threshold=10)

    assert chart.threshold == 0
    assert chart.value_labels[0] == "10"


@pytest.mark.parametrize(
    ("count", "step", "labels"),
    [
        (1, MINUTE, ("20:00", "20:01")),
        (2, MINUTE, ("20:00", "20:01", "20:02")),
        (60, MINUTE, ("20:00", "20:15", "20:30", "20:45", "21:00")),
        (61, MINUTE, ("20:00", "20:15", "20:31", "20:46", "21:01")),
        (24, 60 * MINUTE, ("26 Nov 20:00", "27 Nov 02:00", "08:00", "14:00", "20:00")),
        (56, 180 * MINUTE, ("26 Nov", "28 Nov", "30 Nov", "02 Dec", "03 Dec")),
    ],
)
def test_labels_of_time(count: int, step: timedelta, labels: tuple[str, ...]) -> None:
    """The precision of time labels depends on the span of the chart."""
    assert labels_of(count, step) == labels


@given(st.integers(1, 200), st.integers(1, 4 * 86_400))
def test_labels_of_time_do_not_repeat(count: int, step_s: int) -> None:
    """No two time labels of a chart are equal."""
    labels = labels_of(count, timedelta(seconds=step_s))

    assert len(set(labels)) == len(labels)


@given(st.floats(0, 1e9, allow_nan=False), st.sampled_from([ms, number, share, lambda one: f"{one:.0f}"]))
def test_labels_of_values_do_not_repeat(highest: float, formatted: Callable[[float], str]) -> None:
    """No two value labels of a chart are equal."""
    chart = drawn((highest,), least_top=0.0001, formatted=formatted)

    labels = [label for label in chart.value_labels if label]
    assert len(set(labels)) == len(labels)


def labels_of(count: int, step: timedelta) -> tuple[str, ...]:
    """Return the labels of time of a chart with that many steps."""
    return plot(
        id="one",
        title="One",
        unit="codes",
        kind=ChartKind.LINES,
        times=[START + step * place for place in range(count)],
        step=step,
        series=[ChartSeries(name="s", values=(1.0,) * count, colour="blue")],
        formatted=number,
        nothing="nothing",
    ).time_labels


def test_words_say_the_same() -> None:
    """The summary, the table and the time labels describe the drawn data."""
    chart = drawn((0, 7, 3), (1, None, 1))

    assert chart.summary == "codes a minute. s0: highest 7, last 3; s1: highest 1, last 1."
    assert [step.values for step in chart.steps] == [("0", "1"), ("7", "\u2013"), ("3", "1")]
    assert chart.steps[1].said == "20:01 UTC: s0 7"
    assert chart.time_labels[0] == "20:00"
    assert chart.time_labels[-1] == "20:03"
    assert chart.nothing is None
    assert drawn((0, None, 0)).nothing == "nothing"
