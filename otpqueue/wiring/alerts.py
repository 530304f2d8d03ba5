"""Alert rules, their evaluation and notifications."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property

from otpqueue import clock, jobs, policies
from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.heartbeats import EVERY_S, ProcessKind
from otpqueue.mail import Mailer, MailServer
from otpqueue.operations.alerts.admin import AlertAdmin
from otpqueue.operations.alerts.evaluate import EvaluateAlerts
from otpqueue.operations.alerts.lifecycle import AlertStore
from otpqueue.operations.alerts.notify import (
    LogNotifier,
    MailNotifier,
    Notifier,
    NotifyAlerts,
    WebhookNotifier,
)
from otpqueue.operations.alerts.watch_workers import EvaluateWorkers
from otpqueue.outbound import Outbound
from otpqueue.store.locks import Lock
from otpqueue.wiring.provider import ProviderParts

ALERT_WEBHOOK_S = 10.0
ALERT_MAIL_S = 30.0


class AlertParts(ProviderParts):
    """What evaluates alert rules and notifies operators."""

    @cached_property
    def alert_rules(self) -> Mapping[str, AlertRule]:
        """The configured alert rules."""
        return policies.alert_rules(self.settings)

    @cached_property
    def evaluate_alerts(self) -> EvaluateAlerts:
        """Evaluates the alert rules."""
        every = timedelta(seconds=self.settings.evaluate_alerts_every_s)
        book = AlertStore(
            engine=self.engine,
            watch="rules",
            lock=Lock.EVALUATE_RULES,
            apart=every / 2,
            channels=self.notify_alerts.channels,
        )
        return EvaluateAlerts(
            engine=self.engine,
            rules=self.alert_rules,
            circuit=self.circuit.get_state,
            book=book,
            seal_key_id=self.vault.seal_key_ids[0],
        )

    @cached_property
    def evaluate_workers(self) -> EvaluateWorkers:
        """Opens alerts for silent workers or beat."""
        book = AlertStore(
            engine=self.engine,
            watch="workers",
            lock=Lock.EVALUATE_WORKERS,
            # Every API process evaluates, but counts only as often as one of them would.
            apart=timedelta(seconds=EVERY_S[ProcessKind.API] / 2),
            channels=self.notify_alerts.channels,
        )
        return EvaluateWorkers(
            engine=self.engine,
            rules=self.alert_rules,
            book=book,
            queues=jobs.QUEUES,
            notify=self.notify_alerts,
            began=clock.now(),
        )

    @cached_property
    def alert_outbound(self) -> Outbound:
        """Posts alert notifications. An operator's URL may be on a private network."""
        outbound = Outbound(allow_private=True, timeout_s=ALERT_WEBHOOK_S)
        self.close_later(outbound.close)
        return outbound

    @cached_property
    def notify_alerts(self) -> NotifyAlerts:
        """Delivers alert notifications."""
        return NotifyAlerts(
            engine=self.engine,
            vault=self.vault,
            notifiers=self._make_notifiers(),
            public_url=self.settings.public_url,
            deployment=self.settings.deployment_name,
        )

    def _make_notifiers(self) -> tuple[Notifier, ...]:
        settings = self.settings
        notifiers: list[Notifier] = [LogNotifier()]
        if settings.alert_webhook_url:
            notifiers.append(
                WebhookNotifier(post=self.alert_outbound, url=settings.require("alert_webhook_url"))
            )
        if settings.alert_email_to:
            mailer = Mailer(
                server=MailServer.parse(settings.require("smtp_url")),
                sender=settings.require("alert_email_from"),
                timeout_s=ALERT_MAIL_S,
            )
            notifiers.append(MailNotifier(mailer=mailer, to=settings.alert_email_to))
        return tuple(notifiers)

    @cached_property
    def alert_admin(self) -> AlertAdmin:
        """The operator's view of alerts and actions on them."""
        return AlertAdmin(engine=self.engine, vault=self.vault, rules=self.alert_rules, clock=clock.now)
