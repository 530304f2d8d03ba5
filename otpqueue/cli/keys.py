"""`otpqueue keys`: create, list, rotate and revoke API keys."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from otpqueue import clock, settings
from otpqueue.cli import rotation
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.domain.keys import KeyState
from otpqueue.store.clients import ApiKey
from otpqueue.wiring import Parts

_COLUMNS = ("PREFIX", "CLIENT", "SCOPES", "CREATED", "STATE", "LAST USED", "NOTE")


@click.group()
def keys() -> None:
    """Create, list, rotate and revoke API keys."""


@keys.command(name="create")
@click.option("--client", required=True, help="The client of the key; created if it does not exist.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("send", "verify"),
    show_default=True,
    help="send, verify or admin. May be repeated.",
)
@click.option(
    "--expires-in",
    type=DurationType(),
    help="Lifetime of the key, for example 90d. Default: it does not expire.",
)
@click.option("--note", help="Purpose of the key; `list` shows it.")
@explain_errors
def create_key(client: str, scopes: tuple[str, ...], expires_in: timedelta | None, note: str | None) -> None:
    """Create a key and print it. It is shown only once: only its hash is stored."""
    key = Parts(settings.load()).keys.create(
        client=client, scopes=frozenset(scopes), expires_in=expires_in, note=note, now=clock.now()
    )
    click.echo(key)


@keys.command(name="rotate")
@click.argument("prefix")
@click.option(
    "--overlap",
    type=DurationType(zero=True),
    default="24h",
    show_default=True,
    help="How long the old key keeps working.",
)
@click.option(
    "--expires-in", type=DurationType(), help="Lifetime of the new key. Default: that of the old key."
)
@explain_errors
def rotate_key(prefix: str, overlap: timedelta, expires_in: timedelta | None) -> None:
    """Replace the key with this PREFIX or id, and print the new key. It is shown only once.

    The new key has the same client, scopes and note.
    """
    rotated = Parts(settings.load()).keys.rotate(
        prefix, overlap=overlap, expires_in=expires_in, now=clock.now()
    )
    click.echo(rotated.key)
    click.echo(f"{rotated.old.prefix} works until {_format_time(rotated.old.expires_at)} UTC", err=True)


@keys.command(name="list")
@explain_errors
def list_keys() -> None:
    """List keys by prefix, oldest first. Times are UTC."""
    now = clock.now()
    rows = [_COLUMNS, *(_format_row(key, now) for key in Parts(settings.load()).keys.list())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command(name="revoke")
@click.argument("prefix")
@explain_errors
def revoke_key(prefix: str) -> None:
    """Revoke the key with this PREFIX (see `list`) or id, with immediate effect."""
    click.echo(f"revoked {Parts(settings.load()).keys.revoke(prefix, now=clock.now()).prefix}")


def _format_row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    state = key.state(now)
    ends = key.revoked_at if state is KeyState.REVOKED else key.expires_at
    return (
        key.prefix,
        key.client_name,
        ",".join(sorted(key.scopes)),
        _format_time(key.created_at),
        f"{state} {_format_time(ends)}" if ends else state.value,
        _format_time(key.last_used_at),
        key.note or "",
    )


def _format_time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "never"


for _command in rotation.COMMANDS:
    keys.add_command(_command)
