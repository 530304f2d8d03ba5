"""`otpqueue stop-sending`, `resume-sending`, `sending-status`: the kill switch and the daily caps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import click

from otpqueue import clock
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, make_parts, operator_option
from otpqueue.cli.output import print_facts
from otpqueue.operations.admission.stop_sending import SendingStatus


def _add_scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--country", metavar="XX", help="Only this country (ISO 3166); 001 is for international numbers."
    )(command)
    command = click.option("--client", help="Only the client of this name.")(command)
    return operator_option(json_option(command))


def _describe_scope(country: str | None, client: str | None) -> str:
    if country:
        return f"for country {country}"
    return f"for client {client}" if client else "for all"


@click.command()
@reason_option
@_add_scope_options
@explain_errors
def stop_sending(
    reason: str | None, country: str | None, client: str | None, by: str, *, as_json: bool
) -> None:
    """Stop sending codes until `resume-sending`, with immediate effect.

    New requests are refused with 503. Accepted requests wait until their deadline. Sends in progress
    complete, and sent codes can be verified.
    """
    switch = make_parts().switch
    stopped = switch.stop(country=country, client=client, reason=reason, by=by, now=clock.now())
    word = "stopped" if stopped else "was already stopped"
    facts = {"country": country, "client": client, "reason": reason, "by": by, "changed": stopped}
    print_facts(facts, [f"sending {word} {_describe_scope(country, client)}"], as_json=as_json)


@click.command()
@reason_option
@_add_scope_options
@explain_errors
def resume_sending(
    reason: str | None, country: str | None, client: str | None, by: str, *, as_json: bool
) -> None:
    """End a stop: the general one, or that of a country or a client. Other stops remain in force."""
    switch = make_parts().switch
    now = clock.now()
    resumed = switch.resume(country=country, client=client, reason=reason, by=by, now=now)
    word = "resumed" if resumed else "was not stopped"
    rest = [stop.what for stop in switch.status(now=now).stops]
    facts = {"country": country, "client": client, "by": by, "changed": resumed, "still_stopped": rest}
    lines = [f"sending {word} {_describe_scope(country, client)}", *(f"still stopped: {one}" for one in rest)]
    print_facts(facts, lines, as_json=as_json)


@click.command()
@json_option
@explain_errors
def sending_status(*, as_json: bool) -> None:
    """Show the stops in force, with operator and reason, and how many codes were sent today (UTC)."""
    status = make_parts().switch.status(now=clock.now())
    facts = {
        "stops": [
            {
                "what": stop.what,
                "stopped_at": stop.stopped_at,
                "stopped_by": stop.stopped_by,
                "reason": stop.reason,
            }
            for stop in status.stops
        ],
        "sent_today": [{"what": one.what, "sent": one.taken, "cap": one.cap} for one in status.lines],
    }
    print_facts(facts, _format_status(status), as_json=as_json)


def _format_status(status: SendingStatus) -> Iterator[str]:
    for stop in status.stops:
        why = f": {stop.reason}" if stop.reason else ""
        yield f"STOPPED  {stop.what}  {stop.stopped_at:%Y-%m-%d %H:%M:%SZ}  by {stop.stopped_by}{why}"
    if not status.stops:
        yield "sending is on"
    yield "sent today (UTC):"
    for line in status.lines:
        cap = "no cap" if line.cap is None else f"of {line.cap}"
        reached = "  REACHED" if line.cap is not None and line.taken >= line.cap else ""
        yield f"  {line.what}  {line.taken} {cap}{reached}"
