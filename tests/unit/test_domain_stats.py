"""Figures derived from counts: buckets, quantiles, shares and costs."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.stats import (
    BEYOND,
    BOUNDS_MS,
    Metric,
    MetricSum,
    MetricTally,
    compute_quantile,
    compute_share,
    get_bucket,
)


def tally(*counted: tuple[Metric, str, int] | tuple[Metric, str, int, str]) -> MetricTally:
    """Return a tally of metrics, labels, counts and totals."""
    return MetricTally(
        MetricSum(key=(), metric=metric, label=label, n=n, total=Decimal(total[0]) if total else Decimal(0))
        for metric, label, n, *total in counted
    )


def test_bounds_ascend() -> None:
    """Each bucket begins where the one before ends."""
    assert list(BOUNDS_MS) == sorted(set(BOUNDS_MS))


def test_buckets() -> None:
    """A duration falls into the first bucket with a bound that it does not exceed."""
    assert [get_bucket(ms) for ms in (0, 50, 51, 100, 3_600_000, 3_600_001)] == [
        "50",
        "50",
        "100",
        "100",
        "3600000",
        BEYOND,
    ]


@given(st.lists(st.integers(0, 3_600_000), min_size=1, max_size=200), st.floats(0.01, 1))
def test_quantile_is_in_the_bucket_of_the_truth(durations: list[int], q: float) -> None:
    """Of any durations the quantile is off by less than the width of its bucket."""
    found = compute_quantile(Counter(get_bucket(ms) for ms in durations), q)

    true = next(ms for n, ms in enumerate(sorted(durations), 1) if n >= q * len(durations))
    lower = next((low for low, high in pairwise((0, *BOUNDS_MS)) if true <= high), None)
    assert found is not None
    assert lower is not None
    assert lower <= found <= int(get_bucket(true))


def test_quantile_of_an_even_bucket() -> None:
    """Within a bucket durations are taken to lie evenly."""
    assert compute_quantile({"300": 10}, 0.5) == 250
    assert compute_quantile({"200": 5, "300": 5}, 0.5) == 200
    assert compute_quantile({"200": 5, "300": 5}, 1) == 300


def test_quantile_of_nothing() -> None:
    """No counts have no quantile, and negative corrections do no harm."""
    assert compute_quantile({}, 0.5) is None
    assert compute_quantile({"100": 1, "200": -1}, 0.5) is None
    assert compute_quantile({"100": -1, "200": 3}, 0.5) is not None


def test_quantile_beyond_the_last_bound() -> None:
    """All that can be said of very long durations is that they are no shorter than the last bound."""
    assert compute_quantile({"100": 1, BEYOND: 9}, 0.5) == 3_600_000


def test_share_of_nothing() -> None:
    """A share of nothing is None."""
    assert compute_share(0, 0) is None
    assert compute_share(1, 4) == 0.25


def test_counts_of_several_groups_are_added_up() -> None:
    """Whatever the keys and steps, alike ones are one."""
    one = tally((Metric.FAILED, "a", 1), (Metric.FAILED, "b", 2), (Metric.FAILED, "a", 3))

    assert one.count(Metric.FAILED) == 6
    assert one.count(Metric.FAILED, "a") == 4
    assert one.count(Metric.FAILED, "a", "b", "c") == 6
    assert one.count_by_label(Metric.FAILED) == {"a": 4, "b": 2}
    assert one.count(Metric.SENT) == 0


def test_success_share() -> None:
    """Failed and too late is a failure; cancelled, stopped by the operator, or never typed in is none."""
    one = tally(
        (Metric.SENT, "", 6),
        (Metric.FAILED, "provider_refused", 1),
        (Metric.EXPIRED, "send_deadline", 1),
        (Metric.EXPIRED, "sending_stopped", 7),
        (Metric.EXPIRED, "unchecked", 7),
        (Metric.CANCELLED, "replaced", 7),
    )

    assert (one.finished_sends, one.success_share) == (8, 0.75)


def test_delivered_share() -> None:
    """Of what was reported on, not of what was sent."""
    one = tally((Metric.SENT, "", 10), (Metric.DELIVERED, "", 3), (Metric.UNDELIVERED, "", 1))

    assert (one.reported, one.delivered_share) == (4, 0.75)


def test_verified_share_and_wrong_share() -> None:
    """Only what the provider judged was right or wrong."""
    one = tally(
        (Metric.SENT, "", 10),
        (Metric.VERIFIED, "", 4),
        (Metric.CHECKS, "correct", 4),
        (Metric.CHECKS, "wrong", 1),
        (Metric.CHECKS, "unjudged", 5),
        (Metric.CHECKS, "unknown", 5),
        (Metric.CHECKS, "expired", 5),
        (Metric.CHECKS, "exhausted", 5),
    )

    assert one.verified_share == 0.4
    assert (one.judged, one.wrong_share) == (5, 0.2)


def test_costs() -> None:
    """Each currency for itself."""
    one = tally((Metric.VERIFIED, "", 4), (Metric.COST, "EUR", 10, "0.50"), (Metric.COST, "USD", 1, "0.02"))

    assert one.cost == {"EUR": Decimal("0.50"), "USD": Decimal("0.02")}
    assert one.cost_per_verified == {"EUR": Decimal("0.125"), "USD": Decimal("0.005")}
    assert tally((Metric.COST, "EUR", 10, "0.50")).cost_per_verified == {}


def test_means_and_quantiles() -> None:
    """A mean is of what was measured, not of buckets."""
    one = tally((Metric.ACCEPT_TO_SENT, "200", 3, "450"), (Metric.ACCEPT_TO_SENT, "300", 1, "250"))

    assert one.compute_mean_ms(Metric.ACCEPT_TO_SENT) == 175
    assert one.compute_quantile_ms(Metric.ACCEPT_TO_SENT, 0.99) == pytest.approx(296)
    assert one.compute_mean_ms(Metric.SENT_TO_DELIVERED) is None
    assert one.compute_quantile_ms(Metric.SENT_TO_DELIVERED, 0.5) is None


def test_nothing_counted() -> None:
    """An idle system has no shares."""
    one = tally()

    assert one.success_share is one.delivered_share is one.verified_share is one.wrong_share is None
    assert one.cost == one.cost_per_verified == {}
