"""The `otpqueue` command. Each subcommand's module is imported only when the subcommand is used."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NamedTuple, cast

import click

from otpqueue.cli.exits import CommandFailed, ExitCode


class CommandEntry(NamedTuple):
    """Where a subcommand is defined, and its line in the help."""

    module: str
    """The module in this package that has the command as an attribute."""
    summary: str
    """The first sentence of its help, without its full stop. The help lists it without the import."""


COMMANDS: Mapping[str, CommandEntry] = {
    "alerts": CommandEntry(
        "alerts", "List, acknowledge and silence alerts, and test the notification channels"
    ),
    "api": CommandEntry("services", "Serve the HTTP API"),
    "audit": CommandEntry(
        "audit", "List what operators did, newest first, with actor, origin, target and reason"
    ),
    "beat": CommandEntry("services", "Run Celery beat, which enqueues the periodic jobs"),
    "cancel": CommandEntry("codes", "Cancel the request REQUEST_ID"),
    "clients": CommandEntry("clients", "Create clients and override settings for one client"),
    "completion": CommandEntry("completion", "Print the completion script of a shell"),
    "dev": CommandEntry(
        "dev", "Run a complete instance: embedded Postgres and Redis, the simulator, API, workers and beat"
    ),
    "doctor": CommandEntry("doctor", "Check the deployment and print a remedy for each problem"),
    "erase": CommandEntry("privacy", "Erase all data of phone numbers, for every client"),
    "erasures": CommandEntry("audit", "List the erasures of numbers, newest first, as proof"),
    "guard": CommandEntry("guard", "Inspect the pumping guard and manage its exceptions"),
    "keys": CommandEntry("keys", "Create, list, rotate and revoke API keys"),
    "load": CommandEntry("load", "Run a bounded load test against a deployment that uses the simulator"),
    "migrate": CommandEntry("services", "Upgrade the database schema to this version"),
    "numbers": CommandEntry("numbers", "Show and lift the locks and blocks of a phone number"),
    "problems": CommandEntry("problems", "List the problem codes of the API, or explain one CODE"),
    "provision": CommandEntry(
        "services", "Create or update the 2FA application and its message templates at Infobip"
    ),
    "purge": CommandEntry("privacy", "Delete rows past their retention now"),
    "requests": CommandEntry("requests", "Show and cancel requests of any client"),
    "resend": CommandEntry("codes", "Send the code of the request REQUEST_ID again"),
    "resume-sending": CommandEntry(
        "sending", "End a stop: the general one, or that of a country or a client"
    ),
    "send": CommandEntry("codes", "Request a code for PHONE_NUMBER"),
    "sending-status": CommandEntry(
        "sending",
        "Show the stops in force, with operator and reason, and how many codes were sent today (UTC)",
    ),
    "settings": CommandEntry("configuration", "Check the settings and print the values in force"),
    "stats": CommandEntry("stats", "Print statistics: requests, sends, delivery reports, checks and costs"),
    "status": CommandEntry("codes", "Show the status of the request REQUEST_ID"),
    "stop-sending": CommandEntry(
        "sending", "Stop sending codes until `resume-sending`, with immediate effect"
    ),
    "verify": CommandEntry("codes", "Verify CODE for the request REQUEST_ID"),
    "webhooks": CommandEntry("webhooks", "Manage the webhook endpoints of clients and their deliveries"),
    "worker": CommandEntry("services", "Run a Celery worker"),
}

_SIMULATOR = "simulator"
_SIMULATOR_SUMMARY = "Run a local stand-in for the Infobip 2FA API"


class _LazyGroup(click.Group):
    """Imports subcommands on demand. `simulator` needs the extra `otpqueue[simulator]`."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's name
        return sorted([*COMMANDS, _SIMULATOR])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name == _SIMULATOR:
            return _import_simulator()
        if cmd_name not in COMMANDS:
            return None
        with _no_garbage_collection():
            module = import_module(f"otpqueue.cli.{COMMANDS[cmd_name].module}")
        return cast("click.Command", getattr(module, cmd_name.replace("-", "_")))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them, which takes two seconds."""
        with formatter.section("Commands"):
            formatter.write_dl(self._list_summaries(ctx))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[Any]:
        """Complete the names of commands without importing them."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only for completion

        found = [
            CompletionItem(name, help=summary)
            for name, summary in self._list_summaries(ctx)
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the subcommand. A bug ends the process with a traceback and the exit code of its own."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort, EOFError, BrokenPipeError):
            raise  # click handles these
        except Exception:  # noqa: BLE001 - reported as any uncaught error, with another exit code
            sys.excepthook(*sys.exc_info())
            ctx.exit(ExitCode.INTERNAL)

    def _list_summaries(self, ctx: click.Context) -> list[tuple[str, str]]:
        return [
            (name, COMMANDS[name].summary if name in COMMANDS else _SIMULATOR_SUMMARY)
            for name in self.list_commands(ctx)
        ]


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
    """Return a `simulator` command that only names the missing module, so that `--help` works without it."""

    def report_missing_module() -> None:
        raise CommandFailed(
            ExitCode.CONFIGURATION, f"The simulator needs {module}. Run: pip install 'otpqueue[simulator]'"
        )

    return click.Command(
        _SIMULATOR,
        callback=report_missing_module,
        help=f"{_SIMULATOR_SUMMARY} (not installed).",
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="otpqueue")
@click.pass_context
def main(context: click.Context) -> None:
    """SMS one-time passcodes as a service.

    Start with `otpqueue dev`: it runs every service on this machine, with a simulated provider.
    """
    # The help needs none of these.
    from otpqueue.cli.operator import name_operator  # noqa: PLC0415
    from otpqueue.domain.audit import AuditActor, AuditSurface, acting_as  # noqa: PLC0415
    from otpqueue.telemetry import logs  # noqa: PLC0415

    # Output goes to stdout, log records to stderr. Services configure their own logging.
    logs.configure_logs(process="otpqueue", style="readable", level="WARNING")
    context.with_resource(acting_as(AuditActor(surface=AuditSurface.CLI, name=name_operator())))
