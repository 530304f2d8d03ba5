"""The texts of alert notifications for webhook, e-mail and log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alert_runbook import URGENT, todo
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
_LONGEST = 2_500
"""Slack takes 3000 characters in a section."""


@dataclass(frozen=True, kw_only=True)
class NoticeText:
    """The text of a notification: title, lines and a link to the console."""

    id: UUID
    """Identical for all tries, so that a receiver can discard duplicates."""
    title: str
    lines: tuple[str, ...]
    link: str | None
    runbook: str | None = None
    """The URL of the rule's runbook; None without OTPQUEUE_PUBLIC_URL."""
    opened: bool
    """False for a closed alert and for a test."""

    @property
    def text(self) -> str:
        """Title, lines and links as plain text."""
        runbook = [f"Runbook: {self.runbook}"] if self.runbook else []
        return "\n".join([self.title, "", *self.lines, *runbook, *([self.link] if self.link else [])])


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
    deployment: str = "otpqueue",
    had_data: bool = True,
) -> NoticeText:
    """Return the notification text of an alert that has opened or closed.

    It begins with the severity, the name of the deployment, what the alert means, and what to do.
    `had_data` says whether the last evaluation of a closed alert had data.
    """
    opened = transition is AlertTransition.OPENED
    rule = get_rule(alert)
    subject = ERASED if alert.subject is None else alert.subject
    where = "" if subject == "all" else f": {subject}"
    sign = get_severity(alert.rule) if opened else "RESOLVED"
    return NoticeText(
        id=notice_id,
        title=f"[{sign}] {deployment}: {rule.title} ({alert.rule}{where})",
        runbook=f"{public_url}/console/runbooks/{alert.rule}" if public_url and opened else None,
        lines=tuple(
            _format_opened(alert, rule) if opened else _format_closed(alert, rule, had_data=had_data)
        ),
        link=f"{public_url}/console/alerts/{alert.id}" if public_url else None,
        opened=opened,
    )


def get_severity(rule: str) -> str:
    """Return `CRITICAL` if people get no codes while an alert of this rule is open, else `WARNING`."""
    return "CRITICAL" if rule in URGENT else "WARNING"


def compose_test_notice(notice_id: UUID, *, by: str, at: datetime, deployment: str) -> NoticeText:
    """Return a notification that only tests the channels."""
    return NoticeText(
        id=notice_id,
        title=f"[TEST] {deployment}: otpqueue can reach you",
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
    lines = [f"What to do: {todo(alert.rule).replace('`', '')}"]
    # Not the value of the last evaluation, which would contradict the figures.
    opening = alert.opening
    if opening is None:
        lines.append(f"{format_measurement(alert.value, alert.sample, alert, rule)}.")
    else:
        lines.append(f"{format_measurement(opening.value, opening.sample, alert, rule)}.")
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
    links = (("Runbook", notice.runbook), ("Open it", notice.link))
    link = "".join(f"\n<{url}|{name}>" for name, url in links if url)
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
