"""The runbooks: from the text of docs/alerts.md, open to everyone, and linked from where alerts are shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otpqueue.console.runbooks import parse_runbooks, read_runbooks
from otpqueue.domain.alert_rules import RULES
from tests.api.conftest import Caller
from tests.console.alerting import open_alert
from tests.console.conftest import Browser, words


def test_every_rule_has_a_runbook(caller: Caller) -> None:
    """Without a login, each rule's page has what it means and what to do, and names nothing of the state."""
    stranger = Browser(caller.app)

    for rule in RULES:
        page = stranger.page(f"/console/runbooks/{rule}")
        said = words(page)
        assert "What it means" in said
        assert "What to do" in said
        assert "`" not in said
        assert "*" not in said
    listed = stranger.page("/console/runbooks")
    assert all(f'"/console/runbooks/{name}"' in listed for name in read_runbooks())
    assert not stranger.cookies


def test_page_is_the_text_of_the_document(caller: Caller, project: Path) -> None:
    """Word by word, so that the document has no second version."""
    document = (project / "docs" / "alerts.md").read_text(encoding="utf-8")
    section = document.partition("### queue_age\n")[2].partition("\n### ")[0]
    plain = " ".join(re.sub(r"\*(.*?)\*: |`", "", section).split()).lower()

    page = words(Browser(caller.app).page("/console/runbooks/queue_age"))
    found = re.sub(
        r" (Causes|What to do|Tune|Open alerts)(?= [A-Z]| |$)", "", page.partition("What it means ")[2]
    )

    assert "".join(plain.split()) in "".join(found.lower().split())


def test_links_lead_to_runbooks(caller: Caller, operator: Browser) -> None:
    """Alerts link to their runbook; runbooks link to each other; an unknown one is not found."""
    alert_id = open_alert(caller.parts, requests=[])

    assert '"/console/runbooks/number_requests"' in operator.page(f"/console/alerts/{alert_id}")
    assert '"/console/runbooks/number_requests"' in operator.page("/console/alerts")
    assert '"/console/runbooks/queue_age"' in operator.page("/console/runbooks/success_rate")
    for name in ("none", "..", "Performance", "<b>"):
        assert operator.get(f"/console/runbooks/{name}").status_code == 404


@pytest.mark.parametrize("text", ["<script>", 'a & "b"', "`<b>`", "*<i>*", "[<u>](x)"])
def test_text_is_escaped(text: str) -> None:
    """Whatever the document contains is text."""
    (paragraph,) = parse_runbooks(f"### rule\n\n{text}\n")["rule"]

    assert "<script" not in paragraph.text
    assert not re.search("<[biu]>", paragraph.text)
