"""`otpqueue requests`: what became of requests, straight from the database, of every client."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import settings
from otpqueue.api.history import representation
from otpqueue.cli.errors import explained
from otpqueue.domain.history import Event, History
from otpqueue.wiring import Parts


@click.group()
def requests() -> None:
    """See what became of requests (for operators: needs the database, sees every client's)."""


@requests.command()
@click.argument("request_id", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="Print what GET /v1/otp-requests/ID/history answers.")
@explained
def show(request_id: UUID, as_json: bool) -> None:
    """Tell the whole life of the request REQUEST_ID.

    One line for each thing that happened: when (UTC), how long after the request was accepted, and what.
    """
    history = Parts(settings.load()).history(request_id)
    if as_json:
        click.echo(json.dumps(representation(history), indent=2))
        return
    for line in [*_header(history), "", *_time_line(history)]:
        click.echo(_printable(line))


def _header(history: History) -> list[str]:
    ended = ", ".join(filter(None, (history.reason, history.provider_code)))
    facts = {
        "request": str(history.id),
        "status": f"{history.shown_status} ({ended})" if ended else history.shown_status,
        "client": history.client,
        "number": history.phone_number or "cannot be opened: its key is not in OTPQUEUE_SEAL_KEYS",
        "country": history.country,
        "channel": history.channel,
        "language": history.language,
        "send by": _moment(history.send_by),
        "expires": _moment(history.expires_at) if history.expires_at else None,
        "sends": str(history.sends),
        "checks": f"{history.checks_used} of {history.checks_allowed}",
    }
    return [f"{name:<10}{value}" for name, value in facts.items() if value]


def _time_line(history: History) -> list[str]:
    events = history.events
    offsets = [_offset(event, history.created_at) for event in events]
    width = max(map(len, offsets))
    return [
        f"{_moment(event.at)}  {offset:>{width}}  {event.summary}"
        for event, offset in zip(events, offsets, strict=True)
    ]


def _moment(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def _offset(event: Event, accepted_at: datetime) -> str:
    return f"{(event.at - accepted_at) / timedelta(seconds=1):+.3f} s"


def _printable(line: str) -> str:
    """Return the line with nothing in it that a terminal would obey: some words are the provider's."""
    return "".join(character if character.isprintable() else "?" for character in line)
