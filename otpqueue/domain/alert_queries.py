"""The rules that evaluate roll-ups: metrics, grouping, baseline, examples and measurements.

The other rules query their own tables, in `store/alerts/`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from otpqueue.domain.alert_values import (
    RuleValue,
    compute_configuration_errors,
    compute_conversion,
    compute_cost_ratio,
    compute_delivery_rate,
    compute_delivery_time,
    compute_expired_share,
    compute_mean_s,
    compute_server_errors,
    compute_spike,
    compute_success_rate,
    compute_unit_cost,
    compute_verify_time,
    compute_wrong_share,
    count_calls,
    count_configuration_errors,
    count_ended_after_sent,
    count_requested,
    count_server_errors,
    count_unused,
)
from otpqueue.domain.alerts import AlertRule, AlertUnit, SubjectMeasure, derive_tag
from otpqueue.domain.stats import Dimension, Metric, MetricTally, compute_share


class Baseline(StrEnum):
    """The baseline that a window is compared with."""

    SAME_HOURS = "same_hours"
    """The same time of day on each of the past days."""
    PAST_DAYS = "past_days"
    """All past days before the window."""


class ExampleQuery(StrEnum):
    """Which requests to show as examples of an alert."""

    UNSENT = "unsent"
    """Ended before a code was sent."""
    WRONG = "wrong"
    """Had a wrong code."""
    SERVER_ERROR = "server_error"
    """Had an attempt that the provider answered with a server error."""
    MISCONFIGURED = "misconfigured"
    """Had an attempt that the provider rejected because of our configuration."""
    UNDELIVERED = "undelivered"
    UNUSED = "unused"
    """A code was sent and not verified."""
    NEWEST = "newest"


ComputeValue = Callable[[MetricTally, Sequence[MetricTally], AlertRule], RuleValue]
"""Computes a rule's value from the counts of its window and of its baseline."""


@dataclass(frozen=True, kw_only=True)
class RuleQuery:
    """How a rule computes its value from the roll-ups."""

    metrics: frozenset[Metric]
    compute: ComputeValue
    chart: Callable[[MetricTally], tuple[float | None, int]]
    """The value and the sample of one time step, for a chart."""
    chart_unit: AlertUnit
    by: Dimension | None = None
    """One alert per value of this dimension. None: one alert in total."""
    baseline: Baseline | None = None
    examples: ExampleQuery = ExampleQuery.NEWEST


_CALLS = frozenset({Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS})
RULE_QUERIES: Mapping[str, RuleQuery] = {
    "success_rate": RuleQuery(
        metrics=frozenset({Metric.SENT, Metric.FAILED, Metric.EXPIRED}),
        compute=compute_success_rate,
        chart=lambda tally: (tally.success_share, tally.finished_sends),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNSENT,
    ),
    "check_failures": RuleQuery(
        metrics=frozenset({Metric.CHECKS}),
        compute=compute_wrong_share,
        chart=lambda tally: (tally.wrong_share, tally.judged),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.WRONG,
    ),
    "client_wrong_codes": RuleQuery(
        metrics=frozenset({Metric.CHECKS}),
        compute=compute_wrong_share,
        chart=lambda tally: (tally.wrong_share, tally.judged),
        chart_unit=AlertUnit.SHARE,
        by=Dimension.CLIENT,
        examples=ExampleQuery.WRONG,
    ),
    "provider_5xx": RuleQuery(
        metrics=_CALLS,
        compute=compute_server_errors,
        chart=lambda tally: (count_server_errors(tally), count_calls(tally)),
        chart_unit=AlertUnit.COUNT,
        examples=ExampleQuery.SERVER_ERROR,
    ),
    "provider_misconfigured": RuleQuery(
        metrics=frozenset({Metric.PROVIDER_SENDS}),
        compute=compute_configuration_errors,
        chart=lambda tally: (count_configuration_errors(tally), tally.count(Metric.PROVIDER_SENDS)),
        chart_unit=AlertUnit.COUNT,
        examples=ExampleQuery.MISCONFIGURED,
    ),
    "delivery_rate": RuleQuery(
        metrics=frozenset({Metric.DELIVERED, Metric.UNDELIVERED}),
        compute=compute_delivery_rate,
        chart=lambda tally: (tally.delivered_share, tally.reported),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNDELIVERED,
    ),
    "delivery_time": RuleQuery(
        metrics=frozenset({Metric.SENT_TO_DELIVERED}),
        compute=compute_delivery_time,
        chart=lambda tally: (
            compute_mean_s(tally, Metric.SENT_TO_DELIVERED),
            tally.count(Metric.SENT_TO_DELIVERED),
        ),
        chart_unit=AlertUnit.SECONDS,
    ),
    "request_spike": RuleQuery(
        metrics=frozenset({Metric.REQUESTED, Metric.REFUSED}),
        compute=compute_spike,
        chart=lambda tally: (count_requested(tally), count_requested(tally)),
        chart_unit=AlertUnit.COUNT,
        baseline=Baseline.SAME_HOURS,
    ),
    "expired_share": RuleQuery(
        metrics=frozenset({Metric.EXPIRED, Metric.VERIFIED, Metric.LOCKED}),
        compute=compute_expired_share,
        chart=lambda tally: (
            compute_share(count_unused(tally), count_ended_after_sent(tally)),
            count_ended_after_sent(tally),
        ),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNUSED,
    ),
    "verify_time": RuleQuery(
        metrics=frozenset({Metric.SENT_TO_VERIFIED}),
        compute=compute_verify_time,
        chart=lambda tally: (
            compute_mean_s(tally, Metric.SENT_TO_VERIFIED),
            tally.count(Metric.SENT_TO_VERIFIED),
        ),
        chart_unit=AlertUnit.SECONDS,
        baseline=Baseline.PAST_DAYS,
    ),
    "country_conversion": RuleQuery(
        metrics=frozenset({Metric.SENT, Metric.VERIFIED}),
        compute=compute_conversion,
        chart=lambda tally: (tally.verified_share, tally.count(Metric.SENT)),
        chart_unit=AlertUnit.SHARE,
        by=Dimension.COUNTRY,
        examples=ExampleQuery.UNUSED,
    ),
    "cost_per_verified": RuleQuery(
        metrics=frozenset({Metric.COST, Metric.VERIFIED}),
        compute=compute_cost_ratio,
        chart=lambda tally: (compute_unit_cost(tally), tally.count(Metric.COST)),
        chart_unit=AlertUnit.COUNT,
        baseline=Baseline.PAST_DAYS,
        examples=ExampleQuery.UNUSED,
    ),
}
"""The rules that evaluate roll-ups, by name."""


def measure_counts(
    rule: AlertRule, watch: RuleQuery, windows: Mapping[str, tuple[MetricTally, Sequence[MetricTally]]]
) -> list[SubjectMeasure]:
    """Return a rule's measurements by subject, from the counts of its window and of its baseline."""
    return [_measure_subject(rule, watch, subject, *counts) for subject, counts in windows.items()]


def _measure_subject(
    rule: AlertRule, watch: RuleQuery, subject: str, now: MetricTally, past: Sequence[MetricTally]
) -> SubjectMeasure:
    found = watch.compute(now, past, rule)
    return SubjectMeasure(
        subject=subject,
        value=found.value,
        sample=found.sample,
        figures=found.figures,
        reasons=select_top_reasons(found.reasons),
    )


@dataclass(frozen=True, kw_only=True)
class NumberCounts:
    """The counts of one number."""

    number_hash: bytes = field(repr=False)
    figures: Mapping[str, float | int | str]
    count: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Counts of refused requests by reason."""


def measure_numbers(counted: Sequence[NumberCounts]) -> list[SubjectMeasure]:
    """Return the measurements of a rule about single numbers."""
    return [
        SubjectMeasure(
            subject=derive_tag(one.number_hash),
            value=one.count,
            sample=one.count,
            figures=one.figures,
            reasons=select_top_reasons(one.reasons),
            number_hash=one.number_hash,
        )
        for one in counted
    ]


OTHER_REASONS = "others"


def select_top_reasons(reasons: Mapping[str, int], *, most: int = 5) -> dict[str, int]:
    """Return the `most` most frequent reasons and the sum of all others. The total does not change."""
    positive = [(reason, n) for reason, n in reasons.items() if n > 0]
    counted = sorted(positive, key=lambda one: (-one[1], one[0]))
    shown = dict(counted[:most])
    if len(counted) > most:
        shown[OTHER_REASONS] = sum(n for _, n in counted[most:])
    return shown
