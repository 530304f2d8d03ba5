"""`otpqueue erase` and `otpqueue purge`: what is stored of persons goes, at their wish or for its age."""

from __future__ import annotations

from contextlib import closing

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.cli.typed import typed_number
from otpqueue.wiring import Parts


@click.command()
@click.option("--country", help="Country of a national number, e.g. GB.")
@explained
def erase(country: str | None) -> None:
    """Erase all that concerns a phone number, for every client.

    The number is asked for, or read from stdin: `otpqueue erase < number.txt`.
    """
    country = country.upper() if country else None
    with closing(Parts(settings.load())) as parts:
        counts = parts.erase(typed_number(), country=country, client_id=None, now=clock.now())
    for table, count in counts.items():
        click.echo(f"{table}: {count}")


@click.command()
@click.option("--dry-run", is_flag=True, help="Say how many rows are too old, and delete none.")
@explained
def purge(*, dry_run: bool) -> None:
    """Delete what has been kept long enough. Workers do so every hour; this is for the impatient."""
    now = clock.now()
    with closing(Parts(settings.load())) as parts:
        counts = parts.purge.due(now=now) if dry_run else parts.purge(now=now)
    for table, count in counts.items():
        click.echo(f"{table}: {count} {'too old' if dry_run else 'deleted'}")
