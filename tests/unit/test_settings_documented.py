"""The settings as the user reads them: the README's table and `.env.example` name every one, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from otpqueue.settings import Settings, load

NAMES = {str(field.alias) for field in Settings.model_fields.values()}


def test_readme_table_has_every_setting(project: Path) -> None:
    """The README has a row for each setting, and no row of ours for a setting that does not exist."""
    readme = (project / "README.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", readme, re.MULTILINE)
    assert sorted(NAMES - set(rows)) == []
    ours = {name for name in rows if name.startswith(("OTPQUEUE_", "INFOBIP_"))}
    assert sorted(ours - NAMES) == []
    assert len(rows) == len(set(rows))


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
