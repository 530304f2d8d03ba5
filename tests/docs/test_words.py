"""The documentation avoids words that make a text hard to read or use a common verb for a technical one.

Add a path to `COVERED` to check more files, and a pattern to `AVOIDED` to ban another word.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

COVERED = (
    "README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    ".env.example",
    "docs",
    "deploy",
    "docker-compose.yml",
    "clients/javascript/README.md",
    "clients/python",
    "otpqueue",
    "tests/client",
    "tests/operations",
)
"""Files, and folders with all files below them, relative to the project."""

SUFFIXES = {".md", ".py", ".html", ".yml", ".yaml", ".json", ".example", ".sql"}

AVOIDED = {
    r"nobody|somebody|everybody": "name the actor: the caller, the worker, an operator",
    r"whose|whom|whoever|whomever": "processes and rows are things: `which`, `its`",
    r"tells?|told|telling": "notify, report, show, distinguish",
    r"mend(?:s|ed|ing)?": "fix, correct, repair",
    r"anew": "again",
    r"so (?:long|many|much|often)(?! as)": "`for N seconds`, `up to N`, `how often`",
    r"put off|puts off|putting off": "skip, postpone",
    r"let be|let in|lets in|let through": "ignore, accept, allow",
    r"by itself|by themselves": "automatically, or leave it out",
    r"what is left of|is left of": "remaining, quota",
    r"takes? part": "is included",
    r"as it is|as it stands|as they are set": "current, unchanged",
    r"stands? (?:in|for|at|before|beside)|stands? alone": "is in, means, is at",
    r"is over|are over": "ended",
    r"(?:ran|runs?) out(?! of)": "expired",
    r"is had|are had": "is available",
    r"dear|dearer": "expensive",
    r"of use": "useful",
    r"comes to|come to nothing|came to nothing": "reaches, fails",
    r"sign of life|signs of life|shows? life": "heartbeat",
    r"at the door|refused by the door": "API, admission rule",
    r"pass(?:es)? over": "ignore",
    r"gets? out|got out": "is sent",
    r"comes? again": "is retried",
    r"of ours|of its own accord": "otpqueue's, or leave it out",
    r"says? so|said so": "reports it",
    r"forgives?|forgiven|forgotten|forgets?": "reset, delete",
    r"what becomes of|what became of|becomes of": "status, outcome",
    r"wish(?:es)?": "action, request",
    r"is well|are well|no illness": "healthy",
    r"give(?:s|n)? up by|gives? (?:a|the) \w+ up": "cancel, expire",
}
"""Patterns of words to avoid, and what to write instead."""

ANY_AVOIDED = re.compile(rf"\b(?:{'|'.join(AVOIDED)})\b", re.IGNORECASE)
"""Matches a line with any of them: one search instead of many for lines with none."""


ALLOWED = {
    "docs/privacy.md": ("the wish not to be contacted",),
    # A user of Unix.
    "otpqueue/embedded/identity.py": ('"nobody"', "user 'nobody'"),
}
"""Phrases that a file may contain."""


def covered_files(project: Path) -> Iterator[Path]:
    """Yield the files to check."""
    for name in COVERED:
        path = project / name
        assert path.exists(), f"{name} is covered, but does not exist"
        found = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in found:
            is_text = file.suffix in SUFFIXES or file.name == ".env.example"
            if file.is_file() and is_text:
                yield file


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield numbered lines of what people read in a file: no code blocks, inline code or link targets."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        yield from _comments_and_strings(text)
        return
    is_code = False
    for number, line in enumerate(text.splitlines(), 1):
        if path.suffix == ".md" and line.startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, re.sub(r"\]\([^)]*\)", "]", re.sub(r"`[^`]*`", "``", line))


def _comments_and_strings(text: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            for offset, line in enumerate(token.string.splitlines()):
                yield token.start[0] + offset, re.sub(r"`[^`]*`", "``", line)


def findings(name: str, lines: Iterator[tuple[int, str]]) -> list[str]:
    """Return a message for each word to avoid."""
    found = []
    allowed = re.compile("|".join(map(re.escape, ALLOWED.get(name, ()))) or r"(?!)")
    for number, line in lines:
        read = allowed.sub("", line)
        if not ANY_AVOIDED.search(read):
            continue
        for pattern, instead in AVOIDED.items():
            found += [
                f"{name}:{number}: {match.group()!r}; write: {instead}"
                for match in re.finditer(rf"\b(?:{pattern})\b", read, re.IGNORECASE)
            ]
    return found


def test_documentation_avoids_these_words(project: Path) -> None:
    """No covered file contains a word to avoid."""
    found = [
        message
        for file in covered_files(project)
        for message in findings(str(file.relative_to(project)), prose(file))
    ]

    assert found == [], "\n".join(found)


def test_exempt_files_exist(project: Path) -> None:
    """The list of exceptions names only files that exist."""
    assert [name for name in sorted(ALLOWED) if not (project / name).is_file()] == []


@pytest.mark.parametrize(
    ("suffix", "text", "words"),
    [
        (".md", "Nobody is told.\n", ["Nobody", "told"]),
        (".md", "It waits `so long`, [told](whose.md).\n\n```\nnobody\n```\n", ["told"]),
        (".md", "Waits as long as needed.\n", []),
        (".py", 'nobody = 1  # mended\n"""Whose key.\n\nSo many rows."""\n', ["mended", "Whose", "So many"]),
    ],
)
def test_words_are_found(tmp_path: Path, suffix: str, text: str, words: list[str]) -> None:
    """Words count in prose, docstrings and comments, but not in code, inline code or link targets."""
    file = tmp_path / f"page{suffix}"
    file.write_text(text, encoding="utf-8")

    found = findings(file.name, prose(file))

    assert sorted(re.findall(r": '(.*?)';", "\n".join(found))) == sorted(words)
