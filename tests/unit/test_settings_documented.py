"""The documented settings: docs/settings.md and `.env.example` name every setting, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from otpqueue.settings import Settings, load

NAMES = {str(field.alias) for field in Settings.model_fields.values()}


def _rows(document: Path) -> list[str]:
    return re.findall(r"^\| `([A-Z0-9_]+)` \|", document.read_text(encoding="utf-8"), re.MULTILINE)


def test_settings_page_has_every_setting(project: Path) -> None:
    """docs/settings.md has one row for each setting, and no other row."""
    rows = _rows(project / "docs" / "settings.md")

    assert sorted(rows) == sorted(NAMES)


def test_readme_names_only_settings(project: Path) -> None:
    """The README's short table has only names of settings."""
    rows = _rows(project / "README.md")

    assert rows
    assert sorted(set(rows) - NAMES) == []


def test_example_environment_has_every_setting(project: Path) -> None:
    """`.env.example` has a line for each setting, and none for one that does not exist."""
    example = (project / ".env.example").read_text(encoding="utf-8")

    lines = re.findall(r"^(?:# ?)?([A-Z][A-Z0-9_]+)=", example, re.MULTILINE)
    assert sorted(NAMES - set(lines)) == []
    assert sorted(set(lines) - NAMES) == []


def test_example_environment_can_be_used_as_it_stands(project: Path) -> None:
    """A copy of `.env.example` is read without a complaint."""
    example = project / ".env.example"

    assert example.is_file()
    load({}, dotenv=example)
