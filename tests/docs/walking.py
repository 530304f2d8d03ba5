"""Runs the code blocks of a page, in their order and in one shell, as a reader would paste them.

A comment `# → TEXT` (`// → TEXT` in JavaScript) shows output: the block must print this text there.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

INSTALL = "-m venv .venv && .venv/bin/pip install"
"""What the commands have in common that install otpqueue. They do not end, or are run by CI."""

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXPECTED = re.compile(r"(?:#|//) → (.+)$", re.MULTILINE)
_MARK = "=== block"
_FILES = {"python": ("py", ".venv/bin/python"), "js": ("mjs", "node")}
_NOBODY = 65534


@dataclass(frozen=True)
class Block:
    """A code block: its language, its text, and the number of its first line."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """A part of a block up to a comment with the output that it must print; "" if there is none."""

    block: Block
    text: str
    expected: str


def read_blocks(page: Path) -> list[Block]:
    """Return the code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in _BLOCK.finditer(text)
    ]


def split_steps(block: Block) -> list[Step]:
    """Return a block's steps. Only a shell block is split; a program runs as a whole."""
    if block.language != "sh":
        expected = _EXPECTED.findall(block.text)
        return [Step(block, block.text, "\n".join(expected))]
    steps, start = [], 0
    for match in _EXPECTED.finditer(block.text):
        steps.append(Step(block, block.text[start : match.start()], match[1]))
        start = match.end()
    return [*steps, Step(block, block.text[start:], "")]


def write_script(steps: list[Step], folder: Path) -> str:
    """Return a shell script of all steps, which prints a mark before each. Programs become files."""
    lines = ["set -euo pipefail"]
    for number, step in enumerate(steps):
        lines.append(f"echo; echo {shlex.quote(f'{_MARK} {number}')}")
        if step.block.language == "sh":
            lines.append(step.text)
        else:
            suffix, command = _FILES[step.block.language]
            (folder / f"block{number}.{suffix}").write_text(step.text, encoding="utf-8")
            lines.append(f"{command} block{number}.{suffix}")
    return "\n".join(lines)


def walk(page: Path, folder: Path, *, timeout_s: float = 120) -> int:
    """Run the blocks of a page in a folder and return how many ran. Fails unless all print what is shown."""
    blocks = [
        block
        for block in read_blocks(page)
        if INSTALL not in block.text and (block.language != "js" or shutil.which("node"))
    ]
    unknown = [f"line {block.line}" for block in blocks if block.language not in {"sh", *_FILES}]
    assert unknown == [], f"{page.name}: blocks that cannot be run: {unknown}"
    steps = [step for block in blocks for step in split_steps(block)]
    done = subprocess.run(
        [*as_ordinary_user(), "bash", "-c", write_script(steps, folder)],
        cwd=folder,
        env=clean_environment(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    parts = re.split(rf"^{_MARK} \d+\n", done.stdout, flags=re.MULTILINE)[1:]
    assert done.returncode == 0, f"{page.name}:{steps[len(parts) - 1].block.line}: {done.stdout}"
    for step, printed in zip(steps, parts, strict=True):
        for expected in step.expected.splitlines():
            assert expected in printed, f"{page.name}:{step.block.line}: no {expected!r} in {printed!r}"
    return len(blocks)


def as_ordinary_user() -> list[str]:
    """Return what comes before a command so that root runs it as an ordinary user.

    A user namespace is used, because Python may be in a folder that only root can enter.
    """
    if os.geteuid() != 0:
        return []
    return ["unshare", "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}"]


def can_become_ordinary() -> bool:
    """Return whether `as_ordinary_user` works here."""
    try:
        return subprocess.run([*as_ordinary_user(), "true"], check=False, capture_output=True).returncode == 0
    except OSError:
        return False


def clean_environment(folder: Path) -> dict[str, str]:
    """Return the environment of a user who has set nothing, with a home of their own."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("LC_", "PIP_", "SSL_", "UV_")) or name in {"PATH", "LANG", "TMPDIR"}
    }
    return kept | {"HOME": str(folder)}
