"""Generates docs/cli.md from the commands: `python -m otpqueue.cli.reference > docs/cli.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import click

from otpqueue.cli import main
from otpqueue.cli.exits import ExitCode

WITHOUT_JSON = frozenset({"api", "worker", "beat", "simulator", "completion"})
"""Services, which log, and a script for a shell."""

_PAGE: Final = """\
# Command line

`python -m otpqueue.cli.reference` generates this page. `otpqueue COMMAND --help` describes the options.

## Commands

{commands}
## JSON

Output is text for people. With `--json` a command prints one JSON document to standard output and nothing
else: times are in ISO 8601 (UTC), durations in seconds. Warnings, questions and progress bars go to
standard error. Bars are shown only on a terminal. {without_json} have no `--json`.

Numbers and codes are read from a prompt or from standard input, because other users of the machine can read
arguments. Commands that cannot be undone ask first. Without a terminal they need `--yes`.

## Exit codes

| code | meaning |
|---|---|
{exits}

`otpqueue doctor` uses 0 (no problem), 1 (warnings only) and 2 (at least one failure).

## Settings and the running dev

Operator commands read the settings from the environment and `.env`, as the services do
([settings.md](settings.md)). `send`, `status`, `verify`, `resend`, `cancel` and `load` call the API at
`OTPQUEUE_URL` with the key `OTPQUEUE_API_KEY`.

In the folder of a running `otpqueue dev` neither is needed: commands use its database, keys and API. They
do so only if your own settings name no other database, Redis, broker, Infobip account or key. `otpqueue
settings` and `otpqueue doctor` show which settings are in force.

In another folder, or for another program, load the settings into the shell:

```sh
eval "$(otpqueue dev --data-dir path/to/.otpqueue --env)"
```

`otpqueue dev --env --json` prints the same as JSON. The output contains keys. Webhooks to this machine work
in `otpqueue dev`: it sets `OTPQUEUE_WEBHOOK_ALLOW_PRIVATE=true` unless you set it, if the API listens on
loopback.

## Diagnose a deployment

`otpqueue doctor` checks the settings, Postgres, migrations, Redis, the broker, the keys, the Infobip
account, clocks, webhooks, mail, processes, HTTPS and disk space, and prints a remedy for each problem:

```
FAILURE  migrations   the schema is at 0022, this version needs 0023
                      -> Run `otpqueue migrate`.
```

- The checks run at the same time, within `--timeout` seconds in all. A check that fails or hangs hides no
  other.
- It reads the application and the templates back from Infobip. Codes that live for more than 10 minutes,
  have fewer than 6 digits or allow more than 10 attempts are failures. A missing or low daily ceiling is a
  warning.
- `stored keys` unseals and hashes the numbers of the newest requests. A failure means that the processes,
  or this shell, have different keys.
- It connects to webhooks and logs in to the mail server, but sends nothing.
- Run it with the settings of the services, on a host that has them.

## Load test

`otpqueue load --rate 50 --seconds 30` requests codes at a fixed rate and prints, each second and in all,
how many were accepted and sent, the latencies (p50, p95, p99, from the moment each request was due) and the
refusals by code.

- It works only with the [simulator](simulator.md). It refuses to start if the database was ever provisioned
  at Infobip, if the API key is not in it, or if the simulator does not receive the first code.
- The API must run with `OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS=true`, as `otpqueue dev` does. All numbers are
  reserved for audiovisual works in France and Australia.
- The maximum is 500 requests per second, 64 connections and 300 seconds.
- Limits and caps apply. `OTPQUEUE_LIMIT_KEY_RATE=off` and `OTPQUEUE_DAILY_CAP=none` measure beyond them.

## Shell completion

```sh
eval "$(otpqueue completion bash)"     # in ~/.bashrc, bash 4.4 or newer
eval "$(otpqueue completion zsh)"      # in ~/.zshrc, after compinit
otpqueue completion fish > ~/.config/fish/completions/otpqueue.fish
```

## Process managers

`Procfile` lists the processes for honcho, foreman and platforms that read it:

```sh
otpqueue migrate && otpqueue provision
honcho start
```

- Migrate and provision first, and again after each upgrade. Processes that start earlier wait for the
  schema.
- Set `PORT` in `.env`. A process manager passes it to the first line, the API; without it, honcho chooses
  5000.
- Quote values with spaces or `#` in `.env`: the process manager reads the file with its own rules.
"""


def list_commands(group: click.Group, *path: str) -> Iterator[tuple[str, click.Command]]:
    """Yield each command of a group and of the groups in it, with its words."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise RuntimeError(f"{name} is listed, but does not exist")
        if isinstance(command, click.Group):
            yield from list_commands(command, *path, name)
        else:
            yield " ".join([*path, name]), command


def get_summary(command: click.Command) -> str:
    """Return the first sentence of a command's help, without its full stop."""
    text = " ".join((command.help or "").split("\n\n", maxsplit=1)[0].split())
    return re.split(r"\.(?: |$)", text, maxsplit=1)[0]


def write_page() -> str:
    """Return the page."""
    rows = [f"| `otpqueue {name}` | {get_summary(command)} |" for name, command in list_commands(main)]
    return _PAGE.format(
        commands="\n".join(["| command | what it does |", "|---|---|", *rows, ""]),
        exits="\n".join(f"| {code.value} | {code.meaning} |" for code in ExitCode),
        without_json=", ".join(f"`{name}`" for name in sorted(WITHOUT_JSON)),
    )


if __name__ == "__main__":
    click.echo(write_page(), nl=False)
