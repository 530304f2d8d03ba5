"""`otpqueue numbers`: what stands against a phone number. The number is asked for, or read from stdin.

As an argument it would stay in the shell's history and show in the list of processes.
"""

from __future__ import annotations

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.wiring import Parts


@click.group()
def numbers() -> None:
    """See and lift what stands against a phone number (asked for, or read from stdin; E.164)."""


def _ask() -> str:
    number: str = click.prompt("Phone number", err=True)
    return number.strip()


@numbers.command()
@explained
def status() -> None:
    """Show wrong codes in a row, and whether the number is locked, by client."""
    standings = Parts(settings.load()).numbers.status(_ask(), now=clock.now())
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
    for name in Parts(settings.load()).numbers.unlock(_ask(), client=client, now=clock.now()):
        click.echo(f"unlocked for {name}")
