"""docs/alerts.md has a section for each rule, and a table that matches the rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otpqueue.domain.alert_rules import RULES
from otpqueue.domain.alerts import format_duration


@pytest.fixture
def document(project: Path) -> str:
    """Return the document."""
    return (project / "docs" / "alerts.md").read_text(encoding="utf-8")


def test_every_rule_has_its_section(document: str) -> None:
    """The sections follow the order of the rules and say what to do."""
    sections = re.split(
        r"^### ", document.partition("\n## Rules\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )

    assert [section.partition("\n")[0] for section in sections[1:]] == list(RULES)
    for section in sections[1:]:
        assert "*What to do*: " in section, section


def test_table_says_what_is(document: str) -> None:
    """The documented windows, samples and counts match the code, except those that other settings set."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|([^|]*)\|([^|]*)\|$", document, re.MULTILINE)

    documented = [row for row in rows if row[0] in RULES]
    assert [name for name, *_ in documented] == list(RULES)
    for name, window, sample, runs in documented:
        rule = RULES[name]
        assert runs.strip() == f"{rule.opens_after}, {rule.closes_after}", name
        if "OTPQUEUE" not in window:
            assert window.strip() == (format_duration(rule.window_s) if rule.window_s else "now"), name
            assert sample.strip() == (str(rule.min_sample) if rule.min_sample else ""), name
