"""`otpqueue requests`: the history of a request of any client, read from the database."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock
from otpqueue.api.resources.history import HistoryResponse
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import print_facts
from otpqueue.domain.history import History, HistoryEvent


@click.group()
def requests() -> None:
    """Show and cancel requests of any client. For operators: it needs access to the database."""


@requests.command(name="show")
@click.argument("request_id", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of GET /v1/otp-requests/ID/history.")
@explain_errors
def show_history(request_id: UUID, as_json: bool) -> None:
    """Show the history of the request REQUEST_ID.

    Each event is one line: the time (UTC), the seconds since the request was accepted, and what happened.
    """
    history = make_parts().history(request_id)
    facts = HistoryResponse.of(history).model_dump(mode="json")
    print_facts(facts, [*_format_header(history), "", *_format_events(history)], as_json=as_json)


@requests.command(name="cancel")
@click.argument("request_id", type=click.UUID)
@reason_option
@json_option
@explain_errors
def cancel_request(request_id: UUID, reason: str | None, *, as_json: bool) -> None:
    """Cancel the live request REQUEST_ID of any client. Its code can no longer be verified."""
    cancelled = make_parts().cancel.by_operator(request_id, reason=reason, now=clock.now())
    line = "cancelled" if cancelled else "the request had already ended"
    print_facts({"id": request_id, "changed": cancelled}, [line], as_json=as_json)


def _format_header(history: History) -> list[str]:
    ended = ", ".join(filter(None, (history.reason, history.provider_code)))
    facts = {
        "request": str(history.id),
        "status": f"{history.shown_status} ({ended})" if ended else history.shown_status,
        "client": history.client,
        "number": history.phone_number or "cannot be decrypted: its key is not in OTPQUEUE_SEAL_KEYS",
        "country": history.country,
        "channel": history.channel,
        "language": history.language,
        "send by": _format_time(history.send_by),
        "expires": _format_time(history.expires_at) if history.expires_at else None,
        "sends": str(history.sends),
        "checks": f"{history.checks_used} of {history.checks_allowed}",
    }
    return [f"{name:<10}{value}" for name, value in facts.items() if value]


def _format_events(history: History) -> list[str]:
    events = history.events
    offsets = [_format_offset(event, history.created_at) for event in events]
    width = max(map(len, offsets))
    return [
        f"{_format_time(event.at)}  {offset:>{width}}  {event.summary}"
        for event, offset in zip(events, offsets, strict=True)
    ]


def _format_time(at: datetime) -> str:
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", "Z")


def _format_offset(event: HistoryEvent, accepted_at: datetime) -> str:
    return f"{(event.at - accepted_at) / timedelta(seconds=1):+.3f} s"
