"""How a rule computes its value from the counts of its window and of its baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.stats import ExpiredStage, Metric, MetricTally, compute_share

_DAYS_KNOWN = 3
_BASELINE_TIMES = 3
"""The baseline must have at least this many times the minimum sample."""

REFUSED_BY_CONFIGURATION = ("401", "403", "404")
"""HTTP statuses with which the provider rejects our key, application or template.

A 404 that concerns only one send (its number, or a code to resend) is counted as `404_one`.
"""


@dataclass(frozen=True, kw_only=True)
class RuleValue:
    """The value that a rule computes from the counts of a window."""

    value: float | None
    sample: int
    figures: Mapping[str, float | int | str]
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Counts by cause. They add up to a count in `figures`."""


def compute_success_rate(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the share of codes that were sent, of all that were to be sent."""
    figures = {
        "sent": now.count(Metric.SENT),
        "failed": now.count(Metric.FAILED),
        "too_late": now.count(Metric.EXPIRED, ExpiredStage.SEND_DEADLINE),
    }
    reasons = now.count_by_label(Metric.FAILED) | {ExpiredStage.SEND_DEADLINE.value: figures["too_late"]}
    return RuleValue(value=now.success_share, sample=now.finished_sends, figures=figures, reasons=reasons)


def compute_wrong_share(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the share of wrong codes among judged ones."""
    return RuleValue(
        value=now.wrong_share,
        sample=now.judged,
        figures={
            "wrong": now.count(Metric.CHECKS, CheckVerdict.WRONG),
            "right": now.count(Metric.CHECKS, CheckVerdict.CORRECT),
        },
    )


def count_server_errors(tally: MetricTally) -> int:
    """Return how many calls the provider answered with a server error."""
    return sum(_count_answers(tally, lambda status: status.startswith("5")).values())


def count_configuration_errors(tally: MetricTally) -> int:
    """Return how many sends the provider refused because of our configuration."""
    return tally.count(Metric.PROVIDER_SENDS, *REFUSED_BY_CONFIGURATION)


def _count_answers(tally: MetricTally, wanted: Callable[[str], bool]) -> dict[str, int]:
    found: dict[str, int] = {}
    for metric in (Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS):
        for status, n in tally.count_by_label(metric).items():
            if n and wanted(status):
                found[status] = found.get(status, 0) + n
    return found


def count_calls(tally: MetricTally) -> int:
    """Return how many calls to the provider were made."""
    return tally.count(Metric.PROVIDER_SENDS) + tally.count(Metric.PROVIDER_CHECKS)


def compute_server_errors(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return how many calls the provider answered with a server error, by HTTP status."""
    calls = count_calls(now)
    errors = {
        f"http_{status}": n
        for status, n in sorted(_count_answers(now, lambda one: one.startswith("5")).items())
    }
    value = count_server_errors(now) if calls else None
    return RuleValue(value=value, sample=calls, figures={"calls": calls, **errors})


def compute_configuration_errors(
    now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule
) -> RuleValue:
    """Return how many sends were refused because of our configuration, by HTTP status."""
    sends = now.count(Metric.PROVIDER_SENDS)
    refused = {f"http_{one}": now.count(Metric.PROVIDER_SENDS, one) for one in REFUSED_BY_CONFIGURATION}
    value = count_configuration_errors(now) if sends else None
    return RuleValue(value=value, sample=sends, figures={"sends": sends, **refused})


def compute_delivery_rate(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the share of delivered codes among those with a final delivery report."""
    figures = {"delivered": now.count(Metric.DELIVERED), "undelivered": now.count(Metric.UNDELIVERED)}
    return RuleValue(value=now.delivered_share, sample=now.reported, figures=figures)


def compute_mean_s(tally: MetricTally, metric: Metric) -> float | None:
    """Return the mean of a duration, in seconds."""
    mean = tally.compute_mean_ms(metric)
    return None if mean is None else mean / 1000


def compute_delivery_time(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the mean time from sent to delivered, in seconds."""
    timed = Metric.SENT_TO_DELIVERED
    quantiles = {f"p{round(q * 100)}_s": now.compute_quantile_ms(timed, q) for q in (0.5, 0.95)}
    mean = compute_mean_s(now, timed)
    figures = {} if mean is None else {"mean_s": round(mean, 3)}
    figures |= {name: round(ms / 1000, 1) for name, ms in quantiles.items() if ms is not None}
    return RuleValue(value=mean, sample=now.count(timed), figures=figures)


def count_requested(tally: MetricTally) -> int:
    """Return how many codes were requested, refused ones included."""
    return tally.count(Metric.REQUESTED) + tally.count(Metric.REFUSED)


def compute_spike(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    """Return how many times the usual number of codes is requested."""
    asked = count_requested(now)
    if len(past) < _DAYS_KNOWN:
        return RuleValue(value=None, sample=asked, figures={"asked": asked, "days_known": len(past)})
    usual = median(count_requested(day) for day in past)
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


def count_unused(tally: MetricTally) -> int:
    """Return how many codes were sent and expired."""
    return tally.count(Metric.EXPIRED, ExpiredStage.UNCHECKED, ExpiredStage.CHECKED)


def count_ended_after_sent(tally: MetricTally) -> int:
    """Return how many requests ended after their code was sent."""
    return count_unused(tally) + tally.count(Metric.VERIFIED) + tally.count(Metric.LOCKED)


def compute_expired_share(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the share of codes that expired, of all that were sent and have ended."""
    ended = count_ended_after_sent(now)
    figures = {
        "never_typed": now.count(Metric.EXPIRED, ExpiredStage.UNCHECKED),
        "typed_wrong": now.count(Metric.EXPIRED, ExpiredStage.CHECKED),
        "verified": now.count(Metric.VERIFIED),
        "locked": now.count(Metric.LOCKED),
    }
    return RuleValue(value=compute_share(count_unused(now), ended), sample=ended, figures=figures)


def _has_baseline(past: Sequence[MetricTally], metric: Metric, rule: AlertRule) -> bool:
    return bool(past) and past[0].count(metric) >= _BASELINE_TIMES * rule.min_sample


def compute_verify_time(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    """Return the mean time from sent to verified, as a multiple of the usual one."""
    timed = Metric.SENT_TO_VERIFIED
    sample, mean = now.count(timed), compute_mean_s(now, timed)
    usual = compute_mean_s(past[0], timed) if _has_baseline(past, timed, rule) else None
    figures = {"mean_s": round(mean, 3)} if mean is not None else {}
    if mean is None or not usual:
        return RuleValue(value=None, sample=sample, figures=figures)
    return RuleValue(value=mean / usual, sample=sample, figures={**figures, "usual_s": round(usual, 3)})


def compute_conversion(now: MetricTally, _past: Sequence[MetricTally], _rule: AlertRule) -> RuleValue:
    """Return the share of sent codes that were verified."""
    sent, verified = now.count(Metric.SENT), now.count(Metric.VERIFIED)
    return RuleValue(value=now.verified_share, sample=sent, figures={"sent": sent, "verified": verified})


def compute_unit_cost(tally: MetricTally) -> float | None:
    """Return the cost of a verified request. Without any, return the total cost, the least that one can cost.

    An account pays in one currency. If there were two, both sums would mix them in the same way.
    """
    spent = float(sum(tally.get_totals(Metric.COST).values()))
    return spent / max(tally.count(Metric.VERIFIED), 1) if spent else None


def compute_cost_ratio(now: MetricTally, past: Sequence[MetricTally], rule: AlertRule) -> RuleValue:
    """Return the cost of a verified request, as a multiple of the usual one."""
    priced, each = now.count(Metric.COST), compute_unit_cost(now)
    usual = compute_unit_cost(past[0]) if _has_baseline(past, Metric.COST, rule) else None
    figures: dict[str, float | int | str] = {"priced": priced, "verified": now.count(Metric.VERIFIED)}
    if each is not None:
        figures |= {"each": round(each, 6), "currency": ", ".join(sorted(now.get_totals(Metric.COST)))}
    if each is None or not usual:
        return RuleValue(value=None, sample=priced, figures=figures)
    return RuleValue(value=each / usual, sample=priced, figures={**figures, "usual_each": round(usual, 6)})
