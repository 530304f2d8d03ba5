"""docs/logs.md has one row for each event that the code can log, with its level and its fields."""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

from otpqueue.telemetry import masks
from tests import leaks

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = PROJECT / "otpqueue"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}
LEVEL = {"exception": "error"}


@dataclass
class Event:
    """An event as the code logs it, at all its places together."""

    levels: set[str] = field(default_factory=set)
    fields: set[str] = field(default_factory=set)
    loggers: set[str] = field(default_factory=set)
    more: bool = False
    """Whether fields are given as a dictionary somewhere: these are not known here."""


@dataclass(frozen=True)
class Entry:
    """A row of docs/logs.md."""

    name: str
    levels: frozenset[str]
    meaning: str
    fields: frozenset[str]


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PROJECT).with_suffix("").parts)


def _is_logger(called: ast.expr) -> bool:
    if isinstance(called, ast.Call):
        return ast.unparse(called.func).endswith("get_logger")
    return isinstance(called, ast.Name | ast.Attribute) and ast.unparse(called).split(".")[-1].strip("_") in {
        "log",
        "logger",
    }


def _logging_calls() -> Iterator[tuple[Path, ast.Call, str]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                level = node.func.attr
                if level in LEVELS | {"log", "msg"} and _is_logger(node.func.value):
                    yield path, node, level


@cache
def events() -> dict[str, Event]:
    """Return what the code logs, by name."""
    found: dict[str, Event] = defaultdict(Event)
    for path, call, level in _logging_calls():
        if not call.args or not isinstance(call.args[0], ast.Constant):
            continue
        event = found[str(call.args[0].value)]
        event.levels.add(LEVEL.get(level, level))
        event.fields |= {one.arg for one in call.keywords if one.arg} - {"exc_info"}
        event.more |= any(one.arg is None for one in call.keywords)
        event.loggers.add(_module(path))
    return dict(found)


_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<levels>[a-z, ]+) \| (?P<meaning>[^|]+) \| (?P<fields>[^|]*)\|$", re.MULTILINE
)


@cache
def document() -> str:
    """Return docs/logs.md."""
    return (PROJECT / "docs" / "logs.md").read_text(encoding="utf-8")


@cache
def entries() -> dict[str, Entry]:
    """Return the rows of docs/logs.md, by event name."""
    return {
        found["name"]: Entry(
            name=found["name"],
            levels=frozenset(found["levels"].split(", ")),
            meaning=found["meaning"],
            # Parentheses hold a field's values, not names of fields.
            fields=frozenset(
                re.findall(r"`(\w+)`", re.sub(r"\([^()]*(?:\([^()]*\))?[^()]*\)", "", found["fields"]))
            ),
        )
        for found in _ROW.finditer(document())
    }


@cache
def common() -> frozenset[str]:
    """Return the fields of the section "Common fields"."""
    section = document().partition("\n## Common fields\n")[2].partition("\n## ")[0]
    return frozenset(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE))


def skeleton(name: str) -> str:
    """Return a row to fill in for an event without one."""
    event = events()[name]
    fields = ", ".join(f"`{one}`" for one in sorted(event.fields - common()))
    return f"| `{name}` | {', '.join(sorted(event.levels))} | MEANING | {fields} |"


def test_every_name_is_static() -> None:
    """A name that is put together at run time cannot be looked for, counted or documented."""
    loose = [
        f"{_module(path)}:{call.lineno}"
        for path, call, level in _logging_calls()
        if level in {"log", "msg"}
        or not call.args
        or not isinstance(call.args[0], ast.Constant)
        or not re.fullmatch(r"[a-z][a-z0-9_]+", str(call.args[0].value))
    ]

    assert loose == []
    assert len(events()) > 50


def test_every_event_has_a_row() -> None:
    """The document has one row for each event of the code, and no others."""
    missing = sorted(set(events()) - set(entries()))

    assert missing == [], "\n".join(map(skeleton, missing))
    assert sorted(set(entries()) - set(events())) == []
    rows = [found["name"] for found in _ROW.finditer(document())]
    assert sorted(rows) == sorted(set(rows)), "an event has two rows"


@pytest.mark.parametrize("name", sorted(entries()))
def test_row_matches_the_code(name: str) -> None:
    """A row has the levels and all fields of its event, and no other field."""
    event, entry = events()[name], entries()[name]

    assert entry.levels == event.levels
    assert entry.meaning.strip()
    assert event.fields <= entry.fields | common()
    assert not entry.fields & common(), "common fields are listed once, in their own table"
    if not event.more:
        assert entry.fields <= event.fields


def test_example_is_a_record() -> None:
    """The example is one line of JSON with the fields of its event, and it holds no secret."""
    (example,) = re.findall(r"```json\n(.*?)\n```", document(), re.DOTALL)
    record = json.loads(example)
    event, entry = events()[record["event"]], entries()[record["event"]]

    assert "\n" not in example
    assert record["level"] in event.levels
    assert record["logger"] in event.loggers
    assert set(record) <= entry.fields | common()
    assert entry.fields <= set(record)
    assert {"timestamp", "process"} <= set(record)
    assert leaks.in_clear(example.encode()) == []
    assert masks.mask_values(record) == record
