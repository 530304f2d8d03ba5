"""`otpqueue stop-sending`, `resume-sending`, `sending-status`: the kill switch and the daily caps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import operator_option
from otpqueue.wiring import Parts


def _add_scope_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--country", metavar="XX", help="Only this country (ISO 3166); 001 is for international numbers."
    )(command)
    command = click.option("--client", help="Only the client of this name.")(command)
    return operator_option(command)


def _describe_scope(country: str | None, client: str | None) -> str:
    if country:
        return f"for country {country}"
    return f"for client {client}" if client else "for all"


@click.command()
@click.option("--reason", help="Reason, for the record.")
@_add_scope_options
@explain_errors
def stop_sending(reason: str | None, country: str | None, client: str | None, by: str) -> None:
    """Stop sending codes until `resume-sending`, with immediate effect.

    New requests are refused with 503. Accepted requests wait until their deadline. Sends in progress
    complete, and sent codes can be verified.
    """
    switch = Parts(settings.load()).switch
    stopped = switch.stop(country=country, client=client, reason=reason, by=by, now=clock.now())
    word = "stopped" if stopped else "was already stopped"
    click.echo(f"sending {word} {_describe_scope(country, client)}")


@click.command()
@_add_scope_options
@explain_errors
def resume_sending(country: str | None, client: str | None, by: str) -> None:
    """End a stop: the general one, or that of a country or a client. Other stops remain in force."""
    switch = Parts(settings.load()).switch
    now = clock.now()
    resumed = switch.resume(country=country, client=client, by=by, now=now)
    word = "resumed" if resumed else "was not stopped"
    click.echo(f"sending {word} {_describe_scope(country, client)}")
    for stop in switch.status(now=now).stops:
        click.echo(f"still stopped: {stop.what}")


@click.command()
@explain_errors
def sending_status() -> None:
    """Show the stops in force, with operator and reason, and how many codes were sent today (UTC)."""
    status = Parts(settings.load()).switch.status(now=clock.now())
    for stop in status.stops:
        why = f": {stop.reason}" if stop.reason else ""
        click.echo(f"STOPPED  {stop.what}  {stop.stopped_at:%Y-%m-%d %H:%M:%SZ}  by {stop.stopped_by}{why}")
    if not status.stops:
        click.echo("sending is on")
    click.echo("sent today (UTC):")
    for line in status.lines:
        cap = "no cap" if line.cap is None else f"of {line.cap}"
        reached = "  REACHED" if line.cap is not None and line.taken >= line.cap else ""
        click.echo(f"  {line.what}  {line.taken} {cap}{reached}")
