"""`otpqueue audit` and `otpqueue erasures`: what operators did, and proof of erasures."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from otpqueue import clock
from otpqueue.api.resources.audit import AuditEntryResponse, AuditResponse, ErasureResponse, ErasuresResponse
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import json_option, open_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.prompts import read_number
from otpqueue.domain.audit import AuditEntry, AuditFilters, AuditSurface, ErasureRecord, OperatorAction

_since = click.option(
    "--since", type=DurationType(), help="How far back, for example 90m, 24h, 2w. Default: no limit."
)
_limit = click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 500), help="Maximum number of lines."
)


@click.command()
@_since
@click.option("--actor", help="Only this operator: the beginning of a key prefix or of user@host.")
@click.option("--action", type=click.Choice([one.value for one in OperatorAction]), help="Only this action.")
@click.option(
    "--surface", type=click.Choice([one.value for one in AuditSurface]), help="Only actions made there."
)
@click.option("--client", help="Only actions that concern the client of this name.")
@click.option(
    "--number",
    "of_number",
    is_flag=True,
    help="Only actions on one number, which is read from a prompt or standard input.",
)
@_limit
@json_option
@explain_errors
def audit(
    since: timedelta | None,
    actor: str | None,
    action: str | None,
    surface: str | None,
    client: str | None,
    of_number: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List what operators did, newest first, with actor, origin, target and reason. Times are UTC."""
    filters = AuditFilters(
        since=clock.now() - since if since else None,
        actor=actor,
        action=OperatorAction(action) if action else None,
        surface=AuditSurface(surface) if surface else None,
        client=client,
        phone_number=read_number() if of_number else None,
    )
    with open_parts() as parts:
        page = parts.audit.list(filters, cursor=None, limit=limit)
    answer = AuditResponse(
        entries=[AuditEntryResponse.of(one) for one in page.entries], next_cursor=page.next_cursor
    )
    lines = [_format_entry(entry) for entry in page.entries] or ["no entries"]
    print_facts(answer.model_dump(mode="json"), lines, as_json=as_json)
    if page.next_cursor and not as_json:
        click.echo(f"only the newest {limit} are shown (--limit)", err=True)


@click.command()
@_since
@_limit
@json_option
@explain_errors
def erasures(since: timedelta | None, limit: int, as_json: bool) -> None:
    """List the erasures of numbers, newest first, as proof. Neither numbers nor hashes are kept."""
    with open_parts() as parts:
        found = parts.audit.erasures(since=clock.now() - since if since else None, limit=limit)
    answer = ErasuresResponse(erasures=[ErasureResponse.of(one) for one in found])
    lines = [_format_erasure(one) for one in found] or ["no erasures"]
    print_facts(answer.model_dump(mode="json"), lines, as_json=as_json)


def _format_erasure(one: ErasureRecord) -> str:
    where = f" ({one.surface.value})" if one.surface else ""
    why = f": {one.reason}" if one.reason else ""
    rows = sum(one.counts.values())
    return f"{one.id}  {_format_time(one.at)}  {rows} rows  by {one.by}{where}{why}"


def _format_entry(entry: AuditEntry) -> str:
    concerns = [
        *([f"client {entry.client}"] if entry.client else []),
        *([f"country {entry.country}"] if entry.country else []),
        *([entry.phone_number] if entry.phone_number else []),
        *([f"request {entry.request_id}"] if entry.request_id else []),
    ]
    outcome = "" if entry.outcome.value == "done" else f" ({entry.outcome.value})"
    parts = [
        _format_time(entry.at),
        f"{entry.actor.surface.value:<8}{entry.actor.name}",
        f"{entry.action}{outcome}",
        entry.target or "",
        ", ".join(concerns),
        f'"{entry.reason}"' if entry.reason else "",
    ]
    return "  ".join(part for part in parts if part)


def _format_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
