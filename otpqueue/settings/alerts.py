"""Settings of the alerts: rules, intervals, and where notifications are sent."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from otpqueue.settings.fields import (
    API_AND_WORKERS,
    WORKERS,
    FromJson,
    Seconds,
    Secret,
    SettingsSubject,
    Text,
    Words,
    constant,
    is_url,
    setting,
)


class GivenAlertRule(BaseModel):
    """One of OTPQUEUE_ALERT_RULES. What is not given keeps its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    window_s: Annotated[int, Field(ge=0, le=604_800)] | None = None
    min_sample: Annotated[int, Field(ge=0)] | None = None
    opens_after: Annotated[int, Field(ge=1, le=1000)] | None = None
    closes_after: Annotated[int, Field(ge=1, le=1000)] | None = None
    off: bool | None = None


class AlertSettings(SettingsSubject):
    """Alert rules and notification channels."""

    TITLE: ClassVar[str] = "Alerts"
    USED_BY: ClassVar[str] = WORKERS

    alert_rules: Annotated[dict[str, GivenAlertRule], FromJson] = setting(
        {},
        "OTPQUEUE_ALERT_RULES",
        'changes to alert rules: `{"success_rate": {"threshold": 0.9}, "request_spike": {"off": true}}` '
        "([alerts.md](alerts.md))",
        used_by=API_AND_WORKERS,
    )
    evaluate_alerts_every_s: Seconds = constant(
        60, "OTPQUEUE_TUNING_EVALUATE_ALERTS_EVERY_S", "interval of `evaluate_alerts`"
    )
    notify_every_s: Seconds = constant(10, "OTPQUEUE_TUNING_NOTIFY_EVERY_S", "interval of `notify_alerts`")
    alert_webhook_url: Secret = setting(
        None, "OTPQUEUE_ALERT_WEBHOOK_URL", "webhook for alerts, in the format of Slack's incoming webhooks"
    )
    alert_email_to: Words = setting((), "OTPQUEUE_ALERT_EMAIL_TO", "e-mail recipients of alerts")
    alert_email_from: Text = setting(None, "OTPQUEUE_ALERT_EMAIL_FROM", "sender of alert e-mails")
    smtp_url: Secret = setting(
        None,
        "OTPQUEUE_SMTP_URL",
        "mail server, `smtp://user:password@host:587` (STARTTLS) or `smtps://user:password@host`",
    )

    def find_problems(self) -> list[str]:
        """Return a line for each notification channel that cannot work."""
        problems = super().find_problems()
        if not _is_webhook(self.alert_webhook_url):
            problems.append("OTPQUEUE_ALERT_WEBHOOK_URL must be a URL, without a user in it")
        if not _is_mail_server(self.smtp_url):
            problems.append("OTPQUEUE_SMTP_URL must be `smtp://user:password@host:port` or `smtps://...`")
        given = [bool(self.alert_email_to), bool(self.alert_email_from), self.smtp_url is not None]
        if any(given) and not all(given):
            problems.append(
                "OTPQUEUE_ALERT_EMAIL_TO, OTPQUEUE_ALERT_EMAIL_FROM and OTPQUEUE_SMTP_URL must be given "
                "together"
            )
        for name, addresses in (
            ("OTPQUEUE_ALERT_EMAIL_TO", self.alert_email_to),
            ("OTPQUEUE_ALERT_EMAIL_FROM", (self.alert_email_from,) if self.alert_email_from else ()),
        ):
            if not all(re.fullmatch(r"[!-~]+@[A-Za-z0-9.-]+", one) for one in addresses):
                problems.append(f"{name} must be like `alerts@example.com`")
        return problems


def _is_webhook(secret: SecretStr | None) -> bool:
    return is_url(secret, {"http", "https"}) and (secret is None or "@" not in secret.get_secret_value())


def _is_mail_server(secret: SecretStr | None) -> bool:
    if secret is None:
        return True
    if not is_url(secret, {"smtp", "smtps"}):
        return False
    parts = urlsplit(secret.get_secret_value())
    try:
        unquote(parts.netloc, errors="strict")
    except UnicodeDecodeError:
        return False
    return bool(parts.username) == bool(parts.password) and not parts.path.strip("/")
