"""Alerts: what a rule says of one measure, and when an alert opens and closes.

A rule is data: what is too much or too little, over which time, and from how many on anything is concluded.
An alert opens after so many bad evaluations in a row and closes after so many good ones, so that a figure
that hovers about its threshold does not wake anybody twice. What the rules are stands in `alert_rules`.
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
"""The subject of a rule that looks at everything at once."""

MOST_OPEN = 20
"""Alerts of one rule that are open at a time: an attack on a thousand numbers is one attack."""


class AlertState(StrEnum):
    """How an alert stands."""

    OPEN = "open"
    CLOSED = "closed"


class AlertTransition(StrEnum):
    """What a notice tells of."""

    OPENED = "opened"
    CLOSED = "closed"


class NotificationChannel(StrEnum):
    """How a notice travels."""

    LOG = "log"
    WEBHOOK = "webhook"
    EMAIL = "email"


class ThresholdSide(StrEnum):
    """On which side of its threshold a value is bad."""

    BELOW = "below"
    ABOVE = "above"
    FROM = "from"
    """At the threshold, or above it."""
    AWAY = "away"
    """More than that many times as much as usual, or as little."""


class AlertUnit(StrEnum):
    """What a value and its threshold are counted in."""

    SHARE = "share"
    COUNT = "count"
    SECONDS = "seconds"
    TIMES = "times"
    """So many times as much as usual."""


class RuleVerdict(StrEnum):
    """What a rule says of one measure."""

    GOOD = "good"
    BAD = "bad"
    TOO_FEW = "too_few"
    """Nothing can be concluded yet."""


@dataclass(frozen=True, kw_only=True)
class AlertRule:
    """When to alert. Everything in it but its name and the kind of its value can be set."""

    name: str
    title: str
    """What is the matter when it is open, in a few words."""
    bad: ThresholdSide
    unit: AlertUnit
    threshold: float
    window_s: int
    """How far back it looks."""
    min_sample: int = 0
    """With fewer in the window no alert opens. One that is open needs none: it closes when all is quiet."""
    opens_after: int = 1
    """Bad evaluations in a row."""
    closes_after: int = 3
    """Good evaluations in a row."""
    off: bool = False

    @property
    def window(self) -> timedelta:
        """How far back it looks."""
        return timedelta(seconds=self.window_s)


@dataclass(frozen=True, kw_only=True)
class SubjectMeasure:
    """What was found of one subject."""

    subject: str
    value: float | None
    """None where there is nothing to judge by."""
    sample: int
    figures: Mapping[str, float | int | str] = field(default_factory=dict)
    """The counts and sums that the value was made of."""
    reasons: Mapping[str, int] = field(default_factory=dict)
    """How many of what is bad had which cause, from the same counts as `figures`."""
    series: Mapping[str, Any] | None = None
    """The window step by step, for a chart; of the same snapshot as `figures`."""
    number_hash: bytes | None = field(default=None, repr=False)
    """Set where the subject is a number."""

    @property
    def key(self) -> str:
        """What tells this subject from others of its rule."""
        return self.subject if self.number_hash is None else self.number_hash.hex()


def breaks(rule: AlertRule, value: float) -> bool:
    """Return whether a value is on the bad side of the threshold."""
    if rule.bad is ThresholdSide.BELOW:
        return value < rule.threshold
    if rule.bad is ThresholdSide.ABOVE:
        return value > rule.threshold
    if rule.bad is ThresholdSide.FROM:
        return value >= rule.threshold
    return value > rule.threshold or value * rule.threshold < 1


def judge(rule: AlertRule, measure: SubjectMeasure, *, is_open: bool) -> RuleVerdict:
    """Return what the rule says of a measure.

    Few are enough to keep an alert open, or the last ones to fail before everybody gave up would close it.
    """
    if measure.value is None:
        return RuleVerdict.GOOD if is_open else RuleVerdict.TOO_FEW
    if measure.sample < rule.min_sample and not is_open:
        return RuleVerdict.TOO_FEW
    return RuleVerdict.BAD if breaks(rule, measure.value) else RuleVerdict.GOOD


@dataclass(frozen=True)
class TransitionProgress:
    """How far a subject is from the next transition."""

    is_open: bool = False
    count: int = 0
    """Bad evaluations in a row, or good ones while open."""

    def after(
        self, verdict: RuleVerdict, rule: AlertRule
    ) -> tuple[TransitionProgress, AlertTransition | None]:
        """Return the run after one more evaluation, and the transition that it brought."""
        if verdict is not (RuleVerdict.GOOD if self.is_open else RuleVerdict.BAD):
            return replace(self, count=0), None
        count = self.count + 1
        if self.is_open and count >= rule.closes_after:
            return TransitionProgress(), AlertTransition.CLOSED
        if not self.is_open and count >= rule.opens_after:
            return TransitionProgress(is_open=True), AlertTransition.OPENED
        return replace(self, count=count), None


def worst_first(rule: AlertRule, measures: Iterable[SubjectMeasure]) -> list[SubjectMeasure]:
    """Return measures in the order in which they deserve an alert."""
    sign = 1 if rule.bad is ThresholdSide.BELOW else -1
    return sorted(measures, key=lambda one: (one.value is None, sign * (one.value or 0), one.subject))


def tag_of(number_hash: bytes) -> str:
    """Return a short name of a number that stays the same, tells nothing of it and looks like no code.

    It is the same as long as the key of the look-up hashes is.
    """
    digest = hashlib.sha256(b"alert tag\0" + number_hash).digest()
    return "#" + "".join(_CONSONANTS[byte % len(_CONSONANTS)] for byte in digest[:6])


_CONSONANTS = "bcdfghjkmnpqrstvwxz"
_TAG = f"#[{_CONSONANTS}]{{6}}"
_NUMBER_SUBJECT = re.compile(rf"(?:\+[0-9*]{{3,}} )?({_TAG})")
_NAMES_NUMBER = re.compile(rf"\*{{2,}}[0-9]{{2}}(?![0-9])|{_TAG}(?![a-z])")


def shown_number(tag: str, masked: str | None) -> str:
    """Return how people are shown a number: masked, where a request tells its last digits, with its tag."""
    return tag if masked is None else f"{masked} {tag}"


def tag_in(subject: str) -> str | None:
    """Return the tag of a subject that names a number, whether or not it stands alone; None for any other."""
    found = _NUMBER_SUBJECT.fullmatch(subject)
    return found[1] if found else None


def names_number(text: str) -> bool:
    """Return whether a text holds the tag of a number, or one masked."""
    return _NAMES_NUMBER.search(text) is not None


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert as people are shown it."""

    id: UUID
    rule: str
    subject: str | None
    """None once it was about a number that has been erased."""
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
        """What was measured when it opened; None if a former version opened it, which did not store that."""
        value, sample = self.evidence.get("value"), self.evidence.get("sample")
        if value is None or sample is None:
            return None
        return Opening(value=float(value), sample=int(sample))


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What was measured when an alert opened, with the figures and reasons of its evidence."""

    value: float
    sample: int


ERASED = "(an erased number)"


def in_unit(value: float, unit: AlertUnit) -> str:
    """Return a value as people read it."""
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


def duration(seconds: float) -> str:
    """Return a stretch of time as people read it: 45 s, 15 min, 2 h, 3 d."""
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


def bound(rule: AlertRule, threshold: float) -> str:
    """Return what is bad, in words: `under 95.0 %`."""
    return f"{_WORDS[rule.bad]} {in_unit(threshold, rule.unit)}"
