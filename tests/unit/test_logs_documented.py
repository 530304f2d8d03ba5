"""Every event that the code can log has an entry in docs/logs.md, with its fields and a real example.

An event that has none yet: `pytest -n 0 -p tests.logged --logged=FILE` over tests that make it happen catches
a record of it, and what fails here says how its entry begins.
"""

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

from otpqueue import masks
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
    """An event as docs/logs.md has it."""

    name: str
    levels: frozenset[str]
    meaning: str
    fields: frozenset[str]
    example: str


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


_ENTRY = re.compile(
    r"^### `(?P<name>\w+)`\n\n(?P<levels>[a-z, ]+) · (?P<meaning>.+?)"
    r"(?:\n\nFields: (?P<fields>.+?))?\n\n```json\n(?P<example>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)


@cache
def document() -> str:
    """Return docs/logs.md."""
    return (PROJECT / "docs" / "logs.md").read_text(encoding="utf-8")


@cache
def entries() -> dict[str, Entry]:
    """Return the entries of docs/logs.md, by name."""
    return {
        found["name"]: Entry(
            name=found["name"],
            levels=frozenset(found["levels"].split(", ")),
            meaning=found["meaning"],
            # What a field may be stands in brackets.
            fields=frozenset(re.findall(r"`(\w+)`", re.sub(r"\(.*?\)", "", found["fields"] or ""))),
            example=found["example"],
        )
        for found in _ENTRY.finditer(document())
    }


@cache
def common() -> frozenset[str]:
    """Return the fields that any record may have: the rows of the first table."""
    return frozenset(re.findall(r"^\| `(\w+)` \|", document(), re.MULTILINE))


def skeleton(name: str) -> str:
    """Return how the entry of an event begins."""
    event = events()[name]
    fields = ", ".join(f"`{one}`" for one in sorted(event.fields - common()))
    return f"### `{name}`\n\n{', '.join(sorted(event.levels))} · \n\nFields: {fields}\n\n```json\n\n```\n"


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


def test_every_event_has_an_entry() -> None:
    """The document has an entry for each event of the code, once, and none that the code does not know."""
    missing = sorted(set(events()) - set(entries()))

    assert missing == [], "\n".join(map(skeleton, missing))
    assert sorted(set(entries()) - set(events())) == []
    headings = re.findall(r"^### `(\w+)`", document(), re.MULTILINE)
    assert sorted(headings) == sorted(entries()), "an entry is not written as the others are"


@pytest.mark.parametrize("name", sorted(events()))
def test_entry_says_what_the_code_does(name: str) -> None:
    """An entry has the level and every field of its event, and no other."""
    event, entry = events()[name], entries()[name]

    assert entry.levels == event.levels
    assert entry.meaning.strip().endswith(".")
    assert event.fields <= entry.fields | common()
    if not event.more:
        assert entry.fields <= event.fields


@pytest.mark.parametrize("name", sorted(events()))
def test_example_is_a_record(name: str) -> None:
    """An example is one line of JSON as it is printed: that event, by who logs it, with known fields only."""
    event, entry = events()[name], entries()[name]

    assert "\n" not in entry.example
    record = json.loads(entry.example)
    assert record["event"] == name
    assert record["level"] in event.levels
    assert record["logger"] in event.loggers
    assert set(record) <= entry.fields | common()
    assert {"timestamp", "process"} <= set(record)


@pytest.mark.parametrize("name", sorted(events()))
def test_example_holds_no_secret(name: str) -> None:
    """No number, code or key stands in an example; what is masked is masked as the product does it."""
    example = entries()[name].example
    record = json.loads(example)

    assert leaks.in_clear(example.encode()) == []
    assert masks.values(record) == record
