"""`otpqueue numbers`: locks and blocks of phone numbers."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from otpqueue import clock
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.prompts import read_number
from otpqueue.operations.admission.numbers import NumberStatus
from otpqueue.store.do_not_send import BlockedNumber


@click.group()
def numbers() -> None:
    """Show and lift the locks and blocks of a phone number.

    The number (E.164) is read from a prompt or standard input.
    """


@numbers.command(name="status")
@json_option
@explain_errors
def show_status(*, as_json: bool) -> None:
    """Show, for each client, consecutive wrong codes and whether the number is locked."""
    found = make_parts().numbers.status(read_number(), now=clock.now())
    lines = map(_format_status, found) if found else ["no wrong codes since the last right code"]
    print_facts(found, lines, as_json=as_json)


def _format_status(one: NumberStatus) -> str:
    state = "locked" if one.locked else "open"
    if one.refused_until and not one.locked:
        state = f"no new requests until {one.refused_until:%Y-%m-%d %H:%M:%S}Z"
    unlocked = f"  unlocked {one.unlocked_at:%Y-%m-%d %H:%M}Z" if one.unlocked_at else ""
    return f"{one.client}  {one.in_a_row} consecutive wrong codes  {state}{unlocked}"


@numbers.command(name="unlock")
@click.option("--client", help="Only for this client. Default: for every client.")
@reason_option
@json_option
@explain_errors
def unlock_number(client: str | None, reason: str | None, *, as_json: bool) -> None:
    """Reset the wrong codes of a number, so that new requests for it are accepted."""
    numbers = make_parts().numbers
    names = numbers.unlock(read_number(), client=client, reason=reason, now=clock.now())
    print_facts({"clients": names}, (f"unlocked for {name}" for name in names), as_json=as_json)


@numbers.command(name="block")
@reason_option
@click.option(
    "--until",
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day (UTC) on which the block ends. Default: it does not end.",
)
@json_option
@explain_errors
def block_number(reason: str | None, until: datetime | None, *, as_json: bool) -> None:
    """Block a number: it gets no codes.

    A code that is being sent still arrives. Requests that wait fail with `number_not_allowed`. Blocking a
    number again replaces its reason and end.
    """
    end = until.replace(tzinfo=UTC) if until else None
    parts = make_parts()
    number = parts.blocklist.block(read_number(), reason=reason, until=end, now=clock.now())
    line = f"blocked {number}" + (f" until {end:%Y-%m-%d}" if end else "")
    print_facts({"phone_number": number, "until": end, "reason": reason}, [line], as_json=as_json)


@numbers.command(name="unblock")
@reason_option
@json_option
@explain_errors
def unblock_number(reason: str | None, *, as_json: bool) -> None:
    """Unblock a number."""
    number, removed = make_parts().blocklist.unblock(read_number(), reason=reason)
    if not removed:
        raise CommandFailed(ExitCode.NOT_FOUND, f"{number} is not blocked.")
    print_facts({"phone_number": number}, [f"unblocked {number}"], as_json=as_json)


@numbers.command(name="blocked")
@json_option
@explain_errors
def list_blocked_numbers(*, as_json: bool) -> None:
    """List the blocked numbers, masked, with the start, the end and the reason of each block."""
    found = make_parts().blocklist.list(now=clock.now())
    facts = [
        {
            "phone_number": one.phone_number,
            "created_at": one.created_at,
            "until": one.until,
            "reason": one.reason,
        }
        for one in found
    ]
    print_facts(facts, map(_format_block, found), as_json=as_json)


def _format_block(one: BlockedNumber) -> str:
    until = f"until {one.until:%Y-%m-%d}" if one.until else "no end"
    number = one.phone_number or "cannot be decrypted"
    return f"{number}  {one.created_at:%Y-%m-%d %H:%M}  {until}  {one.reason or ''}".rstrip()
