"""Settings as text: the values in force, docs/settings.md, `.env.example` and the table of constants."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Final, Literal, get_args, get_origin

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from otpqueue.settings.combined import SUBJECTS, Settings
from otpqueue.settings.fields import SettingsSubject, TypeName, get_facts

_LONGEST = 400

_UNITS: Final = {"_S": "seconds", "_MS": "milliseconds", "_DAYS": "days"}
_TYPES: Final[dict[object, str]] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "text",
    SecretStr: "secret",
    Path: "path",
    tuple: "list",
    dict: "JSON",
    Literal: "choice",
}

_PAGE: Final = """\
# Settings

Every setting, with its default. `.env.example` has the same list to copy. `otpqueue settings` prints the
values in force. `otpqueue settings --markdown` generates this page, and `otpqueue settings --env` generates
`.env.example`.

## Sources

otpqueue reads settings from the environment and from `.env` in the working directory. The environment wins.
An empty value counts as not set.

`NAME_FILE=/run/secrets/name` reads the value of `NAME` from a file.

Every command checks all settings when it starts and reports every problem at once. An unknown `OTPQUEUE_...`
name is a problem.

A list has commas between its items. `used by` names the processes on which a setting has an effect. Give all
processes the same values.

### The .env file

The file is UTF-8. Comments need lines of their own.

| quotes | value |
|---|---|
| none | used as written; rejected if it contains ` #`, `${`, a backslash or a line break |
| single | used as written |
| double | `\\n` becomes a line break; rejected if it contains `${` |

For example, a text with a last line for [WebOTP](https://developer.mozilla.org/en-US/docs/Web/API/WebOTP_API):

```sh
INFOBIP_MESSAGE_TEMPLATE="{{pin}} is your code. Do not share it.\\n\\n@shop.example #{{pin}}"
OTPQUEUE_TEMPLATES='{"de": "{{pin}} ist Ihr Code.\\n\\n@shop.example #{{pin}}"}'
```

The second value is JSON, which reads `\\n` as a line break itself.

Docker Compose (`env_file`) and systemd (`EnvironmentFile`) also accept single quotes. `docker run --env-file`
keeps quotes as part of the value, and otpqueue rejects such values.
"""

_EXAMPLE: Final = """\
# Settings of otpqueue. Copy this file to `.env`; docs/settings.md describes each setting.
# A value may also come from a file: NAME_FILE=/run/secrets/name
# Quote a value with ` #`, `${`, a backslash or a line break: 'used as written', "with\\nline breaks".
# Comments need lines of their own.
"""


@dataclass(frozen=True, kw_only=True)
class SettingInForce:
    """One setting with its current value, as it may be shown."""

    name: str
    subject: str
    value: str
    help: str
    is_set: bool
    """Whether the environment, a file or `.env` sets it."""
    secret: bool


def list_settings(settings: Settings) -> list[SettingInForce]:
    """Return all settings by subject, secrets as set or not set, and each overridden constant."""
    return [
        SettingInForce(
            name=str(field.alias),
            subject=subject.TITLE,
            value=_show_value(
                getattr(settings, name),
                hidden=field.repr is False,
                # No cap, for example, is a value that can be set.
                nothing="none" if name in settings.model_fields_set else "not set",
            ),
            help=_strip_markup(field.description or ""),
            is_set=name in settings.model_fields_set,
            secret=SecretStr in {field.annotation, *get_args(field.annotation)},
        )
        for subject in SUBJECTS
        for name, field in subject.model_fields.items()
        if not get_facts(field).constant or name in settings.model_fields_set
    ]


def write_text(settings: Settings) -> str:
    """Return the settings in force, one a line."""
    lines = ["Settings in force. * marks those that are set; the others have their defaults."]
    subject = ""
    for one in list_settings(settings):
        if one.subject != subject:
            subject = one.subject
            lines += ["", subject]
        value = f"(secret, {one.value})" if one.secret else one.value
        lines.append(f"{'*' if one.is_set else ' '} {one.name}={value}")
    return "\n".join(lines) + "\n"


def write_page() -> str:
    """Return the text of docs/settings.md."""
    parts = [_PAGE]
    for subject in SUBJECTS:
        parts.append(f"\n## {subject.TITLE}\n")
        if subject.INTRODUCTION:
            parts.append(f"\n{subject.INTRODUCTION}\n")
        parts.append("\n| setting | type | default | used by | meaning |\n|---|---|---|---|---|\n")
        parts += [
            f"| `{field.alias}` | {_name_type(field)} | {_show_default(field)} "
            f"| {get_facts(field).used_by or subject.USED_BY} | {field.description} |\n"
            for field in _select_fields(subject, constant=False)
        ]
    return re.sub(r"\|  +\|", "| |", "".join(parts))


def write_example() -> str:
    """Return the text of `.env.example`."""
    parts = [_EXAMPLE, "\n# --- Required, except for `otpqueue dev`\n"]
    for subject in SUBJECTS:
        for field in _select_fields(subject, constant=False):
            facts = get_facts(field)
            if facts.example is not None:
                comment = f"# {facts.example_comment}\n" if facts.example_comment else ""
                parts.append(f"{comment}{field.alias}={facts.example}\n")
    parts.append("\n# Optional settings follow, with their defaults.\n")
    for subject in SUBJECTS:
        optional = [one for one in _select_fields(subject, constant=False) if get_facts(one).example is None]
        if optional:
            parts.append(f"\n# --- {subject.TITLE}\n")
            parts += [f"# {field.alias}={_write_default(field)}\n" for field in optional]
    return "".join(parts)


def write_constants() -> str:
    """Return the table of constants in docs/contributing.md."""
    rows = [
        f"| `{field.alias}` | {_name_type(field)} | {_show_default(field)} | {field.description} |\n"
        for subject in SUBJECTS
        for field in _select_fields(subject, constant=True)
    ]
    return "| constant | type | value | meaning |\n|---|---|---|---|\n" + "".join(rows)


def _select_fields(subject: type[SettingsSubject], *, constant: bool) -> Iterator[FieldInfo]:
    return (field for field in subject.model_fields.values() if get_facts(field).constant == constant)


def _name_type(field: FieldInfo) -> str:
    for one in field.metadata:
        if isinstance(one, TypeName):
            return one.name
    for suffix, unit in _UNITS.items():
        if str(field.alias).endswith(suffix):
            return unit
    origin = get_origin(field.annotation)
    if origin in _TYPES:
        return _TYPES[origin]
    options = [one for one in get_args(field.annotation) if one is not NoneType]
    return _TYPES[options[0] if options else field.annotation]


def _write_default(field: FieldInfo) -> str:
    default = field.default
    if get_facts(field).default is not None or default is None:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return ",".join(default) if isinstance(default, tuple) else str(default)


def _show_default(field: FieldInfo) -> str:
    facts = get_facts(field)
    if facts.example is not None:
        return "required"
    if facts.default is not None:
        return facts.default
    items = field.default if isinstance(field.default, tuple) else [_write_default(field)]
    return ", ".join(f"`{item}`" for item in items if item)


def _strip_markup(text: str) -> str:
    return re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text).replace("`", "")


def _show_value(value: object, *, hidden: bool, nothing: str) -> str:
    """Return a value as text; for a `hidden` one (numbers with their codes) only the count."""
    if value is None or value == "":
        return nothing
    if isinstance(value, SecretStr):
        return "set"
    if hidden:
        count = len(value) if isinstance(value, dict) else 1
        return f"{count} set" if count else "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return ", ".join(str(one) for one in value) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{key}: {one}" for key, one in value.items())[:_LONGEST] or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value) if not isinstance(value, Path) else value.as_posix()
