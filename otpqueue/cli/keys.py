"""`otpqueue keys`: API keys of clients."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any

import click

from otpqueue import clock, settings
from otpqueue.cli import rotation
from otpqueue.cli.errors import explained
from otpqueue.domain.keys import KeyState
from otpqueue.store.clients import ApiKey
from otpqueue.wiring import Parts

_COLUMNS = ("PREFIX", "CLIENT", "SCOPES", "CREATED", "STATE", "LAST USED", "NOTE")


class Duration(click.ParamType[timedelta]):
    """A length of time: a number and one of `s m h d w`."""

    name = "duration"
    _UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}  # noqa: RUF012

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the length of time that `value` says."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,6})([smhdw])", value)
        if not found:
            self.fail(f"{value!r} is no length of time; write 90d, 24h, 30m or 45s", param, ctx)
        return timedelta(**{self._UNITS[found[2]]: int(found[1])})


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.option("--client", required=True, help="Who the key is for; made if there is none of this name.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    default=("send", "verify"),
    show_default=True,
    help="send, verify or admin; may be given more than once.",
)
@click.option("--expires-in", type=Duration(), help="It works for so long, e.g. 90d; for ever unless given.")
@click.option("--note", help="What it is for, shown by `list`.")
@explained
def create(client: str, scopes: tuple[str, ...], expires_in: timedelta | None, note: str | None) -> None:
    """Make a key and print it, once: only its hash is kept."""
    key = Parts(settings.load()).keys.create(
        client=client, scopes=frozenset(scopes), expires_in=expires_in, note=note, now=clock.now()
    )
    click.echo(key)


@keys.command()
@click.argument("prefix")
@click.option(
    "--overlap", type=Duration(), default="24h", show_default=True, help="So long the old key works on."
)
@click.option("--expires-in", type=Duration(), help="Life of the new key; that of the old one unless given.")
@explained
def rotate(prefix: str, overlap: timedelta, expires_in: timedelta | None) -> None:
    """Make a key in the place of the one with this PREFIX (or id), and print it, once.

    It has the same client, scopes and note.
    """
    rotated = Parts(settings.load()).keys.rotate(
        prefix, overlap=overlap, expires_in=expires_in, now=clock.now()
    )
    click.echo(rotated.key)
    click.echo(f"{rotated.old.prefix} works until {_moment(rotated.old.expires_at)} UTC", err=True)


@keys.command(name="list")
@explained
def list_() -> None:
    """List keys by their prefixes, oldest first; times are UTC."""
    now = clock.now()
    rows = [_COLUMNS, *(_row(key, now) for key in Parts(settings.load()).keys.list())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@keys.command()
@click.argument("prefix")
@explained
def revoke(prefix: str) -> None:
    """Revoke the key with this PREFIX (as `list` shows it) or id, from now on."""
    click.echo(f"revoked {Parts(settings.load()).keys.revoke(prefix, now=clock.now()).prefix}")


def _row(key: ApiKey, now: datetime) -> tuple[str, ...]:
    state = key.state(now)
    ends = key.revoked_at if state is KeyState.REVOKED else key.expires_at
    return (
        key.prefix,
        key.client_name,
        ",".join(sorted(key.scopes)),
        _moment(key.created_at),
        f"{state} {_moment(ends)}" if ends else state.value,
        _moment(key.last_used_at),
        key.note or "",
    )


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M}" if at else "never"


for _command in rotation.COMMANDS:
    keys.add_command(_command)
