"""Reads the settings from the environment, from `.env` and from the files that `NAME_FILE` names."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from otpqueue.settings import dotenv as dotenv_file
from otpqueue.settings.combined import Settings
from otpqueue.settings.fields import TUNING, FromJson, SettingsError, get_facts

_OTHER_NAMES = {"OTPQUEUE_URL", "OTPQUEUE_API_KEY", "OTPQUEUE_PG_BIN", "OTPQUEUE_VALKEY_SERVER"}
"""Variables of the command line and the embedded engines."""


def load(environment: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")) -> Settings:
    """Read the settings from `environment` (default: that of the process) over `dotenv` (default: `./.env`).

    Raises SettingsError with every problem at once. No problem contains the value of a secret.
    """
    given, written = dict(os.environ if environment is None else environment), dict[str, str]()
    names = {str(field.alias) for field in Settings.model_fields.values()}
    problems = _find_quoted(given, names)
    if dotenv is not None and dotenv.is_file():
        written, unreadable = _read_dotenv(dotenv, names)
        problems += unreadable
    unseen = sorted(name for name in written.keys() - given.keys() if name.startswith("OTEL_"))
    given = written | given
    files, unreadable = _read_files(given, names)
    problems += unreadable + _find_unknown(given, names)
    values: dict[str, Any] = {name: given[name] for name in names if name in given and given[name] != ""}
    try:
        settings = Settings.model_validate(values | files)
    except ValidationError as error:
        problems += _explain(error) + _find_combination_problems(error, values | files)
        raise SettingsError(problems) from None
    if settings.traces:
        problems += [
            f"{name} must be in the environment: OpenTelemetry does not read .env" for name in unseen
        ]
    if problems:
        raise SettingsError(problems)
    return settings


def collect_given(
    environment: Mapping[str, str] | None = None, *, dotenv: Path | None = Path(".env")
) -> dict[str, str]:
    """Return the given settings by variable, as text: from `environment`, `dotenv` and `NAME_FILE` files.

    Raises SettingsError for a file that cannot be read.
    """
    given, written = dict(os.environ if environment is None else environment), dict[str, str]()
    names = {str(field.alias) for field in Settings.model_fields.values()}
    problems: list[str] = []
    if dotenv is not None and dotenv.is_file():
        written, problems = _read_dotenv(dotenv, names)
    given = written | given
    files, unreadable = _read_files(given, names)
    if problems or unreadable:
        raise SettingsError(problems + unreadable)
    return {name: given[name] for name in names if given.get(name)} | files


def _read_dotenv(path: Path, names: set[str]) -> tuple[dict[str, str], list[str]]:
    def is_ours(name: str) -> bool:
        return name in names or name.removesuffix("_FILE") in names or name.startswith("OTPQUEUE_")

    as_json = {str(field.alias) for field in Settings.model_fields.values() if FromJson in field.metadata}
    return dotenv_file.read_env_file(path, is_ours=is_ours, escaped=as_json)


def _find_quoted(environment: Mapping[str, str], names: set[str]) -> list[str]:
    """Return a problem for each value in quotes. A shell removes quotes; `docker run --env-file` does not."""
    return [
        f"{name} is in quotes, which are part of the value here; remove them"
        for name in sorted(names & environment.keys())
        if re.fullmatch(r"(['\"]).*\1", environment[name], re.DOTALL)
    ]


def _read_files(environment: Mapping[str, str], names: set[str]) -> tuple[dict[str, str], list[str]]:
    values, problems = {}, []
    for name in sorted(names):
        path = environment.get(f"{name}_FILE")
        if not path:
            continue
        if environment.get(name):
            problems.append(f"{name} and {name}_FILE are both set; keep one")
            continue
        try:
            values[name] = Path(path).read_text(encoding="utf-8-sig").strip()
        except OSError as error:
            problems.append(f"{name}_FILE cannot be read: {error.strerror}")
        except UnicodeError:
            problems.append(f"{name}_FILE cannot be read: it is not text in UTF-8")
    return values, problems


# Kubernetes describes a Service with the name `otpqueue` or `otpqueue-api` to every pod in such variables.
_SERVICE_LINK = re.compile(
    r"OTPQUEUE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?)?)"
)


def _is_service_link(name: str, value: str) -> bool:
    # OTPQUEUE_PORT=8000 without a scheme is a mistake for PORT.
    return _SERVICE_LINK.fullmatch(name) is not None and (name != "OTPQUEUE_PORT" or "://" in value)


def _find_unknown(environment: Mapping[str, str], names: set[str]) -> list[str]:
    ours = {name for name in environment if name.startswith("OTPQUEUE_")}
    known = names | {f"{name}_FILE" for name in names} | _OTHER_NAMES
    fixed = {
        str(field.alias).replace(TUNING, "OTPQUEUE_", 1): field.default
        for field in Settings.model_fields.values()
        if get_facts(field).constant
    }
    return [
        _explain_unknown(name, fixed)
        for name in sorted(ours - known)
        if not _is_service_link(name, environment[name])
    ]


def _explain_unknown(name: str, fixed: Mapping[str, object]) -> str:
    once = name if name in fixed else name.removesuffix("_FILE")
    if once in fixed:
        return f"{name} is no longer a setting: its value is always {fixed[once]}; remove it"
    return f"{name} is not a setting"


def _explain(error: ValidationError) -> list[str]:
    problems: list[str] = []
    for item in error.errors(include_input=False, include_url=False):
        where = str(item["loc"][0]) + ": " if item["loc"] else ""
        problems += [where + line for line in item["msg"].removeprefix("Value error, ").splitlines()]
    return problems


def _find_combination_problems(error: ValidationError, values: Mapping[str, Any]) -> list[str]:
    # Pydantic checks combinations only if each value is valid. Check them again with the defaults of invalid
    # values, and ignore problems that name an invalid value.
    bad = {str(item["loc"][0]) for item in error.errors(include_input=False) if item["loc"]}
    if not bad:
        return []
    try:
        Settings.model_validate({name: value for name, value in values.items() if name not in bad})
    except ValidationError as more:
        return [problem for problem in _explain(more) if not any(name in problem for name in bad)]
    return []
