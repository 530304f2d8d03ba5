"""Webhooks to clients."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property

from otpqueue import clock
from otpqueue.operations.pump import Pump
from otpqueue.operations.webhooks.admin import Webhooks
from otpqueue.operations.webhooks.send import SendWebhooks, SendWebhooksSettings
from otpqueue.operations.webhooks.wake import WakeWebhooks
from otpqueue.outbound import Outbound
from otpqueue.store.webhooks.deliveries import DeliveryResult, WebhookDelivery
from otpqueue.wiring.connections import Connections

WEBHOOK_LEASE_SPARE_S = 20.0
"""Time for recording results while Postgres is briefly unavailable."""


class WebhookParts(Connections):
    """What sends webhooks to clients, and the operator's actions on them."""

    @cached_property
    def outbound(self) -> Outbound:
        """Posts webhooks to clients' receivers."""
        outbound = Outbound(
            allow_private=self.settings.webhook_allow_private, timeout_s=self.settings.webhook_timeout_s
        )
        self.close_later(outbound.close)
        return outbound

    @cached_property
    def wake_webhooks(self) -> WakeWebhooks:
        """Enqueues webhook events for clients."""
        return WakeWebhooks(engine=self.engine, wake=self.webhook_waker.wake)

    @cached_property
    def webhook_pump(self) -> Pump[WebhookDelivery, DeliveryResult]:
        """The pump of webhooks."""
        settings = SendWebhooksSettings(
            lease_s=2 * self.settings.webhook_timeout_s + WEBHOOK_LEASE_SPARE_S,
            job_s=self.settings.job_s,
            disable_after=timedelta(seconds=self.settings.webhook_disable_after_s),
        )
        send_webhooks = SendWebhooks(
            engine=self.engine, vault=self.vault, post=self.outbound.post, settings=settings
        )
        return Pump(
            send_webhooks,
            name="webhooks",
            # This pump does not linger, so a wake-up that is pending already is enough.
            wake=self.webhook_waker.wake,
            clock=clock.now,
            settings=settings,
        )

    @cached_property
    def webhooks(self) -> Webhooks:
        """The operator's actions on webhooks."""
        return Webhooks(
            engine=self.engine, vault=self.vault, outbound=self.outbound, wake=self.webhook_waker.wake
        )
