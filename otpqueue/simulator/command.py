"""The `simulator` command; its switches are the fields of `Options`."""

from collections.abc import Callable
from typing import Any, Final, Literal, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from otpqueue.simulator.options import Options
from otpqueue.simulator.server import serve

DEFAULT_PORT: Final = 8890

_REPEATED = {"api_keys": "--api-key", "basic_users": "--basic-user"}


def _switch(name: str, field: FieldInfo) -> click.Option:
    flag = "--" + name.replace("_", "-")
    extra: dict[str, Any] = {"default": field.default, "show_default": True, "help": field.description}
    kind = field.annotation
    if name in _REPEATED:
        return click.Option(
            [_REPEATED[name], name],
            multiple=True,
            help=f"{field.description} May be given more than once.",
            default=field.default,
            show_default=True,
        )
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], **extra)
    if get_origin(kind) is Literal:
        return click.Option([flag, name], type=click.Choice(get_args(kind)), **extra)
    return click.Option([flag, name], type=int if kind is int else float, **extra)


def _with_switches(command: Callable[..., None]) -> click.Command:
    made = click.command(context_settings={"show_default": True})(command)
    made.params.extend(_switch(name, field) for name, field in Options.model_fields.items())
    return made


@_with_switches
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    help="Port to listen on; 0 takes a free one.",
)
def simulator(host: str, port: int, **choices: Any) -> None:
    """Run a local stand-in for the Infobip 2FA API, with its state in memory.

    It sends no SMS: read the PINs at GET /_simulator/messages?to=DIGITS, or open it in a browser. Let
    things go wrong with POST /_simulator/faults, and time pass with POST /_simulator/clock.

    Switches marked INFERRED stand for behaviour that Infobip's documents leave open.
    """
    try:
        options = Options(**choices)
    except ValidationError as error:
        found = (
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}" for detail in error.errors()
        )
        raise click.UsageError("; ".join(found)) from error
    try:
        serve(options, host=host, port=port)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
