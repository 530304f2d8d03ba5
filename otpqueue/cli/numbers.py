"""`otpqueue numbers`: the do-not-send list.

A number is asked for, or read from standard input: an argument would stay in the shell's history.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.wiring import Parts


@click.group()
def numbers() -> None:
    """Keep numbers from being sent to."""


def _ask_number() -> str:
    if sys.stdin.isatty():
        return str(click.prompt("phone number (E.164)", hide_input=True))
    return sys.stdin.readline().strip()


@numbers.command()
@click.option("--reason", help="Why; it is kept and shown here, never to callers.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day (UTC) from which on codes are sent again; never unless given.",
)
@explained
def block(reason: str | None, until: datetime | None) -> None:
    """Send no code to a number, read from standard input.

    A code that is on its way arrives; what is due ends, `number_not_allowed`. A number that is blocked
    already gets the new reason and end.
    """
    end = until.replace(tzinfo=UTC) if until else None
    parts = Parts(settings.load())
    number = parts.blocklist.block(_ask_number(), reason=reason, until=end, now=clock.now())
    click.echo(f"blocked {number}" + (f" until {end:%Y-%m-%d}" if end else ""))


@numbers.command()
@explained
def unblock() -> None:
    """Take a number, read from standard input, off the list."""
    number, removed = Parts(settings.load()).blocklist.unblock(_ask_number())
    if not removed:
        raise click.ClickException(f"{number} is not blocked")
    click.echo(f"unblocked {number}")


@numbers.command()
@explained
def blocked() -> None:
    """List the blocked numbers, masked: since when, until when, why."""
    for one in Parts(settings.load()).blocklist.list(now=clock.now()):
        until = f"until {one.until:%Y-%m-%d}" if one.until else "for good"
        number = one.phone_number or "cannot be opened"
        click.echo(f"{number}  {one.created_at:%Y-%m-%d %H:%M}  {until}  {one.reason or ''}".rstrip())
