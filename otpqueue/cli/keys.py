"""`otpqueue keys`: API keys of clients."""

from __future__ import annotations

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.wiring import Parts


@click.group()
def keys() -> None:
    """Make, list and revoke API keys."""


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
@explained
def create(client: str, scopes: tuple[str, ...]) -> None:
    """Make a key and print it, once: only its hash is kept."""
    click.echo(Parts(settings.load()).keys.create(client=client, scopes=frozenset(scopes), now=clock.now()))


@keys.command(name="list")
@explained
def list_() -> None:
    """List keys by their prefixes."""
    for key in Parts(settings.load()).keys.list():
        state = f"revoked {key.revoked_at:%Y-%m-%d %H:%M}" if key.revoked_at else "in force"
        scopes = ",".join(sorted(key.scopes))
        click.echo(f"{key.prefix}  {key.client_name}  {scopes}  {key.created_at:%Y-%m-%d %H:%M}  {state}")


@keys.command()
@click.argument("prefix")
@explained
def revoke(prefix: str) -> None:
    """Revoke the key with this PREFIX (as `list` shows it), from now on."""
    if not Parts(settings.load()).keys.revoke(prefix, now=clock.now()):
        raise click.ClickException(f"no key in force has the prefix {prefix}")
    click.echo(f"revoked {prefix}")
