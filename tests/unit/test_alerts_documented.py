"""docs/alerts.md: a section on each rule, and a table that says what the rules are."""

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
    """In the order of the rules: what it means, and what to do at night."""
    sections = re.split(
        r"^### ", document.partition("\n## Rules\n")[2].partition("\n## ")[0], flags=re.MULTILINE
    )

    assert [section.partition("\n")[0] for section in sections[1:]] == list(RULES)
    for section in sections[1:]:
        assert "*What to do*: " in section, section


def test_table_says_what_is(document: str) -> None:
    """Windows, samples and runs are those of the code, but for what other settings say."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|([^|]*)\|([^|]*)\|$", document, re.MULTILINE)

    told = [row for row in rows if row[0] in RULES]
    assert [name for name, *_ in told] == list(RULES)
    for name, window, sample, runs in told:
        rule = RULES[name]
        assert runs.strip() == f"{rule.opens_after}, {rule.closes_after}", name
        if "OTPQUEUE" not in window:
            assert window.strip() == (format_duration(rule.window_s) if rule.window_s else "now"), name
            assert sample.strip() == (str(rule.min_sample) if rule.min_sample else ""), name
