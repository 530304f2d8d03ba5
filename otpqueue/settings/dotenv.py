"""Reads `.env`: each value exactly as written, or a problem that names its line.

python-dotenv parses the file. This module rejects values that python-dotenv would change without an error: a
value that a comment truncates, a variable that is expanded, a quote that is not closed.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection
from pathlib import Path

from dotenv.parser import Binding, parse_stream

_COMMENT = re.compile(r"\s#")
_ESCAPE = re.compile(r"\\[nrt]")


def read_env_file(
    path: Path, *, is_ours: Callable[[str], bool], escaped: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Return the values of the file by name, and one problem for each invalid line.

    is_ours   whether to check the value of a name; other programs may read the other values
    escaped   names with values that may contain backslashes, such as JSON

    No problem contains a value.
    """
    try:
        # A byte that is not UTF-8 becomes a surrogate, which _is_text rejects.
        text = path.read_bytes().decode("utf-8-sig", errors="surrogateescape")
    except OSError as error:
        return {}, [f"{path.name} cannot be read: {error.strerror}"]
    values: dict[str, str] = {}
    problems = []
    for binding in parse_stream(io.StringIO(text, newline="")):
        key, why = binding.key, _find_problem(binding)
        if why is None and key is not None and is_ours(key):
            why = _find_own_problem(binding, may_escape=key in escaped)
        if why:
            problems.append(f"{path.name}, line {_find_line(binding)}: {why}")
        elif key is not None and binding.value is not None:
            values[key] = binding.value
    return values, problems


def _find_line(binding: Binding) -> int:
    # A binding starts with the blank lines before it.
    string = binding.original.string
    blank = string[: len(string) - len(string.lstrip())]
    return binding.original.line + len(re.findall(r"\r\n|\n|\r", blank))


def _find_problem(binding: Binding) -> str | None:
    if binding.error:
        return "is not `NAME=value`, or a quote in it is not closed"
    if binding.key is not None and not _is_text(binding.key):
        return "is not text in UTF-8"
    return None


def _find_own_problem(binding: Binding, *, may_escape: bool) -> str | None:
    name, raw = binding.key, binding.original.string.partition("=")[2]
    if binding.value is None:
        return f"{name} has no `=`"
    if not _is_text(binding.value):
        return f"the value of {name} is not text in UTF-8"
    quote = raw.strip()[:1]
    if quote == "'":
        return None
    if "${" in raw:
        return f"{name} has `${{`, and variables are not expanded; write the value in single quotes"
    if quote == '"':
        return None
    if _COMMENT.search(raw):
        return (
            f"{name} has ` #`, which may begin a comment; write the value in quotes, or the comment on a "
            "line of its own"
        )
    if _ESCAPE.search(raw) and not may_escape:
        return (
            f"{name} has a backslash; write the value in double quotes if it means a line break or tab, "
            "else in single quotes"
        )
    return None


def _is_text(value: str) -> bool:
    return "\0" not in value and not any("\ud800" <= character <= "\udfff" for character in value)
