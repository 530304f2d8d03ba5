"""`otpqueue numbers`: what stands against a phone number."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.cli.typed import typed_number
from otpqueue.wiring import Parts


@click.group()
def numbers() -> None:
    """See and lift what stands against a phone number (asked for, or read from stdin; E.164)."""


@numbers.command()
@explained
def status() -> None:
    """Show wrong codes in a row, and whether the number is locked, by client."""
    standings = Parts(settings.load()).numbers.status(typed_number(), now=clock.now())
    if not standings:
        click.echo("no wrong codes since the last right one")
    for one in standings:
        state = "locked" if one.locked else "open"
        if one.refused_until and not one.locked:
            state = f"no new requests until {one.refused_until:%Y-%m-%d %H:%M:%S}Z"
        unlocked = f"  unlocked {one.unlocked_at:%Y-%m-%d %H:%M}Z" if one.unlocked_at else ""
        click.echo(f"{one.client}  {one.in_a_row} wrong in a row  {state}{unlocked}")


@numbers.command()
@click.option("--client", help="Of this client alone; of every client unless given.")
@explained
def unlock(client: str | None) -> None:
    """Forgive the wrong codes for a number: new requests for it are taken again."""
    for name in Parts(settings.load()).numbers.unlock(typed_number(), client=client, now=clock.now()):
        click.echo(f"unlocked for {name}")


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
    number = parts.blocklist.block(typed_number(), reason=reason, until=end, now=clock.now())
    click.echo(f"blocked {number}" + (f" until {end:%Y-%m-%d}" if end else ""))


@numbers.command()
@explained
def unblock() -> None:
    """Take a number, read from standard input, off the list."""
    number, removed = Parts(settings.load()).blocklist.unblock(typed_number())
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
