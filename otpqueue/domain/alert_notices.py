"""The texts of alert notifications for webhook, e-mail and log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import (
    ERASED,
    Alert,
    AlertRule,
    AlertTransition,
    AlertUnit,
    ThresholdSide,
    format_bound,
    format_duration,
    format_value,
)

KEPT_TRYING = timedelta(days=3)
"""How long the delivery of a notification is retried."""

_FIRST_PAUSE_S = 10.0
_LONGEST_PAUSE_S = 900.0
_MOST_IDS = 5
_LONGEST = 2_800
"""Slack takes 3000 characters in a section."""


@dataclass(frozen=True, kw_only=True)
class NoticeText:
    """The text of a notification: title, lines and a link to the console."""

    id: UUID
    """Identical for all tries, so that a receiver can discard duplicates."""
    title: str
    lines: tuple[str, ...]
    link: str | None
    opened: bool
    """False for a closed alert and for a test."""

    @property
    def text(self) -> str:
        """Title, lines and link as plain text."""
        return "\n".join([self.title, "", *self.lines, *([self.link] if self.link else [])])


def compute_next_try(*, created_at: datetime, tries: int, now: datetime, jitter: float) -> datetime | None:
    """Return when to retry a failed delivery, or None to give up.

    The pause doubles from 10 s to 15 min. `jitter`, from 0 up to 1, spreads it over its upper half.
    """
    if now - created_at >= KEPT_TRYING:
        return None
    # 2**30 exceeds every backoff ceiling and does not overflow.
    pause_s = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(tries - 1, 30))
    return now + timedelta(seconds=pause_s * (0.5 + jitter / 2))


def compose_notice(
    alert: Alert,
    transition: AlertTransition,
    *,
    notice_id: UUID,
    public_url: str | None,
    had_data: bool = True,
) -> NoticeText:
    """Return the notification text of an alert that has opened or closed.

    `had_data` says whether the last evaluation of a closed alert had data.
    """
    opened = transition is AlertTransition.OPENED
    rule = get_rule(alert)
    subject = ERASED if alert.subject is None else alert.subject
    where = "" if subject == "all" else f": {subject}"
    sign = "OPEN" if opened else "closed"
    return NoticeText(
        id=notice_id,
        title=f"[{sign}] {alert.rule}{where} - {rule.title}" if opened else f"[{sign}] {alert.rule}{where}",
        lines=tuple(
            _format_opened(alert, rule) if opened else _format_closed(alert, rule, had_data=had_data)
        ),
        link=f"{public_url}/console/alerts/{alert.id}" if public_url else None,
        opened=opened,
    )


def compose_test_notice(notice_id: UUID, *, by: str, at: datetime) -> NoticeText:
    """Return a notification that only tests the channels."""
    return NoticeText(
        id=notice_id,
        title="[test] otpqueue can reach you",
        lines=(f"This is a test of the alert channels by {by}, {at:%Y-%m-%d %H:%M:%S} UTC.",),
        link=None,
        opened=False,
    )


def get_rule(alert: Alert) -> AlertRule:
    """Return the rule of an alert, or a placeholder if this version does not know it."""
    name = alert.rule
    unknown = AlertRule(
        name=name, title=name, bad=ThresholdSide.FROM, unit=AlertUnit.COUNT, threshold=0, window_s=0
    )
    return RULES.get(name, unknown)


def format_measurement(value: float, sample: int, alert: Alert, rule: AlertRule) -> str:
    """Return a value with its window, its sample and the threshold: `91.9 % over 15 min, sample 62; ...`."""
    over = f" over {format_duration(alert.window_s)}" if alert.window_s else ""
    return (
        f"{format_value(value, rule.unit)}{over}, sample {sample}; bad {format_bound(rule, alert.threshold)}"
    )


def _format_opened(alert: Alert, rule: AlertRule) -> list[str]:
    # Not the value of the last evaluation, which would contradict the figures.
    opening = alert.opening
    if opening is None:
        lines = [f"{format_measurement(alert.value, alert.sample, alert, rule)}."]
    else:
        lines = [f"{format_measurement(opening.value, opening.sample, alert, rule)}."]
        for name in ("figures", "reasons"):
            found = alert.evidence.get(name)
            if isinstance(found, Mapping) and found:
                lines.append(f"{name}: " + ", ".join(f"{key} {one}" for key, one in found.items()))
    ids = alert.evidence.get("requests")
    if isinstance(ids, list) and ids:
        lines.append("requests: " + ", ".join(map(str, ids[:_MOST_IDS])))
    lines.append(f"opened {_format_time(alert.opened_at)}; alert {alert.id}")
    return lines


def _format_closed(alert: Alert, rule: AlertRule, *, had_data: bool) -> list[str]:
    closed_at = alert.closed_at or alert.evaluated_at
    lasted = format_duration((closed_at - alert.opened_at).total_seconds())
    last = format_measurement(alert.value, alert.sample, alert, rule)
    opened, closed = _format_time(alert.opened_at), _format_time(closed_at)
    return [
        f"Last value {last}." if had_data else f"No data in the last evaluation; before that {last}.",
        f"opened {opened}, closed {closed} after {lasted}; alert {alert.id}",
    ]


def _format_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def format_slack(notice: NoticeText) -> dict[str, Any]:
    """Return a notification in the format of Slack's incoming webhooks, which other services also accept."""
    lines = _escape("\n".join(notice.lines))[:_LONGEST]
    link = f"\n<{notice.link}|Open it>" if notice.link else ""
    title = _escape(notice.title)
    return {
        # For phones, and for receivers without blocks.
        "text": f"{title}\n{lines}{link}",
        "blocks": [
            {"type": "header", "text": {"type": "plain_text", "text": notice.title[:150]}},
            {"type": "section", "text": {"type": "mrkdwn", "text": f"{lines}{link}"}},
        ],
    }


def _escape(text: str) -> str:
    # Slack requires these three characters to be escaped. A client's name must not become a link or a
    # mention.
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
