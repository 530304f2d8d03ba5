"""`otpqueue guard`: the report, the refusals and the exceptions as an operator reads them."""

from __future__ import annotations

import re
from contextlib import suppress
from uuid import UUID

import pytest

from otpqueue import clock
from otpqueue.domain.errors import DestinationPaused
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import MakeParts, Provider


def attacked(parts: Parts, client_id: UUID, provider: Provider) -> None:
    """Let one number verify in a block, and four others of another block ask, three of them in vain."""

    def ask(number: str) -> UUID:
        wanted = RequestedCode(phone_number=number)
        return parts.request(wanted, client_id=client_id, now=clock.now()).id

    good = ask("+447700900001")
    parts.pump.run()
    attempted = TypedCode(code=provider.code("+447700900001"))
    parts.verify(good, attempted, client_id=client_id, now=clock.now())
    ask("+447400100000")
    for last in range(1, 4):
        with suppress(DestinationPaused):
            ask(f"+44740010000{last}")
    parts.pump.run()


def test_report_in_force(
    make_parts: MakeParts, parts: Parts, client_id: UUID, provider: Provider, shell: Shell
) -> None:
    """The report names countries and blocks, worst first, with what was refused and why."""
    attacked(make_parts(OTPQUEUE_GUARD="enforce"), client_id, provider)

    said = shell.run("guard", "report", OTPQUEUE_GUARD="enforce")

    assert said.returncode == 0, said.stderr
    lines = [line.split() for line in said.stdout.splitlines()]
    assert re.match(r"mode enforce, since \d{4}-\d\d-\d\d \d\d:00 UTC", said.stdout)
    assert ["refused:", "3", "chance_used"] in lines
    assert ["GB", "2", "1", "50%", "-", "3", "0"] in lines
    at_risk, good = (
        ["44740010", "1", "0", "0%", "1", "3", "0"],
        ["44770090", "1", "1", "100%", "3.5", "0", "0"],
    )
    assert lines.index(at_risk) < lines.index(good)
    assert "900001" not in said.stdout


def test_report_of_shadow_mode(parts: Parts, client_id: UUID, provider: Provider, shell: Shell) -> None:
    """In shadow mode the report tells what would have been refused."""
    attacked(parts, client_id, provider)

    said = shell.run("guard", "report", "--since", "2h", "--country", "gb", "--blocks", "1")

    assert "mode shadow" in said.stdout
    assert "would have refused: 3 chance_used" in said.stdout
    assert ["44740010", "4", "0", "0%", "1", "3", "0"] in [line.split() for line in said.stdout.splitlines()]
    assert "... and 1 more blocks" in said.stdout


def test_decisions(parts: Parts, client_id: UUID, provider: Provider, shell: Shell) -> None:
    """Each minute's refusals are a line with client, reason and the figures."""
    assert shell.run("guard", "decisions").stdout == "nothing refused\n"
    attacked(parts, client_id, provider)

    said = shell.run("guard", "decisions", "--since", "1h")

    assert re.search(
        r"^\d{4}-\d\d-\d\d \d\d:\d\dZ  test  GB  would have refused \d: chance_used, 1 unverified of 1 "
        r"allowed \(first: block 44740010\)$",
        said.stdout,
        re.MULTILINE,
    )


def test_exceptions(shell: Shell) -> None:
    """Exceptions are made, listed and ended."""
    assert "GB is exempt until" in shell.run("guard", "allow", "GB", "--for", "2w").stdout
    assert shell.run("guard", "allow", "+4479").returncode == 0
    assert [line.split()[0] for line in shell.run("guard", "list").stdout.splitlines()] == ["4479", "GB"]

    assert shell.run("guard", "disallow", "gb").stdout == "gb is guarded again\n"

    assert [line.split()[0] for line in shell.run("guard", "list").stdout.splitlines()] == ["4479"]
    assert "GB has no exception" in shell.run("guard", "disallow", "GB").stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("allow", "Utopia"), "must be a country like GB or the first digits"),
        (("allow", "447911123456"), "must be a country like GB or the first digits"),
        (("allow", "GB", "--for", "1000d"), "at most 90 days"),
        (("allow", "GB", "--for", "soon"), "a whole number and a unit (s, m, h, d or w)"),
        (("report", "--since", "0h"), "must be longer than zero"),
        (("disallow", "FR"), "FR has no exception"),
    ],
)
def test_mistakes(shell: Shell, arguments: tuple[str, ...], complaint: str) -> None:
    """A mistake is told in one line."""
    said = shell.run("guard", *arguments)

    assert said.returncode != 0
    assert complaint in said.stderr
    assert "Traceback" not in said.stderr
