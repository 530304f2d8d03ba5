"""`otpqueue erase` and `otpqueue purge`: delete personal data on request, or when retention ends."""

from __future__ import annotations

import sys
from collections import Counter

import click

from otpqueue import clock
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, open_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.progress import show_progress
from otpqueue.cli.prompts import add_yes_option, confirm, read_numbers, require_terminal
from otpqueue.domain import phone
from otpqueue.domain.errors import InvalidPhoneNumber


@click.command()
@click.option("--country", help="Country of national numbers, for example GB.")
@reason_option
@add_yes_option
@json_option
@explain_errors
def erase(country: str | None, reason: str | None, *, yes: bool, as_json: bool) -> None:
    """Erase all data of phone numbers, for every client.

    A number is read from a prompt, or one from each line of standard input:
    `otpqueue erase --yes < numbers.txt`. If a line is not a number, none is erased.
    `otpqueue erasures` lists erasures as proof.
    """
    country = country.upper() if country else None
    # Before the numbers are read.
    require_terminal(yes=yes)
    numbers = read_numbers()
    _check_numbers(numbers, country)
    what = "this number" if len(numbers) == 1 else f"these {len(numbers)} numbers"
    confirm(f"Erase all data of {what}, for every client?", yes=yes)
    counts: Counter[str] = Counter()
    with open_parts() as parts, show_progress() as progress:
        for done, number in enumerate(numbers, 1):
            erased = parts.erase(number, country=country, client_id=None, reason=reason, now=clock.now())
            counts.update(erased)
            if len(numbers) > 1:
                progress("numbers", done, len(numbers))
    lines = (f"{table}: {count}" for table, count in counts.items())
    print_facts({"numbers": len(numbers), "rows": counts}, lines, as_json=as_json)
    if not as_json:
        click.echo(f"proof: otpqueue erasures --limit {min(len(numbers), 500)}", err=True)


def _check_numbers(numbers: list[str], country: str | None) -> None:
    """Raise CommandFailed for the first number that cannot be erased. It names the line, not the number."""
    if not numbers:
        raise CommandFailed(ExitCode.USAGE, "Standard input has no phone number.")
    for line, number in enumerate(numbers, 1):
        try:
            phone.list_stored_forms(number, country=country)
        except InvalidPhoneNumber as error:
            where = f"number {line} of {len(numbers)}: " if len(numbers) > 1 else ""
            raise CommandFailed(
                ExitCode.REFUSED, f"{where}{error.errors[0].field} {error.errors[0].message}"
            ) from None


@click.command()
@click.option("--dry-run", is_flag=True, help="Count the rows past retention, and delete none.")
@json_option
@explain_errors
def purge(*, dry_run: bool, as_json: bool) -> None:
    """Delete rows past their retention now. Workers do this every hour."""
    now = clock.now()
    with open_parts() as parts, show_progress() as progress:
        # Counting takes as long as some batches: only a bar needs the totals.
        due = parts.purge.due(now=now) if dry_run or sys.stderr.isatty() else {}
        counts = (
            due
            if dry_run
            else parts.purge(
                now=now, progress=lambda table, done: progress(table, done, max(done, due.get(table, 0)))
            )
        )
    lines = (f"{table}: {count} {'too old' if dry_run else 'deleted'}" for table, count in counts.items())
    print_facts({"dry_run": dry_run, "rows": counts}, lines, as_json=as_json)
