"""`otpqueue stop-sending`, `resume-sending`, `sending-status`: the kill switch and the day's caps."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Callable
from typing import Any

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.wiring import Parts


def _narrowed(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--country", metavar="XX", help="Only this country; 001 is no one country.")(
        command
    )
    command = click.option("--client", help="Only this client, by its name.")(command)
    return click.option("--by", default=_operator, help="Who does it; user and host unless given.")(command)


def _operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def _of(country: str | None, client: str | None) -> str:
    if country:
        return f"for country {country}"
    return f"for client {client}" if client else "for all"


@click.command()
@click.option("--reason", help="Why; it is kept and shown.")
@_narrowed
@explained
def stop_sending(reason: str | None, country: str | None, client: str | None, by: str) -> None:
    """Send no code any more, from this second on, until `resume-sending`.

    Requests are refused with 503. What is due waits and ends at its deadline; what is being sent is finished;
    codes that were sent can be verified.
    """
    switch = Parts(settings.load()).switch
    stopped = switch.stop(country=country, client=client, reason=reason, by=by, now=clock.now())
    word = "stopped" if stopped else "was stopped already"
    click.echo(f"sending {word} {_of(country, client)}")


@click.command()
@_narrowed
@explained
def resume_sending(country: str | None, client: str | None, by: str) -> None:
    """End a stop: that for all, or that for a country or a client. Other stops go on."""
    switch = Parts(settings.load()).switch
    now = clock.now()
    resumed = switch.resume(country=country, client=client, by=by, now=now)
    word = "resumed" if resumed else "was not stopped"
    click.echo(f"sending {word} {_of(country, client)}")
    for stop in switch.status(now=now).stops:
        click.echo(f"still stopped: {stop.what}")


@click.command()
@explained
def sending_status() -> None:
    """Tell what is stopped, since when, by whom and why, and how many codes the day (UTC) has had."""
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
