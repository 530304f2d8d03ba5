"""The `simulator` command. Its options are the fields of `Options`."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import NoneType
from typing import Any, Final, Literal, get_args, get_origin

import click
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from otpqueue.simulator import magic
from otpqueue.simulator.options import GROUPS, Options
from otpqueue.simulator.server import serve
from otpqueue.simulator.storage import StateFileError

DEFAULT_PORT: Final = 8890

_REPEATED: Final = {
    "api_keys": "--api-key",
    "scoped_keys": "--scoped-key",
    "basic_users": "--basic-user",
    "oauth_clients": "--oauth-client",
}

_CONTROL: Final = """\
GET    /                          the inbox as a page
GET    /_simulator/messages       sent messages: ?to=DIGITS or an address, ?limit=N
DELETE /_simulator/messages       empty the inbox; the PINs stay valid
POST   /_simulator/faults         add a fault; GET lists, DELETE removes all
POST   /_simulator/receipts       add a rule of delivery reports; GET lists, DELETE removes all
POST   /_simulator/clock          {"advance_s": 60} moves time forward; GET shows it
POST   /_simulator/reset          reset all state
GET    /_simulator/stats          requests by operation and status
GET    /_simulator/magic-numbers  the table below"""

_FAULTS: Final = """\
match       {"to": DIGITS or address, "path": part or pattern with *, "method"}
times       how many requests it affects; unlimited if absent
latency_ms  delay the response
status      respond with this status, without any effect; with body (JSON or text)
            or envelope (old, new, html, empty), and headers
drop        cut the connection "before" or "after" the request has its effect
form        distort the response: html, empty, broken, truncated,
            huge (size_bytes), slow (byte_ms)"""

_RECEIPTS: Final = """\
match, times   as for faults, by "to" only
outcome        delivered, undelivered, rejected, expired, operator (nothing
               final) or none
delay_ms       from sending to the final report
then           another final report, then_delay_ms later
duplicate      number of extra pushes of each report
reorder        the final report overtakes the earlier ones
before_answer  reports due at once are pushed before the send responds"""

_PARTS: Final = {
    "Control": _CONTROL,
    "A fault (POST /_simulator/faults)": _FAULTS,
    "A rule of delivery reports (POST /_simulator/receipts)": _RECEIPTS,
    "Magic numbers (also as NUMBER@example.com)": magic.format_magic_numbers(),
}


class _SimulatorCommand(click.Command):
    """Help with the options in groups, and a reference of the control endpoints."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        shown: dict[str, list[tuple[str, str]]] = {"Server": []}
        headings = {name: group.heading for group in GROUPS for name in group.model_fields}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                shown.setdefault(headings.get(parameter.name or "", "Server"), []).append(record)
        for heading in ("Server", *(group.heading for group in GROUPS)):
            with formatter.section(heading):
                formatter.write_dl(shown[heading])
        for heading, text in _PARTS.items():
            with formatter.section(heading):
                for line in text.splitlines():
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _kinds(annotation: Any) -> Iterator[Any]:
    """Yield the plain types of an annotation, without None and bounds."""
    if get_origin(annotation) is None:
        yield annotation
        return
    for part in get_args(annotation):
        if isinstance(part, type) and part is not NoneType:
            yield part
        elif get_origin(part) is not None:
            yield from _kinds(part)


def _switch(name: str, field: FieldInfo) -> click.Option:
    flag = "--" + name.replace("_", "-")
    extra: dict[str, Any] = {"default": field.default, "show_default": True, "help": field.description}
    kind = field.annotation
    if name in _REPEATED:
        extra["help"] = f"{field.description} May be given more than once."
        flags = [_REPEATED[name]] if name in {"api_keys", "basic_users"} else [_REPEATED[name], flag]
        return click.Option([*flags, name], multiple=True, **extra)
    if kind is bool:
        return click.Option([f"{flag}/--no-{flag[2:]}", name], **extra)
    if get_origin(kind) is Literal:
        return click.Option([flag, name], type=click.Choice(get_args(kind)), **extra)
    return click.Option([flag, name], type=next(_kinds(kind)), **extra)


def _with_switches(command: Callable[..., None]) -> click.Command:
    settings = {"show_default": True, "max_content_width": 100}
    made = click.command(cls=_SimulatorCommand, context_settings=settings)(command)
    made.params.extend(_switch(name, field) for group in GROUPS for name, field in group.model_fields.items())
    return made


@_with_switches
@click.option("--host", default="127.0.0.1", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--state",
    "state_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps the state, as JSON; without it the state is in memory only.",
)
def simulator(host: str, port: int, state_file: Path | None, **choices: Any) -> None:
    """Run a local stand-in for the Infobip 2FA API.

    It sends no messages. Read the PINs at GET /_simulator/messages?to=DIGITS, or open the simulator in a
    browser. Configure a client with its base URL and an API key:

    \b
      otpqueue simulator --api-key my-key
      curl -H 'Authorization: App my-key' http://127.0.0.1:8890/2fa/2/applications

    It serves all 18 operations of the 2FA API, POST /auth/1/session, POST /auth/1/oauth2/token,
    /subscriptions/1/subscription/{channel} and GET /sms/3/reports.

    Options marked INFERRED cover behaviour that Infobip's documents leave open.
    """  # noqa: D301 - click wants the control character
    try:
        options = Options(**choices)
    except ValidationError as error:
        found = (
            f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}" for detail in error.errors()
        )
        raise click.UsageError("; ".join(found)) from error
    try:
        serve(options, host=host, port=port, state_file=state_file)
    except OSError as error:
        raise click.ClickException(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    except StateFileError as error:
        raise click.ClickException(str(error)) from error
