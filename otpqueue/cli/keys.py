"""`otpqueue keys`: create, list, rotate and revoke API keys."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from otpqueue import clock
from otpqueue.cli import rotation
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import format_table, print_facts
from otpqueue.domain.keys import KeyState
from otpqueue.store.clients import ApiKey

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
    help="send, verify, read or admin. May be repeated.",
)
@click.option(
    "--expires-in",
    type=DurationType(),
    help="Lifetime of the key, for example 90d. Default: it does not expire.",
)
@click.option("--note", help="Purpose of the key; `list` shows it.")
@json_option
@explain_errors
def create_key(
    client: str, scopes: tuple[str, ...], expires_in: timedelta | None, note: str | None, *, as_json: bool
) -> None:
    """Create a key and print it. It is shown only once: only its hash is stored."""
    key = make_parts().keys.create(
        client=client, scopes=frozenset(scopes), expires_in=expires_in, note=note, now=clock.now()
    )
    print_facts({"key": key, "client": client, "scopes": sorted(set(scopes))}, [key], as_json=as_json)


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
@json_option
@explain_errors
def rotate_key(prefix: str, overlap: timedelta, expires_in: timedelta | None, *, as_json: bool) -> None:
    """Replace the key with this PREFIX or id, and print the new key. It is shown only once.

    The new key has the same client, scopes and note.
    """
    rotated = make_parts().keys.rotate(prefix, overlap=overlap, expires_in=expires_in, now=clock.now())
    old = rotated.old
    facts = {"key": rotated.key, "old_prefix": old.prefix, "old_expires_at": old.expires_at}
    print_facts(facts, [rotated.key], as_json=as_json)
    click.echo(f"{old.prefix} works until {_format_time(old.expires_at)} UTC", err=True)


@keys.command(name="list")
@json_option
@explain_errors
def list_keys(*, as_json: bool) -> None:
    """List keys by prefix, oldest first. Times are UTC."""
    now = clock.now()
    found = make_parts().keys.list()
    lines = format_table([_COLUMNS, *(_format_row(key, now) for key in found)])
    print_facts([_describe_key(key, now) for key in found], lines, as_json=as_json)


@keys.command(name="revoke")
@click.argument("prefix")
@json_option
@explain_errors
def revoke_key(prefix: str, *, as_json: bool) -> None:
    """Revoke the key with this PREFIX (see `list`) or id, with immediate effect."""
    now = clock.now()
    revoked = make_parts().keys.revoke(prefix, now=now)
    print_facts(_describe_key(revoked, now), [f"revoked {revoked.prefix}"], as_json=as_json)


def _describe_key(key: ApiKey, now: datetime) -> dict[str, object]:
    return {
        "id": key.id,
        "prefix": key.prefix,
        "client": key.client_name,
        "scopes": key.scopes,
        "state": key.state(now),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
        "revoked_at": key.revoked_at,
        "last_used_at": key.last_used_at,
        "note": key.note,
    }


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
