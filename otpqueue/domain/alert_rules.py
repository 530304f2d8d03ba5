"""The alert rules: their default thresholds, and the operator's overrides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from otpqueue.domain.alerts import AlertRule, AlertUnit, ThresholdSide
from otpqueue.domain.limits import WrongShare
from otpqueue.domain.stats import RECENT_WINDOW

MINUTE, HOUR, DAY = 60, 3600, 86_400
LONGEST_S = 7 * DAY
BASELINE_DAYS = 7
"""How many past days the baseline covers."""

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

OF_NUMBERS = frozenset({"number_requests", "number_wrong_codes"})
"""The rules with numbers as subjects. A subject is the number's tag."""


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
