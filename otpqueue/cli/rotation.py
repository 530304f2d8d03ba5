"""`otpqueue keys rotate-seal | rotate-hash | drop-sealed`: replace the vault's keys."""

from __future__ import annotations

from contextlib import closing

import click

from otpqueue import settings
from otpqueue.cli.errors import explain_errors
from otpqueue.operations.privacy import rotate_seal as seals
from otpqueue.operations.privacy.rotate_hash import HashKeyReport
from otpqueue.operations.privacy.rotate_seal import SealKeyReport
from otpqueue.store.vault import MOST_SEALS
from otpqueue.wiring import Parts

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
@explain_errors
def rotate_seal(batch: int, *, dry_run: bool) -> None:
    """Re-encrypt all stored numbers with the first key of OTPQUEUE_SEAL_KEYS.

    It may be interrupted and run again. docs/privacy.md describes the procedure.
    """
    with closing(Parts(settings.load())) as parts:
        rotate = parts.rotate_seal
        sealed = rotate.report() if dry_run else rotate(progress=_print_progress, batch=batch)
    _print_sealed(sealed, rotate.vault.seal_key_ids)


def _print_progress(key: str, done: int, of: int) -> None:
    click.echo(f"{key}: {done} of {of}, {of - done} left")


def _print_sealed(sealed: SealKeyReport, configured: tuple[str, ...]) -> None:
    for key_id, count in sealed.counts.items():
        role = "not in OTPQUEUE_SEAL_KEYS" if key_id not in configured else ""
        role = "seals" if key_id == configured[0] else role or "older"
        click.echo(f"{key_id} ({role}): {count} numbers")
    seals = sealed.seals.get(configured[0], 0)
    click.echo(f"{configured[0]} has sealed {seals} texts, {seals / MOST_SEALS:.1%} of the limit of one key")
    if seals >= MOST_SEALS / 2:
        click.echo(f"{configured[0]} must be replaced: put a new key before it (docs/privacy.md)", err=True)
    for key_id, count in sealed.unopened.items():
        click.echo(
            f"{key_id} cannot decrypt {count} of them. Is it a different key with the same id?", err=True
        )
    if sealed.removable:
        click.echo(f"removable from OTPQUEUE_SEAL_KEYS: {', '.join(sealed.removable)}")
    else:
        click.echo("no key may be removed from OTPQUEUE_SEAL_KEYS")


@click.command(name="rotate-hash")
@_batch
@_dry_run
@click.option(
    "--drop-unknown",
    is_flag=True,
    help="Delete hashes of numbers that no stored request can be used to rehash.",
)
@explain_errors
def rotate_hash(batch: int, *, dry_run: bool, drop_unknown: bool) -> None:
    """Rehash all stored numbers with the first key of OTPQUEUE_HASH_KEY.

    It may be interrupted and run again. docs/privacy.md describes the procedure.
    """
    with closing(Parts(settings.load())) as parts:
        rotate = parts.rotate_hash
        if not rotate.replacing:
            raise click.ClickException(
                "OTPQUEUE_HASH_KEY holds one key. To replace it, put the new key and a comma before it."
            )
        left = (
            rotate.report()
            if dry_run
            else rotate(progress=_print_progress, batch=batch, drop_unknown=drop_unknown)
        )
    _print_hashed(left)


def _print_hashed(left: HashKeyReport) -> None:
    for use in left.uses:
        rows = "unknown" if use.rows is None else use.rows
        until = f"until {use.until:%Y-%m-%d %H:%M}Z" if use.until else "no end date"
        click.echo(f"{use.what}: {rows} under the old key, {until}; {use.todo}")
    if left.needed:
        click.echo(f"the old key is still needed{_format_end(left)}")
    else:
        click.echo("the old key may be removed from OTPQUEUE_HASH_KEY")


def _format_end(left: HashKeyReport) -> str:
    """Return the end of all uses of the old key, or nothing when some use does not end by waiting."""
    ends = [use.until for use in left.uses]
    known = [end for end in ends if end]
    return f", until {max(known):%Y-%m-%d %H:%M}Z" if known and len(known) == len(ends) else ""


@click.command(name="drop-sealed")
@click.argument("key_id")
@click.confirmation_option(prompt="Delete every request with a number sealed with this key?")
@explain_errors
def drop_sealed(key_id: str) -> None:
    """Delete the requests with a number sealed with KEY_ID, a key that is lost."""
    try:
        with closing(Parts(settings.load())) as parts:
            count = parts.rotate_seal.drop(key_id)
    except ValueError as refusal:
        raise click.ClickException(str(refusal)) from None
    click.echo(f"deleted {count} requests")


COMMANDS = (rotate_seal, rotate_hash, drop_sealed)
