"""Alert rules and the life cycle of an alert.

A rule is data: a threshold, a window and a minimum sample. An alert opens after some consecutive bad
evaluations and closes after some consecutive good ones, so that a value near its threshold does not notify
repeatedly. `alert_rules` defines the rules.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

ALL = "all"
"""The subject of a rule without a dimension."""

MOST_OPEN = 20
"""The maximum number of open alerts per rule. An attack on a thousand numbers is one attack."""


class AlertState(StrEnum):
    """The state of an alert."""

    OPEN = "open"
    CLOSED = "closed"


class AlertTransition(StrEnum):
    """The transition that a notification reports."""

    OPENED = "opened"
    CLOSED = "closed"


class NotificationChannel(StrEnum):
    """A notification channel."""

    LOG = "log"
    WEBHOOK = "webhook"
    EMAIL = "email"


class ThresholdSide(StrEnum):
    """The side of the threshold on which a value is bad."""

    BELOW = "below"
    ABOVE = "above"
    FROM = "from"
    """At or above the threshold."""
    AWAY = "away"
    """More than that many times the usual value, or less than that fraction of it."""


class AlertUnit(StrEnum):
    """The unit of a value and its threshold."""

    SHARE = "share"
    COUNT = "count"
    SECONDS = "seconds"
    TIMES = "times"
    """A multiple of the usual value."""


class RuleVerdict(StrEnum):
    """The result of comparing one measurement with its rule."""

    GOOD = "good"
    BAD = "bad"
    TOO_FEW = "too_few"
    """Nothing can be concluded yet."""


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """When to alert. Everything except the name and the unit can be configured."""

    name: str
    title: str
    """What is wrong while an alert of the rule is open, in a few words."""
    bad: ThresholdSide
    unit: AlertUnit
    threshold: float
    window_s: int
    """The length of the evaluated window, 0 for the current moment."""
    min_sample: int = 0
    """No alert opens with a smaller sample. An open alert needs no minimum: it closes when traffic ends."""
    opens_after: int = 1
    """Consecutive bad evaluations."""
    closes_after: int = 3
    """Consecutive good evaluations."""
    off: bool = False

    @property
    def window(self) -> timedelta:
        """The length of the evaluated window."""
        return timedelta(seconds=self.window_s)


@dataclass(frozen=True, kw_only=True)
class SubjectMeasure:
    """A measurement of one subject."""

    subject: str
    value: float | None
    """None if there is no data."""
    sample: int
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    """The counts and sums behind the value."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Counts of the bad events by cause, from the same counts as `figures`."""
    series: Mapping[str, Any] | None = None
    """The window step by step, for a chart, from the same snapshot as `figures`."""
    number_hash: bytes | None = field(default=None, repr=False)
    """Set if the subject is a number."""

    @property
    def key(self) -> str:
        """Identifies the subject among those of its rule."""
        return self.subject if self.number_hash is None else self.number_hash.hex()


def is_bad(rule: AlertRule, value: float) -> bool:
    """Return whether a value is on the bad side of the threshold."""
    if rule.bad is ThresholdSide.BELOW:
        return value < rule.threshold
    if rule.bad is ThresholdSide.ABOVE:
        return value > rule.threshold
    if rule.bad is ThresholdSide.FROM:
        return value >= rule.threshold
    return value > rule.threshold or value * rule.threshold < 1


def judge_measure(rule: AlertRule, measure: SubjectMeasure, *, is_open: bool) -> RuleVerdict:
    """Return the result of comparing a measurement with its rule.

    An open alert needs no minimum sample. Otherwise it would close when callers give up and traffic ends.
    """
    if measure.value is None:
        return RuleVerdict.GOOD if is_open else RuleVerdict.TOO_FEW
    if measure.sample < rule.min_sample and not is_open:
        return RuleVerdict.TOO_FEW
    return RuleVerdict.BAD if is_bad(rule, measure.value) else RuleVerdict.GOOD


@dataclass(frozen=True)
class TransitionProgress:
    """The progress of a subject towards its next transition."""

    is_open: bool = False
    count: int = 0
    """Consecutive bad evaluations, or good ones while open."""

    def after(
        self, verdict: RuleVerdict, rule: AlertRule
    ) -> tuple[TransitionProgress, AlertTransition | None]:
        """Return the progress after one more evaluation, and the transition that it caused."""
        if verdict is not (RuleVerdict.GOOD if self.is_open else RuleVerdict.BAD):
            return replace(self, count=0), None
        count = self.count + 1
        if self.is_open and count >= rule.closes_after:
            return TransitionProgress(), AlertTransition.CLOSED
        if not self.is_open and count >= rule.opens_after:
            return TransitionProgress(is_open=True), AlertTransition.OPENED
        return replace(self, count=count), None


def sort_worst_first(rule: AlertRule, measures: Iterable[SubjectMeasure]) -> list[SubjectMeasure]:
    """Return measurements in the order in which they should open alerts."""
    sign = 1 if rule.bad is ThresholdSide.BELOW else -1
    return sorted(measures, key=lambda one: (one.value is None, sign * (one.value or 0), one.subject))


def derive_tag(number_hash: bytes) -> str:
    """Return a stable short name of a number.

    It does not reveal the number and does not look like a code. It changes when the hash key is rotated.
    """
    digest = hashlib.sha256(b"alert tag\0" + number_hash).digest()
    return "#" + "".join(_CONSONANTS[byte % len(_CONSONANTS)] for byte in digest[:6])


_CONSONANTS = "bcdfghjkmnpqrstvwxz"
_TAG = f"#[{_CONSONANTS}]{{6}}"
_NUMBER_SUBJECT = re.compile(rf"(?:\+[0-9*]{{3,}} )?({_TAG})")
_NAMES_NUMBER = re.compile(rf"\*{{2,}}[0-9]{{2}}(?![0-9])|{_TAG}(?![a-z])")


def format_number(tag: str, masked: str | None) -> str:
    """Return how a number is displayed: its tag, after the masked number if that is known."""
    return tag if masked is None else f"{masked} {tag}"


def find_tag(subject: str) -> str | None:
    """Return the tag of a subject that is a number, with or without the masked number, or None."""
    found = _NUMBER_SUBJECT.fullmatch(subject)
    return found[1] if found else None


def contains_number(text: str) -> bool:
    """Return whether a text contains the tag of a number or a masked number."""
    return _NAMES_NUMBER.search(text) is not None


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert."""

    id: UUID
    rule: str
    subject: str | None
    """None for a number that has been erased."""
    state: AlertState
    value: float
    threshold: float
    window_s: int
    sample: int
    opened_at: datetime
    closed_at: datetime | None
    evaluated_at: datetime
    evidence: Mapping[str, Any]
    acknowledged_at: datetime | None
    acknowledged_by: str | None
    silenced_until: datetime | None

    @property
    def opening(self) -> Opening | None:
        """The measurement that opened the alert.

        None for alerts of earlier versions, which did not store it.
        """
        value, sample = self.evidence.get("value"), self.evidence.get("sample")
        if value is None or sample is None:
            return None
        return Opening(value=float(value), sample=int(sample))


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The measurement that opened an alert, with the figures and reasons in its evidence."""

    value: float
    sample: int


ERASED = "(an erased number)"


def format_value(value: float, unit: AlertUnit) -> str:
    """Return a value with its unit, as displayed."""
    if unit is AlertUnit.SHARE:
        # 99.96 % is not 100 %.
        return (
            "> 99.9 %"
            if 0.9995 <= value < 1
            else "< 0.1 %"
            if 0 < value < 0.0005
            else f"{value:.1%}".replace("%", " %")
        )
    if unit is AlertUnit.SECONDS:
        return f"{value:.1f} s" if value < 120 else f"{value / 60:.1f} min"
    if unit is AlertUnit.TIMES:
        return f"{value:.3g} x usual"
    return f"{value:.0f}" if value == int(value) else f"{value:g}"


def format_duration(seconds: float) -> str:
    """Return a duration as displayed: 45 s, 15 min, 2 h, 3 d."""
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


_WORDS = {
    ThresholdSide.BELOW: "under",
    ThresholdSide.ABOVE: "over",
    ThresholdSide.FROM: "from",
    ThresholdSide.AWAY: "off by more than",
}


def format_bound(rule: AlertRule, threshold: float) -> str:
    """Return the bad range as displayed: `under 95.0 %`."""
    return f"{_WORDS[rule.bad]} {format_value(threshold, rule.unit)}"
