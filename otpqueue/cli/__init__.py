"""The `otpqueue` command. Each subcommand imports what it needs when it runs."""

from __future__ import annotations

import click

from otpqueue import logs
from otpqueue.cli import (
    alerts,
    clients,
    codes,
    dev,
    guard,
    keys,
    numbers,
    privacy,
    requests,
    rotation,
    sending,
    services,
    stats,
    webhooks,
)

_COMMANDS: tuple[click.Command, ...] = (
    dev.dev,
    services.api,
    services.worker,
    services.beat,
    services.migrate,
    services.provision,
    clients.clients,
    keys.keys,
    numbers.numbers,
    guard.guard,
    alerts.alerts,
    requests.requests,
    stats.stats,
    webhooks.webhooks,
    privacy.erase,
    privacy.purge,
    sending.stop_sending,
    sending.resume_sending,
    sending.sending_status,
    codes.send,
    codes.status,
    codes.verify,
)


class _Group(click.Group):
    """Adds `simulator`, which works only when its server is installed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), "simulator"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name != "simulator":
            return super().get_command(ctx, cmd_name)
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


for _command in _COMMANDS:
    main.add_command(_command)
for _command in rotation.COMMANDS:
    keys.keys.add_command(_command)
