"""`otpqueue erase` and `otpqueue purge`: delete personal data on request, or when retention ends."""

from __future__ import annotations

from contextlib import closing

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.prompts import read_number
from otpqueue.wiring import Parts


@click.command()
@click.option("--country", help="Country of a national number, for example GB.")
@explain_errors
def erase(country: str | None) -> None:
    """Erase all data of a phone number, for every client.

    The number is read from a prompt or standard input: `otpqueue erase < number.txt`.
    """
    country = country.upper() if country else None
    with closing(Parts(settings.load())) as parts:
        counts = parts.erase(read_number(), country=country, client_id=None, now=clock.now())
    for table, count in counts.items():
        click.echo(f"{table}: {count}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Count the rows past retention, and delete none.")
@explain_errors
def purge(*, dry_run: bool) -> None:
    """Delete rows past their retention now. Workers do this every hour."""
    now = clock.now()
    with closing(Parts(settings.load())) as parts:
        counts = parts.purge.due(now=now) if dry_run else parts.purge(now=now)
    for table, count in counts.items():
        click.echo(f"{table}: {count} {'too old' if dry_run else 'deleted'}")
