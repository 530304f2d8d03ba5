"""`otpqueue clients`: who may call, and what is set for each of them alone."""

from __future__ import annotations

import json

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.domain.client_settings import PATHS, Stored, flat, not_understood
from otpqueue.operations.clients import Clients
from otpqueue.wiring import Parts


def _clients() -> Clients:
    return Parts(settings.load()).clients


def _lines(stored: Stored) -> list[str]:
    """Return stored settings as `set` takes them."""
    return [
        f"{path}={','.join(value) if isinstance(value, list) else value}"
        for path, value in sorted(flat(stored).items())
    ]


@click.group()
def clients() -> None:
    """Make clients, and set for one what differs from the deployment's settings."""


@clients.command()
@click.argument("name")
@explained
def create(name: str) -> None:
    """Make a client called NAME; `otpqueue keys create --client NAME` makes one, too, and a key."""
    _clients().create(name, now=clock.now())
    click.echo(f"made {name}")


@clients.command(name="list")
@explained
def list_() -> None:
    """List clients with what is set for them."""
    for client in _clients().list():
        own = " ".join(_lines(client.settings))
        click.echo(f"{client.name}  {client.created_at:%Y-%m-%d %H:%M}  {own}".rstrip())


@clients.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as they are stored.")
@explained
def show(name: str, as_json: bool) -> None:
    """Show what is set for the client NAME; all else is as the deployment has it."""
    client = _clients().show(name)
    if as_json:
        click.echo(json.dumps(client.settings, indent=2))
        return
    for line in _lines(client.settings):
        click.echo(line)
    for path in not_understood(client.settings):
        click.echo(f"{path} is not heeded: this version cannot read it", err=True)


@clients.command(name="set", help=f"Set PATH=VALUE for the client NAME: {', '.join(PATHS)}.")
@click.argument("name")
@click.argument("setting", metavar="PATH=VALUE")
@explained
def set_(name: str, setting: str) -> None:
    """Set PATH=VALUE for the client NAME."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise click.ClickException("give PATH=VALUE, e.g. limits.number_15m=5/15m")
    _clients().set(name, path.strip(), text.strip())
    click.echo(f"{name}: {path.strip()}={text.strip()}")


@clients.command()
@click.argument("name")
@click.argument("path")
@explained
def unset(name: str, path: str) -> None:
    """Have the deployment's setting at PATH apply to the client NAME again."""
    _clients().unset(name, path)
    click.echo(f"{name}: {path} is as the deployment has it")
