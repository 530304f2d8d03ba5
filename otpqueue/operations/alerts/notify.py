"""Deliver alert notifications from the outbox, once per channel, with retries until they succeed.

A notification is claimed with a lease, delivered without a transaction or lock in Postgres, and then settled.
If the process ends between the two, the notification is delivered twice with the same id.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine
from uuid_utils.compat import uuid7

from otpqueue import mail, outbound
from otpqueue.domain.alert_notices import (
    NoticeText,
    compose_notice,
    compose_test_notice,
    compute_next_try,
    format_slack,
)
from otpqueue.domain.alerts import Alert, NotificationChannel
from otpqueue.domain.audit import OperatorAction
from otpqueue.operations.auditing import record_alone
from otpqueue.operations.recording import record_when_possible
from otpqueue.store.alerts import notices, records
from otpqueue.store.alerts.notices import ClaimedNotice
from otpqueue.store.engine import connection, run, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

ID_HEADER = "X-Otpqueue-Notice-Id"

_LEASE_S = 120.0
"""Longer than the time-out of any channel."""

_BUDGET_S = 30.0


class NotificationFailed(Exception):
    """A notification could not be delivered. `reason` is one word."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


class Notifier(Protocol):
    """Delivers notifications on one channel."""

    @property
    def channel(self) -> NotificationChannel:
        """The channel."""

    def deliver(self, notice: NoticeText, alert: Alert | None, *, now: datetime) -> None:
        """Deliver a notification; without an alert it is a test. Raises NotificationFailed."""


@dataclass(frozen=True, kw_only=True)
class LogNotifier:
    """Writes notifications to the log."""

    channel: NotificationChannel = NotificationChannel.LOG

    def deliver(self, notice: NoticeText, alert: Alert | None, *, now: datetime) -> None:  # noqa: ARG002
        """Write one log record."""
        if alert is None:
            log.warning("alert_test", notice_id=str(notice.id))
            return
        of = alert.opening if notice.opened and alert.opening else alert
        record = {
            "alert_id": str(alert.id),
            "rule": alert.rule,
            "subject": alert.subject,
            "value": of.value,
            "threshold": alert.threshold,
            "window_s": alert.window_s,
            "sample": of.sample,
        }
        if notice.opened:
            log.error("alert_opened", **record)
        else:
            log.warning("alert_closed", **record)


@dataclass(frozen=True, kw_only=True)
class WebhookNotifier:
    """Posts notifications in Slack's format."""

    post: outbound.Outbound
    url: str
    channel: NotificationChannel = NotificationChannel.WEBHOOK

    def deliver(self, notice: NoticeText, alert: Alert | None, *, now: datetime) -> None:  # noqa: ARG002
        """Post one notification. Raises NotificationFailed."""
        headers = {"Content-Type": "application/json", ID_HEADER: str(notice.id)}
        try:
            status = self.post.post(self.url, body=json.dumps(format_slack(notice)).encode(), headers=headers)
        except outbound.PostUndeliverable as error:
            raise NotificationFailed(error.reason) from None
        if not 200 <= status < 300:
            raise NotificationFailed(f"http_{status}")


@dataclass(frozen=True, kw_only=True)
class MailNotifier:
    """Sends notifications by e-mail."""

    mailer: mail.Mailer
    to: Sequence[str]
    channel: NotificationChannel = NotificationChannel.EMAIL

    def deliver(self, notice: NoticeText, alert: Alert | None, *, now: datetime) -> None:  # noqa: ARG002
        """Send one notification. Raises NotificationFailed."""
        try:
            refused = self.mailer.send(
                self.to,
                subject=notice.title,
                text=notice.text,
                message_id=str(notice.id),
                at=now,
            )
        except mail.MailUndeliverable as error:
            raise NotificationFailed(error.reason) from None
        if refused:
            log.warning("alert_mail_refused_for_some", notice_id=str(notice.id), refused=len(refused))


@dataclass(frozen=True, kw_only=True)
class NotifierTest:
    """The result of a test notification."""

    channel: NotificationChannel
    problem: str | None
    """None if it was delivered."""


@dataclass(frozen=True, kw_only=True)
class NotifyAlerts:
    """Delivers the notifications in the outbox."""

    engine: Engine
    vault: Vault
    notifiers: Sequence[Notifier]
    public_url: str | None = None
    deployment: str = "otpqueue"
    """The name of the deployment, with which every notification begins."""

    @property
    def channels(self) -> tuple[NotificationChannel, ...]:
        """The channels that are configured."""
        return tuple(notifier.channel for notifier in self.notifiers)

    def __call__(self, *, now: datetime) -> int:
        """Deliver due notifications. Returns how many were delivered. Raises DatabaseUnavailable.

        A channel that fails is skipped until the next run, so that it does not delay the others.
        """
        end, arrived = time.monotonic() + _BUDGET_S, 0
        for notifier in self.notifiers:
            while time.monotonic() < end:
                claimed = self._claim(notifier.channel, now)
                if claimed is None or not self._deliver(notifier, claimed, now):
                    break
                arrived += 1
        return arrived

    def test(self, *, by: str, now: datetime) -> list[NotifierTest]:
        """Send a test notification on every channel. Returns the results."""
        tried = []
        for notifier in self.notifiers:
            problem = None
            try:
                test = compose_test_notice(uuid7(), by=by, at=now, deployment=self.deployment)
                notifier.deliver(test, None, now=now)
            except NotificationFailed as error:
                problem = error.reason
            tried.append(NotifierTest(channel=notifier.channel, problem=problem))
        results = {one.channel.value: one.problem or "delivered" for one in tried}
        record_alone(
            self.engine, OperatorAction.ALERT_CHANNELS_TESTED, details={"by": by, "channels": results}
        )
        return tried

    def _claim(self, channel: NotificationChannel, now: datetime) -> ClaimedNotice | None:
        return run(self.engine, lambda conn: notices.claim(conn, channel, now=now, lease_s=_LEASE_S))

    def _deliver(self, notifier: Notifier, claimed: ClaimedNotice, now: datetime) -> bool:
        with connection(self.engine) as conn:
            alert = records.find(conn, claimed.alert_id, now=now, vault=self.vault)
            last = records.list_values(conn, claimed.alert_id, limit=1)
        if alert is None:  # purged since it was claimed, and the notice with it
            return True
        notice = compose_notice(
            alert,
            claimed.transition,
            notice_id=claimed.id,
            public_url=self.public_url,
            deployment=self.deployment,
            had_data=not last or last[-1].value is not None,
        )
        try:
            notifier.deliver(notice, alert, now=now)
        except NotificationFailed as error:
            self._failed(claimed, error.reason, now)
            return False
        self._arrived(claimed, now)
        return True

    def _arrived(self, claimed: ClaimedNotice, now: datetime) -> None:
        def work(conn: Connection) -> None:
            if notices.mark_delivered(conn, claimed, now=now):
                records.add_event(conn, claimed.alert_id, "notice_delivered", now=now, detail=_of(claimed))

        # Until this is recorded, the notification is claimed again when its lease expires.
        record_when_possible(lambda: transaction(self.engine, work), what="alert_notice", results=1)
        metrics.count(metrics.NOTICES, claimed.channel.value, "delivered")

    def _failed(self, claimed: ClaimedNotice, problem: str, now: datetime) -> None:
        jitter = random.random()  # noqa: S311 - spreads retries, guards nothing
        again = compute_next_try(created_at=claimed.created_at, tries=claimed.tries, now=now, jitter=jitter)

        def work(conn: Connection) -> None:
            notices.record_failure(conn, claimed, problem=problem, next_try_at=again)
            if claimed.tries == 1 or again is None:
                what = "notice_failed" if again else "notice_given_up"
                records.add_event(conn, claimed.alert_id, what, now=now, detail=f"{_of(claimed)}: {problem}")

        transaction(self.engine, work)
        record = {
            "alert_id": str(claimed.alert_id),
            "channel": claimed.channel.value,
            "transition": claimed.transition.value,
            "problem": problem,
            "tries": claimed.tries,
        }
        metrics.count(metrics.NOTICES, claimed.channel.value, "failed" if again else "given_up")
        if again is None:
            log.error("alert_notice_given_up", **record)
        else:
            log.warning("alert_notice_failed", **record)


def _of(claimed: ClaimedNotice) -> str:
    return f"{claimed.transition} by {claimed.channel}"
