"""`otpqueue numbers`: locks and blocks of phone numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.prompts import read_number
from otpqueue.wiring import Parts


@click.group()
def numbers() -> None:
    """Show and lift the locks and blocks of a phone number.

    The number (E.164) is read from a prompt or standard input.
    """


@numbers.command(name="status")
@explain_errors
def show_status() -> None:
    """Show, for each client, consecutive wrong codes and whether the number is locked."""
    statuses = Parts(settings.load()).numbers.status(read_number(), now=clock.now())
    if not statuses:
        click.echo("no wrong codes since the last right code")
    for one in statuses:
        state = "locked" if one.locked else "open"
        if one.refused_until and not one.locked:
            state = f"no new requests until {one.refused_until:%Y-%m-%d %H:%M:%S}Z"
        unlocked = f"  unlocked {one.unlocked_at:%Y-%m-%d %H:%M}Z" if one.unlocked_at else ""
        click.echo(f"{one.client}  {one.in_a_row} consecutive wrong codes  {state}{unlocked}")


@numbers.command(name="unlock")
@click.option("--client", help="Only for this client. Default: for every client.")
@explain_errors
def unlock_number(client: str | None) -> None:
    """Reset the wrong codes of a number, so that new requests for it are accepted."""
    for name in Parts(settings.load()).numbers.unlock(read_number(), client=client, now=clock.now()):
        click.echo(f"unlocked for {name}")


@numbers.command(name="block")
@click.option("--reason", help="Reason, for operators. Callers never see it.")
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day (UTC) on which the block ends. Default: it does not end.",
)
@explain_errors
def block_number(reason: str | None, until: datetime | None) -> None:
    """Block a number: it gets no codes.

    A code that is being sent still arrives. Requests that wait fail with `number_not_allowed`. Blocking a
    number again replaces its reason and end.
    """
    end = until.replace(tzinfo=UTC) if until else None
    parts = Parts(settings.load())
    number = parts.blocklist.block(read_number(), reason=reason, until=end, now=clock.now())
    click.echo(f"blocked {number}" + (f" until {end:%Y-%m-%d}" if end else ""))


@numbers.command(name="unblock")
@explain_errors
def unblock_number() -> None:
    """Unblock a number."""
    number, removed = Parts(settings.load()).blocklist.unblock(read_number())
    if not removed:
        raise click.ClickException(f"{number} is not blocked.")
    click.echo(f"unblocked {number}")


@numbers.command(name="blocked")
@explain_errors
def list_blocked_numbers() -> None:
    """List the blocked numbers, masked, with the start, the end and the reason of each block."""
    for one in Parts(settings.load()).blocklist.list(now=clock.now()):
        until = f"until {one.until:%Y-%m-%d}" if one.until else "no end"
        number = one.phone_number or "cannot be decrypted"
        click.echo(f"{number}  {one.created_at:%Y-%m-%d %H:%M}  {until}  {one.reason or ''}".rstrip())
