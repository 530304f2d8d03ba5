"""`otpqueue guard`: reports of the pumping guard, its refusals and its exceptions."""

from __future__ import annotations

from datetime import timedelta

import click

from otpqueue import clock, settings
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.operations.guard.admin import GuardReportLine
from otpqueue.wiring import Parts

_since = click.option(
    "--since",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="How far back, for example 90m, 24h, 2w.",
)


@click.group()
def guard() -> None:
    """Inspect the pumping guard and manage its exceptions."""


@guard.command(name="report")
@_since
@click.option("--country", help="Only this country (ISO 3166 alpha-2).")
@click.option("--blocks", default=20, show_default=True, help="Maximum number of blocks.")
@explain_errors
def print_report(since: timedelta, country: str | None, blocks: int) -> None:
    """Count sends, verifications and refusals by country and by block of 10 000 numbers, worst first.

    In shadow mode, `refused` counts requests that enforcement would have refused, and `lost` how many of
    those were verified: real users.
    """
    now = clock.now()
    parts = Parts(settings.load())
    found = parts.guard_admin.report(since=now - since, now=now, country=country and country.upper())
    click.echo(f"mode {parts.guard.mode.value}, since {found.since:%Y-%m-%d %H}:00 UTC")
    for (mode, reason), tries in found.reasons.items():
        click.echo(f"{'refused' if mode == 'enforce' else 'would have refused'}: {tries} {reason}")
    for title, lines in (("country", found.countries), ("block", found.blocks[:blocks])):
        click.echo("")
        click.echo(
            f"{title:<16}{'sent':>9}{'verified':>10}{'share':>7}{'budget':>8}{'refused':>9}{'lost':>7}"
        )
        for line in lines:
            click.echo(_format_row(line))
    if len(found.blocks) > blocks:
        click.echo(f"... and {len(found.blocks) - blocks} more blocks (--blocks)")


def _format_row(line: GuardReportLine) -> str:
    share = "-" if line.share is None else f"{line.share:.0%}"
    may = "-" if line.budget is None else f"{line.budget:g}"
    return (
        f"{line.subject:<16}{line.sent:>9}{line.verified:>10}{share:>7}{may:>8}{line.refused:>9}"
        f"{line.refused_verified:>7}"
    )


@guard.command(name="decisions")
@_since
@click.option("--limit", default=50, show_default=True, help="Maximum number of lines.")
@explain_errors
def list_decisions(since: timedelta, limit: int) -> None:
    """List refusals, newest first: one line per minute, client, country and reason."""
    found = Parts(settings.load()).guard_admin.decisions(since=clock.now() - since, limit=limit)
    for one in found:
        verb = "refused" if one.mode == "enforce" else "would have refused"
        click.echo(
            f"{one.minute:%Y-%m-%d %H:%M}Z  {one.client}  {one.country}  {verb} {one.tries}: {one.reason}, "
            f"{one.at_risk} unverified of {one.budget:g} allowed (first: block {one.block})"
        )
    if not found:
        click.echo("nothing refused")


@guard.command(name="allow")
@click.argument("subject")
@click.option(
    "--for",
    "lasting",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="How long, for example 30m, 24h, 2w.",
)
@explain_errors
def allow_subject(subject: str, lasting: timedelta) -> None:
    """Exempt SUBJECT from the guard for a while: a country (GB) or the first digits of numbers (447911)."""
    until = Parts(settings.load()).guard_admin.allow(subject, lasting=lasting, now=clock.now())
    click.echo(f"{subject} is exempt until {until:%Y-%m-%d %H:%M} UTC")


@guard.command(name="disallow")
@click.argument("subject")
@explain_errors
def end_exception(subject: str) -> None:
    """End the exception for SUBJECT."""
    if not Parts(settings.load()).guard_admin.disallow(subject):
        raise click.ClickException(f"{subject} has no exception.")
    click.echo(f"{subject} is guarded again")


@guard.command(name="list")
@explain_errors
def list_exceptions() -> None:
    """List the exceptions."""
    for one in Parts(settings.load()).guard_admin.exceptions(now=clock.now()):
        click.echo(f"{one.subject}  until {one.until:%Y-%m-%d %H:%M} UTC")
