"""What the files of a deployment may name: commands of the command line, settings, and paths of the API."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click
import yaml

from otpqueue.cli import main
from otpqueue.settings import Settings, load
from otpqueue.settings.fields import get_facts

SETTINGS = {str(field.alias) for field in Settings.model_fields.values() if not get_facts(field).constant}
SECRETS = {
    "DATABASE_URL": "postgresql://otpqueue:password@postgres/otpqueue",
    "REDIS_URL": "redis://valkey:6379/0",
    "INFOBIP_API_KEY": "key",
    "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
    "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
    "OTPQUEUE_METRICS_TOKEN": "0123456789abcdef",
}
"""Values that an operator would put in place of the secrets."""


def parse_command(arguments: Iterable[str]) -> dict[str, Any]:
    """Return the options of a command line. Raises UsageError for an unknown command or option."""
    program, *rest = arguments
    assert program == "otpqueue", program
    command: click.Command = main
    # Click keeps the help option of a command's first context: without its parent that would lack `-h`.
    context: click.Context | None = None
    while isinstance(command, click.Group):
        context = command.make_context(program, rest[:0], parent=context, resilient_parsing=True)
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
    return command.make_context("otpqueue", rest, parent=context).params


def check_settings(environment: Mapping[str, str]) -> Settings:
    """Return the settings of a process with this environment and its secrets. Raises SettingsError."""
    assert sorted(set(environment) - SETTINGS) == []
    return load({**SECRETS, **environment}, dotenv=None)


def read_objects(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a YAML file."""
    return [one for one in yaml.safe_load_all(path.read_text(encoding="utf-8")) if one]
