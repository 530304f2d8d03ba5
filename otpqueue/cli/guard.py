"""`otpqueue guard`: reports of the pumping guard, its refusals and its exceptions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import click

from otpqueue import clock
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import print_facts
from otpqueue.operations.guard.admin import GuardReport, GuardReportLine
from otpqueue.store.guard.reports import RefusalCount

_since = click.option(
    "--since",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="How far back, for example 90m, 24h, 2w.",
)


@click.group()
def guard() -> None:
    """Inspect the pumping guard and manage its exceptions."""


@guard.command(name="report")
@_since
@click.option("--country", help="Only this country (ISO 3166 alpha-2).")
@click.option("--blocks", default=20, show_default=True, help="Maximum number of blocks.")
@json_option
@explain_errors
def print_report(since: timedelta, country: str | None, blocks: int, *, as_json: bool) -> None:
    """Count sends, verifications and refusals by country and by block of 10 000 numbers, worst first.

    In shadow mode, `refused` counts requests that enforcement would have refused, and `lost` how many of
    those were verified: real users.
    """
    now = clock.now()
    parts = make_parts()
    found = parts.guard_admin.report(since=now - since, now=now, country=country and country.upper())
    mode = parts.guard.mode.value
    facts = {
        "mode": mode,
        "since": found.since,
        "refusals": [
            {"mode": mode, "reason": reason, "tries": tries}
            for (mode, reason), tries in found.reasons.items()
        ],
        "countries": found.countries,
        "blocks": found.blocks[:blocks],
    }
    print_facts(facts, _format_report(found, mode, blocks), as_json=as_json)


def _format_report(found: GuardReport, mode: str, blocks: int) -> Iterator[str]:
    yield f"mode {mode}, since {found.since:%Y-%m-%d %H}:00 UTC"
    for (refused_in, reason), tries in found.reasons.items():
        yield f"{'refused' if refused_in == 'enforce' else 'would have refused'}: {tries} {reason}"
    for title, lines in (("country", found.countries), ("block", found.blocks[:blocks])):
        yield ""
        yield f"{title:<16}{'sent':>9}{'verified':>10}{'share':>7}{'budget':>8}{'refused':>9}{'lost':>7}"
        yield from map(_format_row, lines)
    if len(found.blocks) > blocks:
        yield f"... and {len(found.blocks) - blocks} more blocks (--blocks)"


def _format_row(line: GuardReportLine) -> str:
    share = "-" if line.share is None else f"{line.share:.0%}"
    may = "-" if line.budget is None else f"{line.budget:g}"
    return (
        f"{line.subject:<16}{line.sent:>9}{line.verified:>10}{share:>7}{may:>8}{line.refused:>9}"
        f"{line.refused_verified:>7}"
    )


@guard.command(name="decisions")
@_since
@click.option("--limit", default=50, show_default=True, help="Maximum number of lines.")
@json_option
@explain_errors
def list_decisions(since: timedelta, limit: int, *, as_json: bool) -> None:
    """List refusals, newest first: one line per minute, client, country and reason."""
    found = make_parts().guard_admin.decisions(since=clock.now() - since, limit=limit)
    print_facts(found, map(_format_decision, found) if found else ["nothing refused"], as_json=as_json)


def _format_decision(one: RefusalCount) -> str:
    verb = "refused" if one.mode == "enforce" else "would have refused"
    return (
        f"{one.minute:%Y-%m-%d %H:%M}Z  {one.client}  {one.country}  {verb} {one.tries}: {one.reason}, "
        f"{one.at_risk} unverified of {one.budget:g} allowed (first: block {one.block})"
    )


@guard.command(name="allow")
@click.argument("subject")
@click.option(
    "--for",
    "lasting",
    type=DurationType(),
    default="24h",
    show_default=True,
    help="How long, for example 30m, 24h, 2w.",
)
@reason_option
@json_option
@explain_errors
def allow_subject(subject: str, lasting: timedelta, reason: str | None, *, as_json: bool) -> None:
    """Exempt SUBJECT from the guard for a while: a country (GB) or the first digits of numbers (447911)."""
    guard_admin = make_parts().guard_admin
    until = guard_admin.allow(subject, lasting=lasting, reason=reason, now=clock.now())
    line = f"{subject} is exempt until {until:%Y-%m-%d %H:%M} UTC"
    print_facts({"subject": subject, "until": until}, [line], as_json=as_json)


@guard.command(name="disallow")
@click.argument("subject")
@reason_option
@json_option
@explain_errors
def end_exception(subject: str, reason: str | None, *, as_json: bool) -> None:
    """End the exception for SUBJECT."""
    if not make_parts().guard_admin.disallow(subject, reason=reason):
        raise CommandFailed(ExitCode.NOT_FOUND, f"{subject} has no exception.")
    print_facts({"subject": subject, "until": None}, [f"{subject} is guarded again"], as_json=as_json)


@guard.command(name="list")
@json_option
@explain_errors
def list_exceptions(*, as_json: bool) -> None:
    """List the exceptions."""
    found = make_parts().guard_admin.exceptions(now=clock.now())
    lines = (f"{one.subject}  until {one.until:%Y-%m-%d %H:%M} UTC" for one in found)
    print_facts(found, lines, as_json=as_json)
