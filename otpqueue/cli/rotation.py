"""`otpqueue keys rotate-seal | rotate-hash | drop-sealed`: replace the vault's keys."""

from __future__ import annotations

from collections.abc import Iterator

import click

from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.options import json_option, open_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.progress import show_progress
from otpqueue.cli.prompts import add_yes_option, confirm
from otpqueue.operations.privacy import rotate_seal as seals
from otpqueue.operations.privacy.rotate_hash import HashKeyReport
from otpqueue.operations.privacy.rotate_seal import SealKeyReport
from otpqueue.store.vault import MOST_SEALS

_batch = click.option(
    "--batch",
    type=click.IntRange(1, 10_000),
    default=seals.BATCH,
    show_default=True,
    help="Rows per step. Each step locks its rows for some milliseconds.",
)
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Show the progress of the rotation, and change nothing."
)


@click.command(name="rotate-seal")
@_batch
@_dry_run
@json_option
@explain_errors
def rotate_seal(batch: int, *, dry_run: bool, as_json: bool) -> None:
    """Re-encrypt all stored numbers with the first key of OTPQUEUE_SEAL_KEYS.

    It may be interrupted and run again. docs/privacy.md describes the procedure.
    """
    with open_parts() as parts, show_progress() as progress:
        rotate = parts.rotate_seal
        sealed = rotate.report() if dry_run else rotate(progress=progress, batch=batch)
    configured = rotate.vault.seal_key_ids
    print_facts(sealed, _format_sealed(sealed, configured), as_json=as_json)
    for line in _list_seal_warnings(sealed, configured):
        click.echo(line, err=True)


def _format_sealed(sealed: SealKeyReport, configured: tuple[str, ...]) -> Iterator[str]:
    for key_id, count in sealed.counts.items():
        role = "not in OTPQUEUE_SEAL_KEYS" if key_id not in configured else ""
        role = "seals" if key_id == configured[0] else role or "older"
        yield f"{key_id} ({role}): {count} numbers"
    seals = sealed.seals.get(configured[0], 0)
    yield f"{configured[0]} has sealed {seals} texts, {seals / MOST_SEALS:.1%} of the limit of one key"
    if sealed.removable:
        yield f"removable from OTPQUEUE_SEAL_KEYS: {', '.join(sealed.removable)}"
    else:
        yield "no key may be removed from OTPQUEUE_SEAL_KEYS"


def _list_seal_warnings(sealed: SealKeyReport, configured: tuple[str, ...]) -> Iterator[str]:
    if sealed.seals.get(configured[0], 0) >= MOST_SEALS / 2:
        yield f"{configured[0]} must be replaced: put a new key before it (docs/privacy.md)"
    for key_id, count in sealed.unopened.items():
        yield f"{key_id} cannot decrypt {count} of them. Is it a different key with the same id?"


@click.command(name="rotate-hash")
@_batch
@_dry_run
@click.option(
    "--drop-unknown",
    is_flag=True,
    help="Delete hashes of numbers that no stored request can be used to rehash.",
)
@json_option
@explain_errors
def rotate_hash(batch: int, *, dry_run: bool, drop_unknown: bool, as_json: bool) -> None:
    """Rehash all stored numbers with the first key of OTPQUEUE_HASH_KEY.

    It may be interrupted and run again. docs/privacy.md describes the procedure.
    """
    with open_parts() as parts, show_progress() as progress:
        rotate = parts.rotate_hash
        if not rotate.replacing:
            raise CommandFailed(
                ExitCode.CONFIGURATION,
                "OTPQUEUE_HASH_KEY holds one key. To replace it, put the new key and a comma before it.",
            )
        left = (
            rotate.report() if dry_run else rotate(progress=progress, batch=batch, drop_unknown=drop_unknown)
        )
    print_facts({"needed": left.needed, "uses": left.uses}, _format_hashed(left), as_json=as_json)


def _format_hashed(left: HashKeyReport) -> Iterator[str]:
    for use in left.uses:
        rows = "unknown" if use.rows is None else use.rows
        until = f"until {use.until:%Y-%m-%d %H:%M}Z" if use.until else "no end date"
        yield f"{use.what}: {rows} under the old key, {until}; {use.todo}"
    if left.needed:
        yield f"the old key is still needed{_format_end(left)}"
    else:
        yield "the old key may be removed from OTPQUEUE_HASH_KEY"


def _format_end(left: HashKeyReport) -> str:
    """Return the end of all uses of the old key, or nothing when some use does not end by waiting."""
    ends = [use.until for use in left.uses]
    known = [end for end in ends if end]
    return f", until {max(known):%Y-%m-%d %H:%M}Z" if known and len(known) == len(ends) else ""


@click.command(name="drop-sealed")
@click.argument("key_id")
@add_yes_option
@json_option
@explain_errors
def drop_sealed(key_id: str, *, yes: bool, as_json: bool) -> None:
    """Delete the requests with a number sealed with KEY_ID, a key that is lost."""
    confirm("Delete every request with a number sealed with this key?", yes=yes)
    try:
        with open_parts() as parts:
            count = parts.rotate_seal.drop(key_id)
    except ValueError as refusal:
        raise CommandFailed(ExitCode.REFUSED, str(refusal)) from None
    print_facts({"key_id": key_id, "deleted": count}, [f"deleted {count} requests"], as_json=as_json)


COMMANDS = (rotate_seal, rotate_hash, drop_sealed)
