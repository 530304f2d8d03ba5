"""`otpqueue guard`: what the pumping guard sees and refuses, and what an operator lets through."""

from __future__ import annotations

import re
from datetime import timedelta

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.operations.guard_desk import Line
from otpqueue.wiring import Parts

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


class Duration(click.ParamType[timedelta]):
    """A number with a unit: 30m, 24h, 7d."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([1-9][0-9]{0,4})([mhd])", str(value), re.ASCII)
        if not found:
            self.fail(f"{value} is not a duration like 30m, 24h or 7d", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


_since = click.option(
    "--since", type=Duration(), default="24h", show_default=True, help="How far back, e.g. 90m, 24h, 14d."
)


@click.group()
def guard() -> None:
    """Watch the pumping guard, and make exceptions."""


@guard.command()
@_since
@click.option("--country", help="Only this country (ISO 3166 alpha-2).")
@click.option("--blocks", default=20, show_default=True, help="How many blocks at most.")
@explained
def report(since: timedelta, country: str | None, blocks: int) -> None:
    """Sum up sends, verified ones and refusals by country and by block of 10 000 numbers, worst first.

    In shadow mode `refused` is what would have been, and `lost` how many of those were verified: people.
    """
    now = clock.now()
    parts = Parts(settings.load())
    found = parts.guard_desk.report(since=now - since, now=now, country=country and country.upper())
    click.echo(f"mode {parts.guard.mode.value}, since {found.since:%Y-%m-%d %H}:00 UTC")
    for (mode, reason), tries in found.reasons.items():
        click.echo(f"{'refused' if mode == 'enforce' else 'would have refused'}: {tries} {reason}")
    for title, lines in (("country", found.countries), ("block", found.blocks[:blocks])):
        click.echo("")
        click.echo(
            f"{title:<16}{'sent':>9}{'verified':>10}{'share':>7}{'budget':>8}{'refused':>9}{'lost':>7}"
        )
        for line in lines:
            click.echo(_row(line))
    if len(found.blocks) > blocks:
        click.echo(f"... and {len(found.blocks) - blocks} blocks more (--blocks)")


def _row(line: Line) -> str:
    share = "-" if line.share is None else f"{line.share:.0%}"
    may = "-" if line.budget is None else f"{line.budget:g}"
    return (
        f"{line.subject:<16}{line.sent:>9}{line.verified:>10}{share:>7}{may:>8}{line.refused:>9}"
        f"{line.refused_verified:>7}"
    )


@guard.command()
@_since
@click.option("--limit", default=50, show_default=True, help="How many lines at most.")
@explained
def decisions(since: timedelta, limit: int) -> None:
    """List refusals, newest first, one line for each minute, client, country and reason."""
    found = Parts(settings.load()).guard_desk.decisions(since=clock.now() - since, limit=limit)
    for one in found:
        verb = "refused" if one.mode == "enforce" else "would have refused"
        click.echo(
            f"{one.minute:%Y-%m-%d %H:%M}Z  {one.client}  {one.country}  {verb} {one.tries}: {one.reason}, "
            f"{one.at_risk} unverified of {one.budget:g} allowed (first: block {one.block})"
        )
    if not found:
        click.echo("nothing refused")


@guard.command()
@click.argument("subject")
@click.option(
    "--for", "lasting", type=Duration(), default="24h", show_default=True, help="e.g. 30m, 24h, 7d."
)
@explained
def allow(subject: str, lasting: timedelta) -> None:
    """Let all numbers of SUBJECT through, a country (GB) or first digits (447911), for a while."""
    until = Parts(settings.load()).guard_desk.allow(subject, lasting=lasting, now=clock.now())
    click.echo(f"{subject} is let through until {until:%Y-%m-%d %H:%M} UTC")


@guard.command()
@click.argument("subject")
@explained
def disallow(subject: str) -> None:
    """End the exception for SUBJECT now."""
    if not Parts(settings.load()).guard_desk.disallow(subject):
        raise click.ClickException(f"{subject} is not let through")
    click.echo(f"{subject} is guarded again")


@guard.command(name="list")
@explained
def list_() -> None:
    """List what is let through."""
    for one in Parts(settings.load()).guard_desk.exceptions(now=clock.now()):
        click.echo(f"{one.subject}  until {one.until:%Y-%m-%d %H:%M} UTC")
