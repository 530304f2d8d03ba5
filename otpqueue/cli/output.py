"""Prints facts: as text for people, or with `--json` as one JSON document. Nothing else goes to stdout."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from enum import Enum
from typing import Any
from uuid import UUID

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_facts(facts: object, lines: Iterable[str] = (), *, as_json: bool) -> None:
    """Print `facts` as JSON, or else the lines of text.

    Control characters, which texts of the provider may contain, are replaced in lines.
    """
    if as_json:
        click.echo(json.dumps(encode_facts(facts), indent=2))
        return
    for line in lines:
        click.echo(remove_control_characters(line))


def encode_facts(facts: Any) -> Any:
    """Return facts in the types of JSON: times in ISO 8601 (UTC), durations in seconds, sets sorted."""
    if dataclasses.is_dataclass(facts):
        return {field.name: encode_facts(getattr(facts, field.name)) for field in dataclasses.fields(facts)}
    if isinstance(facts, Mapping):
        return {str(encode_facts(key)): encode_facts(value) for key, value in facts.items()}
    if isinstance(facts, set | frozenset):
        return sorted(encode_facts(one) for one in facts)
    if isinstance(facts, list | tuple):
        return [encode_facts(one) for one in facts]
    return _encode_value(facts)


def _encode_value(value: Any) -> Any:
    if isinstance(value, Enum):
        return _encode_value(value.value)
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, UUID | date):
        return str(value)
    return value


def format_table(rows: Iterable[Iterable[str]]) -> list[str]:
    """Return rows as lines with aligned columns."""
    cells = [list(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def remove_control_characters(line: str) -> str:
    """Return the line with a question mark for each control character."""
    return "".join(character if character.isprintable() else "?" for character in line)
