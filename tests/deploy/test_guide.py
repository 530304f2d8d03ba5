"""The pages about deployments name commands, settings and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.deploy.described import SETTINGS, parse_command

PAGES = ("deployment.md", "backup.md", "scaling.md")


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, project: Path) -> str:
    """Return the text of a page."""
    return (project / "docs" / str(request.param)).read_text(encoding="utf-8")


def test_commands_of_the_code_blocks_are_valid(page: str, request: pytest.FixtureRequest) -> None:
    """Each `otpqueue` command in a code block has the subcommand and the options that it names."""
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).replace("\\\n", " ")
    found = re.findall(r"(?:^\s*|/bin/|-- )(otpqueue .*)$", blocks, re.MULTILINE)

    for line in found:
        parse_command(shlex.split(line, comments=True))
    assert found or "deployment" not in request.node.name


def test_named_settings_exist(page: str) -> None:
    """Every OTPQUEUE_ name is a setting."""
    names = set(re.findall(r"`(OTPQUEUE_[A-Z0-9_]+)", page))

    assert sorted(names - SETTINGS) == []


def test_named_files_exist(page: str, project: Path) -> None:
    """Every file of `deploy/` that a page names is in the project."""
    names = re.findall(r"`(deploy/[\w./-]*\w)`", page)

    assert [name for name in names if not (project / name).exists()] == []
