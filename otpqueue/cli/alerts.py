"""`otpqueue alerts`: what is wrong, what was, and what an operator says about it."""

from __future__ import annotations

import getpass
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock, settings
from otpqueue.api.alerts import representation
from otpqueue.cli.errors import explained
from otpqueue.cli.guard import Duration
from otpqueue.domain.alert_notices import measured, rule_of
from otpqueue.domain.alerts import ERASED, Alert, Rule, State, bound, duration, in_unit
from otpqueue.operations.alert_desk import AlertInFull
from otpqueue.wiring import Parts

_STATES = {"open": State.OPEN, "closed": State.CLOSED, "all": None}


def _operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@contextmanager
def _parts() -> Iterator[Parts]:
    parts = Parts(settings.load())
    try:
        yield parts
    finally:
        parts.close()


_by = click.option("--by", default=_operator, help="Who does it; user and host unless given.")
_json = click.option("--json", "as_json", is_flag=True, help="For machines.")


@click.group()
def alerts() -> None:
    """Watch alerts: list, acknowledge, silence, and test their notification channels."""


@alerts.command(name="list")
@click.option("--state", type=click.Choice(list(_STATES)), default="open", show_default=True)
@click.option("--rule", help="Only of this rule.")
@click.option("--limit", default=50, show_default=True, help="How many at most.")
@_json
@explained
def list_(state: str, rule: str | None, limit: int, as_json: bool) -> None:
    """List alerts, the newest first, and the silences in force."""
    with _parts() as parts:
        desk = parts.alert_desk
        found = desk.list(state=_STATES[state], rule=rule, limit=limit)
        silences, evaluated_at = desk.silences(), desk.evaluated_at()
    if as_json:
        click.echo(json.dumps({"alerts": [representation(alert) for alert in found]}))
        return
    for alert in found:
        click.echo(_line(alert))
    if not found:
        click.echo(f"no alerts{'' if state == 'all' else f' {state}'}")
    for one in silences:
        why = f": {one.reason}" if one.reason else ""
        click.echo(
            f"silence {one.id}  {one.rule}  {one.subject or 'every subject'}  until {_at(one.until)}  "
            f"by {one.silenced_by}{why}"
        )
    _say_when(evaluated_at)


def _line(alert: Alert) -> str:
    marks = [
        *([f"acknowledged by {alert.acknowledged_by}"] if alert.acknowledged_at else []),
        *([f"silenced until {_at(alert.silenced_until)}"] if alert.silenced_until else []),
    ]
    until = f" - {_at(alert.closed_at)}" if alert.closed_at else ""
    return "  ".join(
        [
            str(alert.id),
            f"{alert.state.value:<6}",
            alert.rule,
            ERASED if alert.subject is None else alert.subject,
            measured(alert.value, alert.sample, alert, rule_of(alert)),
            f"{_at(alert.opened_at)}{until}",
            *marks,
        ]
    )


def _say_when(evaluated_at: datetime | None) -> None:
    if evaluated_at is None:
        click.echo("the rules have never been evaluated: do beat and a worker of the queue `slow` run?")
        return
    ago = (clock.now() - evaluated_at).total_seconds()
    click.echo(f"the rules were evaluated {duration(max(ago, 0))} ago")


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"


@alerts.command()
@click.argument("alert_id", metavar="ID", type=click.UUID)
@_json
@explained
def show(alert_id: UUID, as_json: bool) -> None:
    """Show an alert: evidence, history, notifications and its last values."""
    with _parts() as parts:
        found = parts.alert_desk.get(alert_id)
    if as_json:
        click.echo(json.dumps(representation(found)))
        return
    click.echo(_line(found))
    click.echo(f"{rule_of(found).title}; docs/alerts.md#{found.rule} says what to do")
    opening = found.opening
    if opening is not None:
        rule = rule_of(found)
        click.echo(f"when it opened: {measured(opening.value, opening.sample, found, rule)}")
    for name in ("figures", "reasons"):
        for key, one in (found.evidence.get(name) or {}).items():
            click.echo(f"  {name[:-1]}  {key}  {one}")
    for one in found.evidence.get("requests") or ():
        click.echo(f"  request  {one}")
    _story(found)


def _story(found: AlertInFull) -> None:
    click.echo("")
    for one in found.history:
        click.echo("  ".join(filter(None, [_at(one.at), one.what, one.actor, one.detail])))
    for notice in found.notices:
        if notice.delivered_at is None:
            waits = f"next try {_at(notice.next_try_at)}" if notice.next_try_at else "given up"
            click.echo(
                f"not delivered: {notice.transition} by {notice.channel}, {notice.tries} tries, "
                f"{notice.problem or 'waiting'}, {waits}"
            )
    for value in found.values[-20:]:
        shown = "-" if value.value is None else in_unit(value.value, rule_of(found).unit)
        click.echo(f"{_at(value.at)}  value {shown} of {value.sample}")


@alerts.command()
@click.argument("alert_id", metavar="ID", type=click.UUID)
@_by
@explained
def ack(alert_id: UUID, by: str) -> None:
    """Acknowledge an alert. Its closing is still notified."""
    with _parts() as parts:
        alert = parts.alert_desk.ack(alert_id, by=by)
    click.echo(f"{alert.rule} is acknowledged by {alert.acknowledged_by}")


@alerts.command()
@click.argument("what", metavar="ID|RULE")
@click.option("--subject", help="Only this subject of the rule, e.g. a country; each one unless given.")
@click.option("--for", "lasting", type=Duration(), default="1h", show_default=True, help="30m, 24h, 7d.")
@click.option("--reason", help="Why; it is kept and shown.")
@_by
@explained
def silence(what: str, subject: str | None, lasting: timedelta, reason: str | None, by: str) -> None:
    """Send no notices for a while: about an alert's subject (by the alert's ID), or about a RULE.

    Alerts open and close as before, and are shown. An alert that is still open when
    the silence ends is notified then.
    """
    until = clock.now() + lasting
    alert_id = _alert_id(what)
    if alert_id and subject is not None:
        raise click.UsageError("--subject goes with a rule; an alert has its own")
    with _parts() as parts:
        if alert_id:
            made = parts.alert_desk.silence_alert(
                alert_id, until=until, by=by, reason=reason, every_subject=False
            )
        else:
            made = parts.alert_desk.silence(rule=what, subject=subject, until=until, by=by, reason=reason)
    about = f" {made.subject}" if made.subject else ", every subject,"
    click.echo(f"{made.rule}{about} is silenced until {_at(made.until)} (silence {made.id})")


def _alert_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


@alerts.command()
@click.argument("silence_id", metavar="SILENCE", type=click.UUID)
@_by
@explained
def unsilence(silence_id: UUID, by: str) -> None:
    """End a silence now, by its id, which `otpqueue alerts list` shows."""
    with _parts() as parts:
        was_in_force = parts.alert_desk.unsilence(silence_id, by=by)
    if not was_in_force:
        raise click.ClickException("there is no such silence in force")
    click.echo("the silence is over")


@alerts.command()
@_by
@explained
def test(by: str) -> None:
    """Send a test notice on every channel that is set, and say what came of each."""
    with _parts() as parts:
        tried = parts.notify_alerts.test(by=by, now=clock.now())
    for one in tried:
        click.echo(f"{one.channel.value}: {'arrived' if one.problem is None else f'FAILED, {one.problem}'}")
    if len(tried) == 1:
        click.echo("only the log is notified: set OTPQUEUE_ALERT_WEBHOOK_URL or OTPQUEUE_ALERT_EMAIL_TO")
    if any(one.problem for one in tried):
        raise click.exceptions.Exit(1)


@alerts.command()
@explained
def rules() -> None:
    """List the rules as they are set (OTPQUEUE_ALERT_RULES)."""
    with _parts() as parts:
        in_force = parts.alert_rules
    click.echo(f"{'rule':<24}{'bad':<28}{'window':>9}{'sample':>8}{'opens':>7}{'closes':>8}")
    for rule in in_force.values():
        click.echo(_rule(rule))


def _rule(rule: Rule) -> str:
    if rule.off:
        return f"{rule.name:<24}off"
    window = duration(rule.window_s) if rule.window_s else "now"
    return (
        f"{rule.name:<24}{bound(rule, rule.threshold):<28}{window:>9}{rule.min_sample or '-':>8}"
        f"{rule.opens_after:>7}{rule.closes_after:>8}"
    )
