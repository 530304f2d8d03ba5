"""`otpqueue alerts`: list, acknowledge and silence alerts, and test the notification channels."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock
from otpqueue.api.resources.alerts import AlertResponse, AlertsResponse
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.options import json_option, open_parts, operator_option
from otpqueue.cli.output import print_facts
from otpqueue.domain.alert_notices import format_measurement, get_rule
from otpqueue.domain.alerts import (
    ERASED,
    Alert,
    AlertRule,
    AlertState,
    format_bound,
    format_duration,
    format_value,
)
from otpqueue.operations.alerts.admin import AlertDetails

_STATES = {"open": AlertState.OPEN, "closed": AlertState.CLOSED, "all": None}


@click.group()
def alerts() -> None:
    """List, acknowledge and silence alerts, and test the notification channels."""


@alerts.command(name="list")
@click.option("--state", type=click.Choice(list(_STATES)), default="open", show_default=True)
@click.option("--rule", help="Only alerts of this rule.")
@click.option("--limit", default=50, show_default=True, help="Maximum number.")
@json_option
@explain_errors
def list_alerts(state: str, rule: str | None, limit: int, as_json: bool) -> None:
    """List alerts, newest first, and the active silences."""
    with open_parts() as parts:
        desk = parts.alert_admin
        found = desk.list(state=_STATES[state], rule=rule, limit=limit)
        silences, evaluated_at = desk.silences(), desk.evaluated_at()
    answer = AlertsResponse(alerts=[AlertResponse.of(alert) for alert in found])
    lines = [_format_alert(alert) for alert in found] or [f"no alerts{'' if state == 'all' else f' {state}'}"]
    for one in silences:
        why = f": {one.reason}" if one.reason else ""
        lines.append(
            f"silence {one.id}  {one.rule}  {one.subject or 'every subject'}  "
            f"until {_format_time(one.until)}  by {one.silenced_by}{why}"
        )
    lines.append(_format_evaluation_time(evaluated_at))
    print_facts(answer.model_dump(mode="json"), lines, as_json=as_json)


def _format_alert(alert: Alert) -> str:
    marks = [
        *([f"acknowledged by {alert.acknowledged_by}"] if alert.acknowledged_at else []),
        *([f"silenced until {_format_time(alert.silenced_until)}"] if alert.silenced_until else []),
    ]
    until = f" - {_format_time(alert.closed_at)}" if alert.closed_at else ""
    return "  ".join(
        [
            str(alert.id),
            f"{alert.state.value:<6}",
            alert.rule,
            ERASED if alert.subject is None else alert.subject,
            format_measurement(alert.value, alert.sample, alert, get_rule(alert)),
            f"{_format_time(alert.opened_at)}{until}",
            *marks,
        ]
    )


def _format_evaluation_time(evaluated_at: datetime | None) -> str:
    if evaluated_at is None:
        return "The rules have never been evaluated. Check that beat and a worker of the queue `slow` run."
    ago = (clock.now() - evaluated_at).total_seconds()
    return f"the rules were evaluated {format_duration(max(ago, 0))} ago"


def _format_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


@alerts.command(name="show")
@click.argument("alert_id", metavar="ID", type=click.UUID)
@json_option
@explain_errors
def show_alert(alert_id: UUID, as_json: bool) -> None:
    """Show an alert with its evidence, history, undelivered notifications and recent values."""
    with open_parts() as parts:
        found = parts.alert_admin.get(alert_id)
    lines = [*_format_evidence(found), "", *_format_history(found)]
    print_facts(AlertResponse.of(found).model_dump(mode="json"), lines, as_json=as_json)


def _format_evidence(found: AlertDetails) -> Iterator[str]:
    yield _format_alert(found)
    yield f"{get_rule(found).title}; see docs/alerts.md#{found.rule}"
    opening = found.opening
    if opening is not None:
        rule = get_rule(found)
        yield f"when it opened: {format_measurement(opening.value, opening.sample, found, rule)}"
    for name in ("figures", "reasons"):
        for key, one in (found.evidence.get(name) or {}).items():
            yield f"  {name[:-1]}  {key}  {one}"
    for one in found.evidence.get("requests") or ():
        yield f"  request  {one}"


def _format_history(found: AlertDetails) -> Iterator[str]:
    for one in found.history:
        yield "  ".join(filter(None, [_format_time(one.at), one.what, one.actor, one.detail]))
    for notice in found.notices:
        if notice.delivered_at is None:
            waits = f"next attempt {_format_time(notice.next_try_at)}" if notice.next_try_at else "given up"
            yield (
                f"not delivered: {notice.transition} by {notice.channel}, {notice.tries} attempts, "
                f"{notice.problem or 'waiting'}, {waits}"
            )
    for value in found.values[-20:]:
        shown = "-" if value.value is None else format_value(value.value, get_rule(found).unit)
        yield f"{_format_time(value.at)}  value {shown} of {value.sample}"


@alerts.command(name="ack")
@click.argument("alert_id", metavar="ID", type=click.UUID)
@operator_option
@json_option
@explain_errors
def acknowledge_alert(alert_id: UUID, by: str, *, as_json: bool) -> None:
    """Acknowledge an alert. Its resolution is still notified."""
    with open_parts() as parts:
        alert = parts.alert_admin.ack(alert_id, by=by)
    facts = {"id": alert.id, "rule": alert.rule, "acknowledged_by": alert.acknowledged_by}
    print_facts(facts, [f"{alert.rule} is acknowledged by {alert.acknowledged_by}"], as_json=as_json)


@alerts.command(name="silence")
@click.argument("what", metavar="ID|RULE")
@click.option(
    "--subject", help="Only this subject of the rule, for example a country. Default: every subject."
)
@click.option(
    "--for",
    "lasting",
    type=DurationType(),
    default="1h",
    show_default=True,
    help="How long, for example 30m, 24h, 2w.",
)
@click.option("--reason", help="Reason, for the record.")
@operator_option
@json_option
@explain_errors
def silence_alerts(
    what: str, subject: str | None, lasting: timedelta, reason: str | None, by: str, *, as_json: bool
) -> None:
    """Suppress notifications for a while: of an alert's subject (by the alert's ID), or of a RULE.

    Silenced alerts still open, close and appear in lists. An alert that is open when the silence ends is
    notified then.
    """
    until = clock.now() + lasting
    alert_id = _parse_alert_id(what)
    if alert_id and subject is not None:
        raise click.UsageError("--subject needs a RULE. An alert has its own subject.")
    with open_parts() as parts:
        if alert_id:
            created = parts.alert_admin.silence_alert(
                alert_id, until=until, by=by, reason=reason, every_subject=False
            )
        else:
            created = parts.alert_admin.silence(rule=what, subject=subject, until=until, by=by, reason=reason)
    about = f" {created.subject}" if created.subject else ", every subject,"
    line = f"{created.rule}{about} is silenced until {_format_time(created.until)} (silence {created.id})"
    facts = {
        "id": created.id,
        "rule": created.rule,
        "subject": created.subject,
        "until": created.until,
        "silenced_by": created.silenced_by,
        "reason": created.reason,
    }
    print_facts(facts, [line], as_json=as_json)


def _parse_alert_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@alerts.command(name="unsilence")
@click.argument("silence_id", metavar="SILENCE", type=click.UUID)
@operator_option
@json_option
@explain_errors
def end_silence(silence_id: UUID, by: str, *, as_json: bool) -> None:
    """End a silence by its id, which `otpqueue alerts list` shows."""
    with open_parts() as parts:
        was_in_force = parts.alert_admin.unsilence(silence_id, by=by)
    if not was_in_force:
        raise CommandFailed(ExitCode.NOT_FOUND, "There is no active silence with this id.")
    print_facts({"id": silence_id}, ["silence ended"], as_json=as_json)


@alerts.command(name="test")
@operator_option
@json_option
@explain_errors
def test_channels(by: str, *, as_json: bool) -> None:
    """Send a test notification on every configured channel and print the results.

    The exit code is 1 if a channel fails.
    """
    with open_parts() as parts:
        tried = parts.notify_alerts.test(by=by, now=clock.now())
    facts = [{"channel": one.channel, "problem": one.problem} for one in tried]
    lines = [
        f"{one.channel.value}: {'delivered' if one.problem is None else f'FAILED, {one.problem}'}"
        for one in tried
    ]
    if len(tried) == 1:
        lines.append("Only the log is configured. Set OTPQUEUE_ALERT_WEBHOOK_URL or OTPQUEUE_ALERT_EMAIL_TO.")
    print_facts(facts, lines, as_json=as_json)
    if any(one.problem for one in tried):
        raise click.exceptions.Exit(ExitCode.PROBLEM)


@alerts.command(name="rules")
@json_option
@explain_errors
def list_rules(*, as_json: bool) -> None:
    """List the alert rules with their settings (OTPQUEUE_ALERT_RULES)."""
    with open_parts() as parts:
        in_force = parts.alert_rules
    header = f"{'rule':<24}{'bad':<28}{'window':>9}{'sample':>8}{'opens':>7}{'closes':>8}"
    print_facts(list(in_force.values()), [header, *map(_format_rule, in_force.values())], as_json=as_json)


def _format_rule(rule: AlertRule) -> str:
    if rule.off:
        return f"{rule.name:<24}off"
    window = format_duration(rule.window_s) if rule.window_s else "now"
    return (
        f"{rule.name:<24}{format_bound(rule, rule.threshold):<28}{window:>9}{rule.min_sample or '-':>8}"
        f"{rule.opens_after:>7}{rule.closes_after:>8}"
    )
