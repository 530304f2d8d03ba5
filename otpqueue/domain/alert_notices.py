"""Notices in words: what a webhook, a mail and the log are told of an alert."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import ERASED, Alert, Bad, Rule, Transition, Unit, bound, duration, in_unit

KEPT_TRYING = timedelta(days=3)
"""A notice that has not arrived by then is given up."""

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 900.0
_MOST_IDS = 5
_LONGEST = 2_800
"""Slack takes 3000 characters in a section."""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A notice: its first line, what follows, and where to read on."""

    id: UUID
    """The same at every try, so that a receiver can drop one that comes twice."""
    title: str
    lines: tuple[str, ...]
    link: str | None
    opened: bool
    """False for what is over, and for a test."""

    @property
    def text(self) -> str:
        """The whole of it."""
        return "\n".join([self.title, "", *self.lines, *([self.link] if self.link else [])])


def next_try(*, created_at: datetime, tries: int, now: datetime, jitter: float) -> datetime | None:
    """Return when a notice that did not arrive is tried again, None to give it up.

    The pause doubles from 10 s to 15 min; `jitter`, from 0 up to 1, spreads it over its upper half.
    """
    if now - created_at >= KEPT_TRYING:
        return None
    # 2 to the 30th is longer than any ceiling, and no overflow.
    pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30))
    return now + timedelta(seconds=pause_s * (0.5 + jitter / 2))


def words(
    alert: Alert,
    transition: Transition,
    *,
    notice_id: UUID,
    public_url: str | None,
    had_data: bool = True,
) -> Words:
    """Return the text of a notice of an alert that has opened or closed.

    `had_data` says whether the last evaluation of a closed alert found anything to measure.
    """
    opened = transition is Transition.OPENED
    rule = rule_of(alert)
    subject = ERASED if alert.subject is None else alert.subject
    where = "" if subject == "all" else f": {subject}"
    sign = "OPEN" if opened else "closed"
    return Words(
        id=notice_id,
        title=f"[{sign}] {alert.rule}{where} - {rule.title}" if opened else f"[{sign}] {alert.rule}{where}",
        lines=tuple(_opened(alert, rule) if opened else _closed(alert, rule, had_data=had_data)),
        link=f"{public_url}/console/alerts/{alert.id}" if public_url else None,
        opened=opened,
    )


def test_words(notice_id: UUID, *, by: str, at: datetime) -> Words:
    """Return a notice that only tries the way."""
    return Words(
        id=notice_id,
        title="[test] otpqueue can reach you",
        lines=(f"Nothing is the matter: {by} is trying the way of alerts, {at:%Y-%m-%d %H:%M:%S} UTC.",),
        link=None,
        opened=False,
    )


def rule_of(alert: Alert) -> Rule:
    """Return an alert's rule, or what stands in for one that this version does not know."""
    name = alert.rule
    unknown = Rule(name=name, title=name, bad=Bad.FROM, unit=Unit.COUNT, threshold=0, window_s=0)
    return RULES.get(name, unknown)


def measured(value: float, sample: int, alert: Alert, rule: Rule) -> str:
    """Return a value with its window, its sample and the threshold: `91.9 % over 15 min, sample 62; ...`."""
    over = f" over {duration(alert.window_s)}" if alert.window_s else ""
    return f"{in_unit(value, rule.unit)}{over}, sample {sample}; bad {bound(rule, alert.threshold)}"


def _opened(alert: Alert, rule: Rule) -> list[str]:
    # Not the value of the last evaluation: the figures would contradict it.
    opening = alert.opening
    if opening is None:
        lines = [f"{measured(alert.value, alert.sample, alert, rule)}."]
    else:
        lines = [f"{measured(opening.value, opening.sample, alert, rule)}."]
        for name in ("figures", "reasons"):
            found = alert.evidence.get(name)
            if isinstance(found, Mapping) and found:
                lines.append(f"{name}: " + ", ".join(f"{key} {one}" for key, one in found.items()))
    ids = alert.evidence.get("requests")
    if isinstance(ids, list) and ids:
        lines.append("requests: " + ", ".join(map(str, ids[:_MOST_IDS])))
    lines.append(f"opened {_at(alert.opened_at)}; alert {alert.id}")
    return lines


def _closed(alert: Alert, rule: Rule, *, had_data: bool) -> list[str]:
    closed_at = alert.closed_at or alert.evaluated_at
    lasted = duration((closed_at - alert.opened_at).total_seconds())
    last = measured(alert.value, alert.sample, alert, rule)
    return [
        f"Last value {last}." if had_data else f"No data in the last evaluation; before that {last}.",
        f"opened {_at(alert.opened_at)}, closed {_at(closed_at)} after {lasted}; alert {alert.id}",
    ]


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def slack(notice: Words) -> dict[str, Any]:
    """Return a notice as Slack's incoming webhooks take it, and all that imitate them."""
    lines = _escaped("\n".join(notice.lines))[:_LONGEST]
    link = f"\n<{notice.link}|Open it>" if notice.link else ""
    title = _escaped(notice.title)
    return {
        # What a phone shows, and receivers that know no blocks.
        "text": f"{title}\n{lines}{link}",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": notice.title[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": f"{lines}{link}"}},
        ],
    }


def _escaped(text: str) -> str:
    # Slack's three: a client's name must not become a link or call everybody.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
