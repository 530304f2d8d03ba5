"""The documented settings: docs/settings.md, `.env.example` and the constants are generated from the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from otpqueue.settings import SUBJECTS, Settings, document, load
from otpqueue.settings.fields import TUNING, get_facts

FIELDS = Settings.model_fields
CONSTANTS = {str(field.alias) for field in FIELDS.values() if get_facts(field).constant}
SETTINGS = {str(field.alias) for field in FIELDS.values()} - CONSTANTS


@pytest.mark.parametrize(
    ("path", "option", "write"),
    [
        ("docs/settings.md", "--markdown", document.write_page),
        (".env.example", "--env", document.write_example),
    ],
)
def test_generated_file_is_current(project: Path, path: str, option: str, write: Callable[[], str]) -> None:
    """The file has the text that `otpqueue settings` generates."""
    text = (project / path).read_text(encoding="utf-8")

    assert text == write(), f"run `otpqueue settings {option} > {path}`"


def test_contributing_lists_the_constants(project: Path) -> None:
    """docs/contributing.md has the table that `otpqueue settings --constants` generates."""
    page = (project / "docs" / "contributing.md").read_text(encoding="utf-8")

    assert document.write_constants() in page


def test_short_table_names_only_settings(project: Path) -> None:
    """The short table in docs/production.md has only names of settings; those it requires have no default."""
    page = (project / "docs" / "production.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \|", page, re.MULTILINE))
    defaults = {str(field.alias): field.default for field in FIELDS.values()}

    assert rows
    assert sorted(set(rows) - SETTINGS) == []
    assert {name for name in rows if defaults[name] is None} >= {
        name for name, default in rows.items() if default == "required"
    }


def test_every_setting_is_in_one_subject_and_one_row() -> None:
    """No subject is missing from SUBJECTS, and neither file leaves a setting out."""
    in_subjects = [name for subject in SUBJECTS for name in subject.model_fields]
    assert sorted(in_subjects) == sorted(FIELDS)

    rows = re.findall(r"^\| `([A-Z0-9_]+)` \|", document.write_page(), re.MULTILINE)
    assert sorted(rows) == sorted(SETTINGS)
    lines = re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", document.write_example(), re.MULTILINE)
    assert sorted(lines) == sorted(SETTINGS)


def test_constants_have_variables_of_their_own() -> None:
    """The prefix of a variable shows whether it is a constant."""
    assert {str(field.alias) for field in FIELDS.values() if str(field.alias).startswith(TUNING)} == CONSTANTS


def test_example_environment_can_be_used_as_it_stands(project: Path) -> None:
    """A copy of `.env.example` is valid, and so are the defaults that it has in comments."""
    example = project / ".env.example"

    assert example.is_file()
    load({}, dotenv=example)


def test_documented_defaults_are_the_defaults(tmp_path: Path) -> None:
    """A copy of `.env.example` with every comment sign removed changes no optional setting."""
    dotenv = tmp_path / ".env"
    lines = re.findall(r"^# ([A-Z][A-Z0-9_]+=.*)$", document.write_example(), re.MULTILINE)
    dotenv.write_text("\n".join(lines), encoding="utf-8")

    assert load({}, dotenv=dotenv) == load({}, dotenv=None)
