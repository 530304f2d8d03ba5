"""`otpqueue clients`: the callers of the API, and the settings of each."""

from __future__ import annotations

import base64
from pathlib import Path

import click

from otpqueue import clock
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import json_option, make_parts
from otpqueue.cli.output import print_facts
from otpqueue.domain.client_settings import PATHS, Stored, flatten_settings, list_unknown_settings
from otpqueue.domain.page_settings import MAX_LOGO_BYTES
from otpqueue.operations.access.clients import Clients


def _load_clients() -> Clients:
    return make_parts().clients


_LONGEST_SHOWN = 120
_MEDIA_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp"}


def _read_picture(name: str) -> str:
    """Return a picture in a file as a `data:` URL."""
    path = Path(name)
    media_type = _MEDIA_TYPES.get(path.suffix.lower())
    if media_type is None:
        raise click.UsageError(f"{path.name} must be one of {', '.join(_MEDIA_TYPES)}")
    try:
        size = path.stat().st_size
        if size > MAX_LOGO_BYTES:
            raise click.UsageError(f"{path.name} has {size} bytes. At most {MAX_LOGO_BYTES} are possible.")
        data = path.read_bytes()
    except OSError as error:
        raise click.UsageError(f"{path.name} cannot be read: {error.strerror}") from None
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:40]}... ({len(text)} characters)"


def _format_settings(stored: Stored) -> list[str]:
    """Return stored settings as PATH=VALUE, the form that `set` accepts."""
    return [
        f"{path}={_shorten(','.join(value) if isinstance(value, list) else str(value))}"
        for path, value in sorted(flatten_settings(stored).items())
    ]


@click.group()
def clients() -> None:
    """Create clients and override settings for one client."""


@clients.command(name="create")
@click.argument("name")
@json_option
@explain_errors
def create_client(name: str, *, as_json: bool) -> None:
    """Create the client NAME. `otpqueue keys create --client NAME` also creates it."""
    _load_clients().create(name, now=clock.now())
    print_facts({"client": name}, [f"created {name}"], as_json=as_json)


@clients.command(name="list")
@json_option
@explain_errors
def list_clients(*, as_json: bool) -> None:
    """List clients and their overridden settings."""
    found = _load_clients().list()
    facts = [
        {"client": one.name, "created_at": one.created_at, "settings": dict(one.settings)} for one in found
    ]
    lines = (
        f"{one.name}  {one.created_at:%Y-%m-%d %H:%M}  {' '.join(_format_settings(one.settings))}".rstrip()
        for one in found
    )
    print_facts(facts, lines, as_json=as_json)


@clients.command(name="show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print the stored settings as JSON.")
@explain_errors
def show_client(name: str, as_json: bool) -> None:
    """Show the settings overridden for the client NAME. The deployment's settings apply otherwise."""
    client = _load_clients().show(name)
    print_facts(client.settings, _format_settings(client.settings), as_json=as_json)
    for path in list_unknown_settings(client.settings):
        click.echo(f"{path} is ignored: this version does not support it", err=True)


@clients.command(
    name="set", help=f"Override a setting for the client NAME.\n\nPATH is one of {', '.join(PATHS)}."
)
@click.argument("name")
@click.argument("setting", metavar="PATH=VALUE")
@json_option
@explain_errors
def set_setting(name: str, setting: str, *, as_json: bool) -> None:
    """Override the setting PATH for the client NAME. `page.logo=@FILE` stores a picture."""
    path, equals, text = setting.partition("=")
    if not equals:
        raise click.UsageError("Give PATH=VALUE, for example limits.number_15m=5/15m.")
    path, text = path.strip(), text.strip()
    if path == "page.logo" and text.startswith("@"):
        text = _read_picture(text.removeprefix("@"))
    _load_clients().set(name, path, text)
    print_facts(
        {"client": name, "path": path, "value": text}, [f"{name}: {path}={_shorten(text)}"], as_json=as_json
    )


@clients.command(name="unset")
@click.argument("name")
@click.argument("path")
@json_option
@explain_errors
def unset_setting(name: str, path: str, *, as_json: bool) -> None:
    """Remove an override: the deployment's setting PATH applies to the client NAME again."""
    _load_clients().unset(name, path)
    line = f"{name}: {path} follows the deployment's setting"
    print_facts({"client": name, "path": path, "value": None}, [line], as_json=as_json)
