"""Consistency conditions for the numbers of an alert."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from otpqueue.domain.alert_notices import compose_notice
from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import Alert, AlertTransition, format_value

Figures = Mapping[str, Any]
Check = Callable[[float, int, Figures, int], bool]
"""Takes value, sample, figures and the sum of the reasons."""


def _near(one: float, other: float) -> bool:
    # Figures are rounded for people.
    return one == pytest.approx(other, rel=0.02, abs=0.002)


def _http(figures: Figures) -> int:
    return sum(int(n) for name, n in figures.items() if name.startswith("http_"))


def _unused(figures: Figures) -> int:
    return int(figures["never_typed"] + figures["typed_wrong"])


def _wrong(value: float, sample: int, f: Figures, _reasons: int) -> bool:
    return sample == f["wrong"] + f["right"] and _near(value * sample, f["wrong"])


CHECKS: Mapping[str, Check] = {
    "success_rate": lambda value, sample, f, reasons: (
        sample == f["sent"] + f["failed"] + f["too_late"]
        and _near(value * sample, f["sent"])
        and reasons == f["failed"] + f["too_late"]
    ),
    "number_requests": lambda value, sample, f, reasons: (
        value == sample == f["accepted"] + f["refused"] and reasons == f["refused"]
    ),
    "check_failures": _wrong,
    "client_wrong_codes": _wrong,
    "provider_5xx": lambda value, sample, f, _: value == _http(f) <= sample == f["calls"],
    "number_wrong_codes": lambda value, sample, f, _: value == sample == f["wrong"],
    "delivery_rate": lambda value, sample, f, _: (
        sample == f["delivered"] + f["undelivered"] and _near(value * sample, f["delivered"])
    ),
    "delivery_time": lambda value, sample, f, _: sample > 0 and _near(value, f["mean_s"]),
    "request_spike": lambda value, sample, f, reasons: (
        sample == f["asked"] and _near(value * f["compared_with"], sample) and reasons == f["refused"]
    ),
    "expired_share": lambda value, sample, f, _: (
        sample == _unused(f) + f["verified"] + f["locked"] and _near(value * sample, _unused(f))
    ),
    "verify_time": lambda value, sample, f, _: sample > 0 and _near(value * f["usual_s"], f["mean_s"]),
    "country_conversion": lambda value, sample, f, _: (
        sample == f["sent"] and _near(value * sample, f["verified"])
    ),
    "queue_age": lambda value, sample, f, _: sample == f["due"] and (value > 0) <= (sample > 0),
    "cost_per_verified": lambda value, sample, f, _: (
        sample == f["priced"] and _near(value * f["usual_each"], f["each"])
    ),
    "circuit_open": lambda value, _, f, reasons: (
        (value == 1) == (f["circuit"] != "closed") and reasons == f["failed_calls_of_5_min"]
    ),
    "provider_misconfigured": lambda value, sample, f, _: value == _http(f) <= sample == f["sends"],
    "workers_silent": lambda _value, sample, f, _: sample == f["living"] >= f["cut_off"],
    "seal_key_worn": lambda value, sample, f, _: (
        sample == f["seals"] and _near(value * f["most_seals"], f["seals"])
    ),
    "webhook_disabled": lambda value, sample, f, _: value == sample == 1 and bool(f["reason"]),
}
"""One for each rule."""


def agree(rule: str, value: float, sample: int, figures: Figures, reasons: Mapping[str, int]) -> bool:
    """Return whether value, sample, figures and reasons of a rule can all be true at one moment."""
    return CHECKS[rule](value, sample, figures, sum(reasons.values()))


def check(alert: Alert) -> None:
    """Fail unless the numbers of an alert's opening agree with each other and with its chart and notice."""
    evidence = alert.evidence
    value, sample = evidence["value"], evidence["sample"]
    assert agree(alert.rule, value, sample, evidence["figures"], evidence["reasons"]), evidence
    series = evidence.get("series")
    if series:
        assert sum(point["sample"] for point in series["points"]) == sample
    _todo, first, *lines = compose_notice(
        alert, AlertTransition.OPENED, notice_id=alert.id, public_url=None
    ).lines
    assert first.startswith(format_value(value, RULES[alert.rule].unit))
    assert f"sample {sample};" in first
    figures = ", ".join(f"{name} {one}" for name, one in evidence["figures"].items())
    assert f"figures: {figures}" in lines
