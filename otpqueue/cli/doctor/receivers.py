"""Checks that the receivers of webhooks and mail can be reached. Nothing is sent to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from otpqueue import clock
from otpqueue.cli.doctor.findings import (
    FindingDraft,
    report_failure,
    report_ok,
    report_skipped,
    report_warning,
)
from otpqueue.cli.doctor.stores import require_database
from otpqueue.mail import Mailer, MailServer, MailUndeliverable
from otpqueue.outbound import Outbound, PostUndeliverable
from otpqueue.wiring import Parts

_TIMEOUT_S = 6.0
_MOST_ENDPOINTS = 50
_AT_ONCE = 10


def check_webhooks(parts: Parts) -> Iterator[FindingDraft]:
    """Connect to the hosts of the clients' webhooks, with TLS."""
    require_database(parts)
    endpoints = parts.webhooks.every(now=clock.now())
    if not endpoints:
        yield report_skipped("no client has a webhook")
        return
    outbound = Outbound(allow_private=parts.settings.webhook_allow_private, timeout_s=_TIMEOUT_S)
    checked = endpoints[:_MOST_ENDPOINTS]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        problems = pool.map(lambda one: _find_problem(outbound.connect, one.url), checked)
    bad = 0
    for endpoint, problem in zip(checked, problems, strict=True):
        host = urlsplit(endpoint.url).hostname
        if problem:
            bad += 1
            yield report_failure(
                f"the webhook of {endpoint.client} at {host} cannot be reached ({problem})",
                "Fix the receiver, or change it with `otpqueue webhooks set`.",
            )
        if endpoint.disabled_at:
            bad += 1
            yield report_warning(
                f"the webhook of {endpoint.client} is disabled",
                f"Run `otpqueue webhooks enable {endpoint.client}` when the receiver works.",
            )
    if not bad:
        yield report_ok(f"the hosts of {len(checked)} webhooks can be reached")
    if len(endpoints) > len(checked):
        yield report_skipped(f"{len(endpoints) - len(checked)} more webhooks are not checked")


def check_alert_channels(parts: Parts) -> Iterator[FindingDraft]:
    """Connect to the alert webhook and log in to the mail server."""
    settings = parts.settings
    if not (settings.alert_webhook_url or settings.alert_email_to):
        yield report_warning(
            "alerts go only to the log", "Set OTPQUEUE_ALERT_WEBHOOK_URL or OTPQUEUE_ALERT_EMAIL_TO."
        )
    if settings.alert_webhook_url:
        outbound = Outbound(allow_private=True, timeout_s=_TIMEOUT_S)
        problem = _find_problem(outbound.connect, settings.require("alert_webhook_url"))
        if problem:
            yield report_failure(
                f"the alert webhook cannot be reached ({problem})", "Correct OTPQUEUE_ALERT_WEBHOOK_URL."
            )
        else:
            yield report_ok("the alert webhook can be reached")
    if settings.alert_email_to:
        mailer = Mailer(
            server=MailServer.parse(settings.require("smtp_url")),
            sender=settings.require("alert_email_from"),
            timeout_s=_TIMEOUT_S,
        )
        try:
            mailer.check()
        except MailUndeliverable as error:
            yield report_failure(
                f"the mail server cannot be used ({error.reason})",
                "Correct OTPQUEUE_SMTP_URL: its host, port, user and password.",
            )
        else:
            yield report_ok("the mail server accepts the login")


def _find_problem(connect: Callable[[str], None], url: str) -> str | None:
    try:
        connect(url)
    except PostUndeliverable as error:
        return error.reason
    return None
