"""`otpqueue alerts`: what an operator sees of alerts at the command line, and does about them."""

from __future__ import annotations

import json
import re

import pytest

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.wiring import Parts
from tests.alerts.receiving import Inbox, Receivers
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask, MakeParts

RULES = {"OTPQUEUE_ALERT_RULES": '{"number_requests": {"threshold": 1}, "success_rate": {"off": true}}'}


@pytest.fixture
def watched(make_parts: MakeParts, parts: Parts, ask: Ask) -> str:
    """Open an alert about a number; return the alert's id."""
    for _ in range(2):
        ask()
    (alert_id,) = make_parts(**RULES).evaluate_alerts(now=clock.now()).opened
    return str(alert_id)


def test_list_and_show(shell: Shell, watched: str) -> None:
    """An alert is a line of the list; `show` tells its evidence and history; the number is masked in both."""
    lines = shell.invoke("alerts", "list", **RULES).output.splitlines()
    shown = shell.invoke("alerts", "show", watched, **RULES).output

    assert lines[0].startswith(f"{watched}  open    number_requests  +44********23 #")
    assert re.search(r"  2 over 1 h, sample 2; bad over 1  \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ$", lines[0])
    assert re.fullmatch(r"the rules were evaluated .* ago", lines[-1])
    assert "one number requests too many codes; see docs/alerts.md#number_requests" in shown
    assert "  figure  accepted  2" in shown
    assert re.search(r"Z  opened$", shown, re.MULTILINE)
    assert "not delivered: opened by log, 0 attempts, waiting, next attempt" in shown
    assert re.search(r"Z  value 2 of 2$", shown, re.MULTILINE)
    assert NUMBER[3:] not in shown + "".join(lines)


def test_for_machines(shell: Shell, watched: str) -> None:
    """`--json` is what the API answers."""
    listed = json.loads(shell.invoke("alerts", "list", "--json", **RULES).output)
    shown = json.loads(shell.invoke("alerts", "show", watched, "--json", **RULES).output)

    assert listed == {"alerts": [shown]}
    assert shown["id"] == watched


def test_before_anything(shell: Shell, parts: Parts) -> None:
    """Without alerts the list says so, and that nobody has evaluated."""
    lines = shell.invoke("alerts", "list").output.splitlines()

    assert lines[0] == "no alerts open"
    assert "never been evaluated" in lines[-1]


def test_ack(shell: Shell, watched: str) -> None:
    """Who has seen it is noted once."""
    assert (
        shell.invoke("alerts", "ack", watched, "--by", "anna").output
        == "number_requests is acknowledged by anna\n"
    )
    assert shell.invoke("alerts", "ack", watched).output == "number_requests is acknowledged by anna\n"
    assert "acknowledged by anna" in shell.invoke("alerts", "list").output


def test_silences(shell: Shell, watched: str) -> None:
    """An alert's subject is silenced by its id, a rule by its name; a silence is listed, and ended."""
    of_alert = shell.invoke(
        "alerts", "silence", watched, "--for", "2h", "--reason", "we know", "--by", "anna"
    ).output
    of_rule = shell.invoke("alerts", "silence", "success_rate", "--by", "ben").output
    of_subject = shell.invoke("alerts", "silence", "country_conversion", "--subject", "GB").output

    assert re.match(r"number_requests \+44\*{8}23 #[a-z]{6} is silenced until .*Z \(silence ", of_alert)
    assert of_rule.startswith("success_rate, every subject, is silenced until ")
    assert of_subject.startswith("country_conversion GB is silenced until ")
    listed = shell.invoke("alerts", "list").output
    assert "silenced until" in listed.splitlines()[0]
    assert re.search(r"^silence .*  success_rate  every subject  until .*  by ben$", listed, re.MULTILINE)
    assert re.search(r"^silence .*  by anna: we know$", listed, re.MULTILINE)
    silence_id = of_rule.rpartition("silence ")[2].strip(")\n")
    assert shell.invoke("alerts", "unsilence", silence_id).output == "silence ended\n"
    assert "success_rate" not in shell.invoke("alerts", "list").output
    assert "no active silence" in shell.invoke("alerts", "unsilence", silence_id).output


def test_trying_the_way(shell: Shell, parts: Parts) -> None:
    """What came of each channel is said, and exit code 1 that one failed."""
    receivers = Receivers(Inbox())
    with receivers.up():
        arrived = shell.invoke("alerts", "test", **receivers.settings)
    failed = shell.invoke("alerts", "test", **receivers.settings)
    unset = shell.invoke("alerts", "test")

    assert arrived.exit_code == 0
    assert arrived.output.splitlines()[-3:] == ["log: delivered", "webhook: delivered", "email: delivered"]
    assert (len(receivers.inbox.posts), len(receivers.inbox.mails)) == (1, 1)
    assert failed.exit_code == 1
    assert "webhook: FAILED, connection_failed" in failed.output
    assert "email: FAILED, connection_failed" in failed.output
    assert unset.exit_code == 0
    assert "Only the log is configured. Set OTPQUEUE_ALERT_WEBHOOK_URL" in unset.output


def test_rules(bare_shell: Shell) -> None:
    """The rules are listed as they are set; it needs no database."""
    said = bare_shell.invoke("alerts", "rules", **RULES).output.splitlines()

    lines = {line.split()[0]: line.split() for line in said}
    assert lines["success_rate"] == ["success_rate", "off"]
    assert lines["number_requests"] == ["number_requests", "over", "1", "1", "h", "-", "1", "3"]
    assert lines["queue_age"] == ["queue_age", "over", "10.0", "s", "now", "-", "2", "2"]
    assert len(lines) == 20


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("list", "--rule", "no_rule"), "rule must be one of check_failures, "),
        (("list", "--state", "ajar"), "'ajar' is not one of"),
        (("show", "01234567-89ab-7def-8123-456789abcdef"), "No alert has this id"),
        (("ack", "nonsense"), "is not a valid UUID"),
        (("silence", "no_rule"), "rule must be one of"),
        (("silence", "success_rate", "--for", "91d"), "until must be within the next 90 days"),
        (
            ("silence", "success_rate", "--reason", "+447911123456"),
            "must not contain what may be a phone number",
        ),
        (("silence", "01234567-89ab-7def-8123-456789abcdef", "--subject", "GB"), "An alert has its own"),
    ],
)
def test_mistakes(shell: Shell, parts: Parts, arguments: tuple[str, ...], complaint: str) -> None:
    """A mistake is told in one line."""
    said = shell.invoke("alerts", *arguments)

    assert said.exit_code != 0
    assert complaint in said.output


def test_rules_that_cannot_be(shell: Shell) -> None:
    """A rule that is none is told with the setting's name, before anything is read."""
    said = shell.invoke("alerts", "rules", OTPQUEUE_ALERT_RULES='{"sucess_rate": {}}')

    assert said.exit_code == ExitCode.CONFIGURATION
    assert "OTPQUEUE_ALERT_RULES: 'sucess_rate' is not a rule" in said.output
