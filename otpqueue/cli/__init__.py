"""The `otpqueue` command. Each subcommand's module is imported only when the subcommand is used."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import cast

import click

from otpqueue.telemetry import logs

COMMANDS: Mapping[str, str] = {
    "dev": "dev",
    "api": "services",
    "worker": "services",
    "beat": "services",
    "migrate": "services",
    "provision": "services",
    "settings": "configuration",
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


class _LazyGroup(click.Group):
    """Imports subcommands on demand. `simulator` needs the extra `otpqueue[simulator]`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's name
        return [*sorted(COMMANDS), "simulator"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name == "simulator":
            return _import_simulator()
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


def _import_simulator() -> click.Command:
    try:
        from otpqueue.simulator.command import simulator  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        return _make_placeholder(error.name)
    return simulator


def _make_placeholder(module: str | None) -> click.Command:
    """Return a `simulator` command that only names the missing module, so that `--help` lists it too."""

    def report_missing_module() -> None:
        raise click.ClickException(f"The simulator needs {module}. Run: pip install 'otpqueue[simulator]'")

    return click.Command(
        "simulator",
        callback=report_missing_module,
        help="Run a local stand-in for the Infobip 2FA API (not installed).",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otpqueue")
def main() -> None:
    """SMS one-time passcodes as a service.

    Start with `otpqueue dev`: it runs every service on this machine, with a simulated provider.
    """
    # Output goes to stdout, log records to stderr. Services configure their own logging.
    logs.configure_logs(process="otpqueue", style="readable", level="WARNING")
