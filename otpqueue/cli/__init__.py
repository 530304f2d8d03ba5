"""The `otpqueue` command. A subcommand's module is imported when the subcommand is asked for."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import cast

import click

from otpqueue import logs

COMMANDS: Mapping[str, str] = {
    "dev": "dev",
    "api": "services",
    "worker": "services",
    "beat": "services",
    "migrate": "services",
    "provision": "services",
    "clients": "clients",
    "keys": "keys",
    "numbers": "numbers",
    "guard": "guard",
    "alerts": "alerts",
    "requests": "requests",
    "stats": "stats",
    "webhooks": "webhooks",
    "erase": "privacy",
    "purge": "privacy",
    "stop-sending": "sending",
    "resume-sending": "sending",
    "sending-status": "sending",
    "send": "codes",
    "status": "codes",
    "verify": "codes",
}
"""The module in this package that defines each subcommand, as an attribute of the same name."""


class _Group(click.Group):
    """Imports subcommands on demand. `simulator` works only when its server is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's name
        return [*sorted(COMMANDS), "simulator"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name == "simulator":
            return _simulator()
        if cmd_name not in COMMANDS:
            return None
        with _no_garbage_collection():
            module = import_module(f"otpqueue.cli.{COMMANDS[cmd_name]}")
        return cast("click.Command", getattr(module, cmd_name.replace("-", "_")))


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Turn garbage collection off. It takes an eighth of the time of imports, which leave little garbage."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _simulator() -> click.Command:
    try:
        from otpqueue.simulator.command import simulator  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        return _without(error.name)
    return simulator


def _without(module: str | None) -> click.Command:
    """Return what stands in for `simulator` where it is not installed: `--help` lists all commands."""

    def complain() -> None:
        raise click.ClickException(f"the simulator needs {module}: pip install 'otpqueue[simulator]'")

    return click.Command(
        "simulator",
        callback=complain,
        help="Run a local stand-in for the Infobip 2FA API (not installed).",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otpqueue")
def main() -> None:
    """SMS one-time passcodes as a service.

    Start with `otpqueue dev`: everything on one machine, nothing real sent.
    """
    # What a command prints goes to stdout; its records, if any, to stderr. Services configure their own.
    logs.configure(process="otpqueue", style="readable", level="WARNING")
