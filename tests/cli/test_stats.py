"""`otpqueue stats`: what was counted, as an operator reads it."""

from __future__ import annotations

import json
import re
from datetime import timedelta

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask, Provider


def test_table(shell: Shell, parts: Parts, ask: Ask, provider: Provider) -> None:
    """One line for each group and one for all, then why things ended or were refused."""
    request = ask()
    parts.pump.run()
    attempted = TypedCode(code=provider.code(NUMBER))
    parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())
    ask("+12025550123")
    ask("+12025550123")
    parts.roll_up()

    said = shell.invoke("stats", "--by", "client", "--by", "country")

    assert said.exit_code == 0, said.output
    lines = said.stdout.splitlines()
    assert re.fullmatch(r"[-\d]+ [\d:]+ to [-\d]+ [\d:]+ UTC, whole minutes and the current one", lines[0])
    titles = re.split(r"\s{2,}", lines[2].strip())
    rows = [re.split(r"\s{2,}", line) for line in lines[3:6]]
    assert [row[0] for row in rows] == ["test US", "test GB", "all"]
    gb = dict(zip(titles, rows[1][1:], strict=True))
    assert gb["requested"] == gb["sent"] == gb["verified"] == "1"
    assert gb["success"] == gb["of sent"] == "100.0%"
    assert (gb["delivered"], gb["a verified"]) == ("-", "-")
    assert re.fullmatch(r"\d+\.\d\d s", gb["to send"])
    assert "cancelled: 1 replaced" in lines
    assert "checks: 1 correct" in lines
    assert said.stderr == ""


def test_json(shell: Shell, parts: Parts, ask: Ask) -> None:
    """`--json` prints what the API answers."""
    ask()
    parts.roll_up()

    said = json.loads(shell.invoke("stats", "--json", "--window", "24h", "--country", "gb").stdout)

    assert said["all"]["counts"]["requested"] == 1
    assert said["step_s"] == 3600


def test_statistics_that_are_behind(shell: Shell, parts: Parts, client_id: object) -> None:
    """Where nothing is added up the reader is told, and what to look after."""
    wanted = RequestedCode(phone_number=NUMBER)
    parts.request(wanted, client_id=client_id, now=clock.now() - timedelta(minutes=10))

    said = shell.invoke("stats")

    assert said.exit_code == 0
    assert "Statistics are incomplete since" in said.stderr
    assert "periodic" in said.stderr


def test_bad_options(shell: Shell) -> None:
    """A client that does not exist and a window that is not kept are refused in one message."""
    unknown = shell.invoke("stats", "--client", "nobody")
    long = shell.invoke("stats", "--window", "31d")

    assert (unknown.exit_code, long.exit_code) == (ExitCode.NOT_FOUND, ExitCode.REFUSED)
    assert "client" in unknown.stderr
    assert "window" in long.stderr
    assert shell.invoke("stats", "--by", "number").exit_code == 2
