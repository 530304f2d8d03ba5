"""`otpqueue dev`: a complete development instance on one machine."""

from __future__ import annotations

import gc
import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otpqueue import clock, policies, settings
from otpqueue.cli.beside_dev import find_instance
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.telemetry import logs

if TYPE_CHECKING:
    from otpqueue.cli.instance import DevInstance

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _StopSignal(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived."""


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="Port of the API; 0 for a free one. Default: PORT, or else 8000.",
)
@click.option(
    "--data-dir",
    default=".otpqueue",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for databases, keys and dev.json.",
)
@click.option(
    "--fork/--no-fork",
    default=sys.platform == "linux",
    show_default="fork on Linux",
    help="Fork the services from one process, which saves time and memory, or start each as a command.",
)
@click.option(
    "--env",
    "print_environment",
    is_flag=True,
    help="Start nothing: print the settings of the running instance as exports for a shell.",
)
@click.option("--json", "as_json", is_flag=True, help="With --env, print JSON.")
@explain_errors
def dev(port: int | None, data_dir: Path, *, fork: bool, print_environment: bool, as_json: bool) -> None:
    """Run a complete instance: embedded Postgres and Redis, the simulator, API, workers and beat.

    DATABASE_URL replaces the embedded Postgres, REDIS_URL the embedded Redis, and INFOBIP_API_KEY with
    INFOBIP_BASE_URL the simulator. Ctrl-C stops the instance.

    Other commands find the instance that runs in this folder. Elsewhere, run `eval "$(otpqueue dev --env)"`.
    """
    if print_environment:
        _print_environment(data_dir, as_json=as_json)
        return
    if as_json:
        raise click.UsageError("--json needs --env.")
    # Slow to import; other commands do not need it.
    from otpqueue.cli.instance import DevInstance  # noqa: PLC0415
    from otpqueue.embedded import EmbeddedError, EngineHome, Multithreaded  # noqa: PLC0415

    gc.disable()  # until every service has started: imported modules stay
    # libpq's own variables would point clients to another Postgres.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    given = settings.load()
    policies.check(given, today=clock.now().date())
    logs.configure_logs(process="dev", style="readable", level=given.log_level)
    try:
        with EngineHome(data_dir) as home:
            chosen = given.port if port is None else port
            _run_instance(DevInstance(given, port=chosen, data_dir=home.path, fork=fork))
    except ModuleNotFoundError as error:
        raise CommandFailed(
            ExitCode.CONFIGURATION, f"`otpqueue dev` needs {error.name}. Run: pip install 'otpqueue[dev]'"
        ) from None
    except Multithreaded as error:
        raise CommandFailed(ExitCode.PROBLEM, f"{error} Start with --no-fork.") from None
    except EmbeddedError as error:
        raise CommandFailed(ExitCode.PROBLEM, str(error)) from None


def _print_environment(data_dir: Path, *, as_json: bool) -> None:
    instance = find_instance(data_dir)
    if instance is None:
        raise CommandFailed(ExitCode.NOT_FOUND, f"No `otpqueue dev` runs with the data folder {data_dir}.")
    values = {
        **instance.environment,
        "OTPQUEUE_API_KEY": instance.api_key,
        "OTPQUEUE_URL": instance.api_url,
    }
    # Not as the lines of a person: a quoted value may contain any character.
    exports = "\n".join(f"export {name}={shlex.quote(value)}" for name, value in sorted(values.items()))
    click.echo(json.dumps(values, indent=2, sort_keys=True) if as_json else exports)


def _run_instance(instance: DevInstance) -> None:
    def raise_stop(*_: object) -> None:
        raise _StopSignal

    for number in _SIGNALS:
        signal.signal(number, raise_stop)
    try:
        instance.start()
        instance.write_description()
        click.echo(_format_banner(instance.describe(), instance.description_file), err=True)
        instance.supervise()
    except _StopSignal:
        pass
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        instance.stop()


def _format_banner(about: dict[str, Any], described: Path) -> str:
    pages = [("API", about["api_url"]), ("API docs", f"{about['api_url']}/docs")]
    if about["simulator_url"]:
        pages += [("try it", f"{about['api_url']}/try"), ("simulator", about["simulator_url"])]
    if about["console_url"]:
        pages += [("console", about["console_url"]), ("  admin key", about["admin_api_key"])]
    pages += [
        ("API key", about["api_key"]),
        ("for scripts", str(described)),
        ("for a shell", 'eval "$(otpqueue dev --env)"'),
    ]
    lines = ["", "otpqueue is ready. Ctrl-C stops it.", ""]
    lines += [f"  {name:<12}{where}" for name, where in pages]
    lines += ["", "Paste this into another shell to send a code and verify it:", ""]
    lines += [f"  {line}" for line in _format_commands(about)]
    return "\n".join([*lines, ""])


def _format_commands(about: dict[str, Any]) -> list[str]:
    number, code = "+YOUR_NUMBER", "CODE=THE_CODE_YOU_GOT"
    if about["simulator_url"]:
        number = "+447700900123"
        inbox = f"{about['simulator_url']}/_simulator/messages?to={number.removeprefix('+')}"
        code = f"CODE=$(curl -s '{inbox}' | grep -o '\"pin\": *\"[0-9]*' | head -1 | grep -o '[0-9]*$')"
    request = (
        'ID=$(curl -s $URL/v1/otp-requests -H "Authorization: Bearer $KEY" '
        "-H 'Content-Type: application/json' "
        f'-d \'{{"phone_number": "{number}"}}\' | grep -o \'"id":"[^"]*\' | cut -d\'"\' -f4)'
    )
    poll = 'curl -s "$URL/v1/otp-requests/$ID?wait=1" -H "Authorization: Bearer $KEY"; echo'
    verify = (
        'curl -s $URL/v1/otp-requests/$ID/verify -H "Authorization: Bearer $KEY" '
        '-H \'Content-Type: application/json\' -d "{\\"code\\": \\"$CODE\\"}"; echo'
    )
    return [f"URL={about['api_url']} KEY={about['api_key']}", request, poll, code, verify]
