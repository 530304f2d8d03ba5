"""Settings of the webhooks to clients."""

from __future__ import annotations

from typing import ClassVar

from otpqueue.settings.fields import API_AND_WORKERS, WORKERS, Seconds, SettingsSubject, constant, setting


class WebhookSettings(SettingsSubject):
    """How webhooks are delivered."""

    TITLE: ClassVar[str] = "Webhooks to clients"
    USED_BY: ClassVar[str] = WORKERS

    webhooks_every_s: Seconds = constant(
        10, "OTPQUEUE_TUNING_WEBHOOKS_EVERY_S", "interval of `send_webhooks`; new events also wake it"
    )
    webhook_timeout_s: Seconds = constant(
        10, "OTPQUEUE_TUNING_WEBHOOK_TIMEOUT_S", "total timeout of a delivery", le=60
    )
    webhook_allow_private: bool = setting(
        False,
        "OTPQUEUE_WEBHOOK_ALLOW_PRIVATE",
        "allow private addresses, plain HTTP and any port ([webhooks.md](webhooks.md#allowed-urls))",
        used_by=API_AND_WORKERS,
    )
    webhook_disable_after_s: Seconds = setting(
        86_400,
        "OTPQUEUE_WEBHOOK_DISABLE_AFTER_S",
        "how long an endpoint may fail without a success before it is disabled",
        ge=60,
    )
