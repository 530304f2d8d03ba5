"""The alert rules: default thresholds, and how each computes its value.

A `RuleQuery` describes a rule that evaluates the roll-ups: its metrics, grouping and baseline. The other
rules query their own tables, in `store/alerts/facts.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median
from typing import Any

from otpqueue.domain.alerts import AlertRule, AlertUnit, SubjectMeasure, ThresholdSide, derive_tag
from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.limits import WrongShare
from otpqueue.domain.stats import RECENT_WINDOW, Dimension, ExpiredStage, Metric, MetricTally, compute_share

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_S = 7 * DAY
BASELINE_DAYS = 7
"""How many past days the baseline covers."""

_DAYS_KNOWN = 3
_BASELINE_TIMES = 3
"""The baseline must have at least this many times the minimum sample."""

REFUSED_BY_CONFIGURATION = ("401", "403", "404")
"""HTTP statuses with which the provider rejects our key, application or template.

A 404 that concerns only one send (its number, or a code to resend) is counted as `404_one`.
"""

_RULES = (
    AlertRule(
        name="success_rate",
        title="codes are not being sent",
        bad=ThresholdSide.BELOW,
        unit=AlertUnit.SHARE,
        threshold=0.95,
        window_s=round(RECENT_WINDOW.total_seconds()),
        min_sample=20,
        opens_after=2,
    ),
    AlertRule(
        name="number_requests",
        title="one number requests too many codes",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.COUNT,
        threshold=10,
        window_s=HOUR,
    ),
    AlertRule(
        name="check_failures",
        title="many codes are wrong",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SHARE,
        threshold=0.3,
        window_s=HOUR,
        min_sample=20,
        opens_after=2,
    ),
    AlertRule(
        name="provider_5xx",
        title="Infobip answers with server errors",
        bad=ThresholdSide.FROM,
        unit=AlertUnit.COUNT,
        threshold=1,
        window_s=5 * MINUTE,
    ),
    AlertRule(
        name="number_wrong_codes",
        title="one number has too many wrong codes",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.COUNT,
        threshold=5,
        window_s=HOUR,
    ),
    AlertRule(
        name="client_wrong_codes",
        title="a client has too many wrong codes",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SHARE,
        threshold=0.5,
        window_s=HOUR,
        min_sample=100,
    ),
    AlertRule(
        name="delivery_rate",
        title="codes are not delivered",
        bad=ThresholdSide.BELOW,
        unit=AlertUnit.SHARE,
        threshold=0.98,
        window_s=HOUR,
        min_sample=50,
        opens_after=3,
    ),
    AlertRule(
        name="delivery_time",
        title="codes are delivered late",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SECONDS,
        threshold=30,
        window_s=30 * MINUTE,
        min_sample=20,
        opens_after=3,
    ),
    AlertRule(
        name="request_spike",
        title="far more codes are requested than usual",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.TIMES,
        threshold=3,
        window_s=HOUR,
        min_sample=100,
        opens_after=2,
        closes_after=5,
    ),
    AlertRule(
        name="expired_share",
        title="codes that were sent are not used",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SHARE,
        threshold=0.5,
        window_s=HOUR,
        min_sample=30,
        opens_after=3,
    ),
    AlertRule(
        name="verify_time",
        title="people take far longer than usual to enter a code, or far less",
        bad=ThresholdSide.AWAY,
        unit=AlertUnit.TIMES,
        threshold=3,
        window_s=HOUR,
        min_sample=30,
        opens_after=3,
    ),
    AlertRule(
        name="country_conversion",
        title="codes to one country are not used: possible traffic pumping",
        bad=ThresholdSide.BELOW,
        unit=AlertUnit.SHARE,
        threshold=0.3,
        window_s=HOUR,
        min_sample=30,
        opens_after=3,
    ),
    AlertRule(
        name="queue_age",
        title="codes wait to be sent",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SECONDS,
        threshold=10,
        window_s=0,
        opens_after=2,
        closes_after=2,
    ),
    AlertRule(
        name="cost_per_verified",
        title="a verified number costs far more than usual",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.TIMES,
        threshold=2,
        window_s=6 * HOUR,
        min_sample=50,
        opens_after=3,
    ),
    AlertRule(
        name="circuit_open",
        title="sending is paused: calls to Infobip fail",
        bad=ThresholdSide.FROM,
        unit=AlertUnit.COUNT,
        threshold=1,
        window_s=0,
        closes_after=2,
    ),
    AlertRule(
        name="provider_misconfigured",
        title="Infobip refuses our API key, application or template",
        bad=ThresholdSide.FROM,
        unit=AlertUnit.COUNT,
        threshold=1,
        window_s=5 * MINUTE,
    ),
    AlertRule(
        name="workers_silent",
        title="a worker or beat is silent",
        bad=ThresholdSide.ABOVE,
        unit=AlertUnit.SECONDS,
        threshold=60,
        window_s=0,
        opens_after=2,
        closes_after=2,
    ),
    AlertRule(
        name="webhook_disabled",
        title="a client's webhook is disabled",
        bad=ThresholdSide.FROM,
        unit=AlertUnit.COUNT,
        threshold=1,
        window_s=0,
        closes_after=1,
    ),
    AlertRule(
        name="seal_key_worn",
        title="the sealing key must be replaced soon",
        bad=ThresholdSide.FROM,
        unit=AlertUnit.SHARE,
        threshold=0.5,
        window_s=0,
        closes_after=1,
    ),
)
RULES: Mapping[str, AlertRule] = {rule.name: rule for rule in _RULES}
"""The default rules by name."""


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


@dataclass(frozen=True, kw_only=True)
class RuleValue:
    """The value that a rule computes from the counts of a window."""

    value: float | None
    sample: int
    figures: Mapping[str, float | int | str]
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Counts by cause. They add up to a count in `figures`."""


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


def _compute_success_rate(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    figures = {
        "sent": now.count(Metric.SENT),
        "failed": now.count(Metric.FAILED),
        "too_late": now.count(Metric.EXPIRED, ExpiredStage.SEND_DEADLINE),
    }
    reasons = now.count_by_label(Metric.FAILED) | {ExpiredStage.SEND_DEADLINE.value: figures["too_late"]}
    return RuleValue(value=now.success_share, sample=now.finished_sends, figures=figures, reasons=reasons)


def _compute_wrong_share(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    return RuleValue(
        value=now.wrong_share,
        sample=now.judged,
        figures={
            "wrong": now.count(Metric.CHECKS, CheckVerdict.WRONG),
            "right": now.count(Metric.CHECKS, CheckVerdict.CORRECT),
        },
    )


def _count_server_errors(tally: MetricTally) -> int:
    return sum(_count_answers(tally, lambda status: status.startswith("5")).values())


def _count_configuration_errors(tally: MetricTally) -> int:
    return tally.count(Metric.PROVIDER_SENDS, *REFUSED_BY_CONFIGURATION)


def _count_answers(tally: MetricTally, wanted: Callable[[str], bool]) -> dict[str, int]:
    found: dict[str, int] = {}
    for metric in (Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS):
        for status, n in tally.count_by_label(metric).items():
            if n and wanted(status):
                found[status] = found.get(status, 0) + n
    return found


def _count_calls(tally: MetricTally) -> int:
    return tally.count(Metric.PROVIDER_SENDS) + tally.count(Metric.PROVIDER_CHECKS)


def _compute_server_errors(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    calls = _count_calls(now)
    errors = {
        f"http_{status}": n
        for status, n in sorted(_count_answers(now, lambda one: one.startswith("5")).items())
    }
    value = _count_server_errors(now) if calls else None
    return RuleValue(value=value, sample=calls, figures={"calls": calls, **errors})


def _compute_configuration_errors(
    now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule
) -> RuleValue:
    sends = now.count(Metric.PROVIDER_SENDS)
    refused = {f"http_{one}": now.count(Metric.PROVIDER_SENDS, one) for one in REFUSED_BY_CONFIGURATION}
    value = _count_configuration_errors(now) if sends else None
    return RuleValue(value=value, sample=sends, figures={"sends": sends, **refused})


def _compute_delivery_rate(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    figures = {"delivered": now.count(Metric.DELIVERED), "undelivered": now.count(Metric.UNDELIVERED)}
    return RuleValue(value=now.delivered_share, sample=now.reported, figures=figures)


def _compute_mean_s(tally: MetricTally, metric: Metric) -> float | None:
    mean = tally.compute_mean_ms(metric)
    return None if mean is None else mean / 1000


def _compute_delivery_time(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    timed = Metric.SENT_TO_DELIVERED
    quantiles = {f"p{round(q * 100)}_s": now.compute_quantile_ms(timed, q) for q in (0.5, 0.95)}
    mean = _compute_mean_s(now, timed)
    figures = {} if mean is None else {"mean_s": round(mean, 3)}
    figures |= {name: round(ms / 1000, 1) for name, ms in quantiles.items() if ms is not None}
    return RuleValue(value=mean, sample=now.count(timed), figures=figures)


def _count_requested(tally: MetricTally) -> int:
    return tally.count(Metric.REQUESTED) + tally.count(Metric.REFUSED)


def _compute_spike(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    asked = _count_requested(now)
    if len(past) < _DAYS_KNOWN:
        return RuleValue(value=None, sample=asked, figures={"asked": asked, "days_known": len(past)})
    usual = median(_count_requested(day) for day in past)
    figures = {
        "asked": asked,
        "refused": now.count(Metric.REFUSED),
        "usual": round(usual, 1),
        "days_known": len(past),
    }
    # A usual count that is too small to alert on is too small to compare with.
    compared_with = max(usual, rule.min_sample / rule.threshold, 1)
    figures["compared_with"] = round(compared_with, 3)
    return RuleValue(
        value=asked / compared_with, sample=asked, figures=figures, reasons=now.count_by_label(Metric.REFUSED)
    )


def _count_unused(tally: MetricTally) -> int:
    return tally.count(Metric.EXPIRED, ExpiredStage.UNCHECKED, ExpiredStage.CHECKED)


def _count_ended_after_sent(tally: MetricTally) -> int:
    return _count_unused(tally) + tally.count(Metric.VERIFIED) + tally.count(Metric.LOCKED)


def _compute_expired_share(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    ended = _count_ended_after_sent(now)
    figures = {
        "never_typed": now.count(Metric.EXPIRED, ExpiredStage.UNCHECKED),
        "typed_wrong": now.count(Metric.EXPIRED, ExpiredStage.CHECKED),
        "verified": now.count(Metric.VERIFIED),
        "locked": now.count(Metric.LOCKED),
    }
    return RuleValue(value=compute_share(_count_unused(now), ended), sample=ended, figures=figures)


def _has_baseline(past: Sequence[MetricTally], metric: Metric, rule: AlertRule) -> bool:
    return bool(past) and past[0].count(metric) >= _BASELINE_TIMES * rule.min_sample


def _compute_verify_time(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    timed = Metric.SENT_TO_VERIFIED
    sample, mean = now.count(timed), _compute_mean_s(now, timed)
    usual = _compute_mean_s(past[0], timed) if _has_baseline(past, timed, rule) else None
    figures = {"mean_s": round(mean, 3)} if mean is not None else {}
    if mean is None or not usual:
        return RuleValue(value=None, sample=sample, figures=figures)
    return RuleValue(value=mean / usual, sample=sample, figures={**figures, "usual_s": round(usual, 3)})


def _compute_conversion(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    sent, verified = now.count(Metric.SENT), now.count(Metric.VERIFIED)
    return RuleValue(value=now.verified_share, sample=sent, figures={"sent": sent, "verified": verified})


def _compute_unit_cost(tally: MetricTally) -> float | None:
    """Return the cost of a verified request. Without any, return the total cost, the least that one can cost.

    An account pays in one currency. If there were two, both sums would mix them in the same way.
    """
    spent = float(sum(tally.get_totals(Metric.COST).values()))
    return spent / max(tally.count(Metric.VERIFIED), 1) if spent else None


def _compute_cost_ratio(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    priced, each = now.count(Metric.COST), _compute_unit_cost(now)
    usual = _compute_unit_cost(past[0]) if _has_baseline(past, Metric.COST, rule) else None
    figures: dict[str, float | int | str] = {"priced": priced, "verified": now.count(Metric.VERIFIED)}
    if each is not None:
        figures |= {"each": round(each, 6), "currency": ", ".join(sorted(now.get_totals(Metric.COST)))}
    if each is None or not usual:
        return RuleValue(value=None, sample=priced, figures=figures)
    return RuleValue(value=each / usual, sample=priced, figures={**figures, "usual_each": round(usual, 6)})


_CALLS = frozenset({Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS})
RULE_QUERIES: Mapping[str, RuleQuery] = {
    "success_rate": RuleQuery(
        metrics=frozenset({Metric.SENT, Metric.FAILED, Metric.EXPIRED}),
        compute=_compute_success_rate,
        chart=lambda tally: (tally.success_share, tally.finished_sends),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNSENT,
    ),
    "check_failures": RuleQuery(
        metrics=frozenset({Metric.CHECKS}),
        compute=_compute_wrong_share,
        chart=lambda tally: (tally.wrong_share, tally.judged),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.WRONG,
    ),
    "client_wrong_codes": RuleQuery(
        metrics=frozenset({Metric.CHECKS}),
        compute=_compute_wrong_share,
        chart=lambda tally: (tally.wrong_share, tally.judged),
        chart_unit=AlertUnit.SHARE,
        by=Dimension.CLIENT,
        examples=ExampleQuery.WRONG,
    ),
    "provider_5xx": RuleQuery(
        metrics=_CALLS,
        compute=_compute_server_errors,
        chart=lambda tally: (_count_server_errors(tally), _count_calls(tally)),
        chart_unit=AlertUnit.COUNT,
        examples=ExampleQuery.SERVER_ERROR,
    ),
    "provider_misconfigured": RuleQuery(
        metrics=frozenset({Metric.PROVIDER_SENDS}),
        compute=_compute_configuration_errors,
        chart=lambda tally: (_count_configuration_errors(tally), tally.count(Metric.PROVIDER_SENDS)),
        chart_unit=AlertUnit.COUNT,
        examples=ExampleQuery.MISCONFIGURED,
    ),
    "delivery_rate": RuleQuery(
        metrics=frozenset({Metric.DELIVERED, Metric.UNDELIVERED}),
        compute=_compute_delivery_rate,
        chart=lambda tally: (tally.delivered_share, tally.reported),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNDELIVERED,
    ),
    "delivery_time": RuleQuery(
        metrics=frozenset({Metric.SENT_TO_DELIVERED}),
        compute=_compute_delivery_time,
        chart=lambda tally: (
            _compute_mean_s(tally, Metric.SENT_TO_DELIVERED),
            tally.count(Metric.SENT_TO_DELIVERED),
        ),
        chart_unit=AlertUnit.SECONDS,
    ),
    "request_spike": RuleQuery(
        metrics=frozenset({Metric.REQUESTED, Metric.REFUSED}),
        compute=_compute_spike,
        chart=lambda tally: (_count_requested(tally), _count_requested(tally)),
        chart_unit=AlertUnit.COUNT,
        baseline=Baseline.SAME_HOURS,
    ),
    "expired_share": RuleQuery(
        metrics=frozenset({Metric.EXPIRED, Metric.VERIFIED, Metric.LOCKED}),
        compute=_compute_expired_share,
        chart=lambda tally: (
            compute_share(_count_unused(tally), _count_ended_after_sent(tally)),
            _count_ended_after_sent(tally),
        ),
        chart_unit=AlertUnit.SHARE,
        examples=ExampleQuery.UNUSED,
    ),
    "verify_time": RuleQuery(
        metrics=frozenset({Metric.SENT_TO_VERIFIED}),
        compute=_compute_verify_time,
        chart=lambda tally: (
            _compute_mean_s(tally, Metric.SENT_TO_VERIFIED),
            tally.count(Metric.SENT_TO_VERIFIED),
        ),
        chart_unit=AlertUnit.SECONDS,
        baseline=Baseline.PAST_DAYS,
    ),
    "country_conversion": RuleQuery(
        metrics=frozenset({Metric.SENT, Metric.VERIFIED}),
        compute=_compute_conversion,
        chart=lambda tally: (tally.verified_share, tally.count(Metric.SENT)),
        chart_unit=AlertUnit.SHARE,
        by=Dimension.COUNTRY,
        examples=ExampleQuery.UNUSED,
    ),
    "cost_per_verified": RuleQuery(
        metrics=frozenset({Metric.COST, Metric.VERIFIED}),
        compute=_compute_cost_ratio,
        chart=lambda tally: (_compute_unit_cost(tally), tally.count(Metric.COST)),
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


OF_NUMBERS = frozenset({"number_requests", "number_wrong_codes"})
"""The rules with numbers as subjects. A subject is the number's tag."""


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


def apply_overrides(
    given: Mapping[str, Mapping[str, Any]], *, wrong_share: WrongShare | None = None
) -> dict[str, AlertRule]:
    """Return all rules by name, with the overrides in `given` applied.

    `wrong_share` sets the thresholds of `client_wrong_codes`; `given` has priority over it. Raises ValueError
    for an unknown rule or an invalid value.
    """
    rules = dict(RULES)
    if wrong_share is not None:
        rules["client_wrong_codes"] = replace(
            rules["client_wrong_codes"],
            threshold=wrong_share.ceiling,
            window_s=_round_up_window(wrong_share.window_s),
            min_sample=wrong_share.min_checks,
        )
    for name, changes in given.items():
        if name not in rules:
            raise ValueError(f"{name!r} is not a rule; the rules are {', '.join(sorted(rules))}")
        rules[name] = _override_rule(rules[name], changes)
    return rules


def _override_rule(rule: AlertRule, changes: Mapping[str, Any]) -> AlertRule:
    window_s = changes.get("window_s", rule.window_s)
    if not rule.window_s and window_s:
        raise ValueError(f"{rule.name} evaluates the current moment and has no window_s")
    if rule.window_s and not (MINUTE <= window_s <= LONGEST_S):
        raise ValueError(f"{rule.name}: window_s must be {MINUTE} to {LONGEST_S}")
    # Minute roll-ups serve windows of up to six hours, hourly roll-ups longer ones.
    step = MINUTE if window_s <= 6 * HOUR else HOUR
    if window_s % step:
        raise ValueError(f"{rule.name}: window_s must be whole {'minutes' if step == MINUTE else 'hours'}")
    threshold = changes.get("threshold", rule.threshold)
    if rule.unit is AlertUnit.SHARE and not 0 <= threshold <= 1:
        raise ValueError(f"{rule.name}: threshold must be a share, 0 to 1")
    if rule.bad is ThresholdSide.AWAY and threshold <= 1:
        raise ValueError(f"{rule.name}: threshold must be over 1")
    if threshold < 0 or (rule.unit is AlertUnit.TIMES and not threshold):
        raise ValueError(f"{rule.name}: threshold must be over 0")
    return replace(rule, **changes)


def _round_up_window(seconds: int) -> int:
    """Return the window rounded up to whole steps of the roll-ups."""
    step = MINUTE if seconds <= 6 * HOUR else HOUR
    return -(-seconds // step) * step
