"""`otpqueue requests show`: a request's life for a person, and for a machine."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from uuid import uuid4

import pytest

from otpqueue import clock
from otpqueue.api.resources.history import HistoryResponse
from otpqueue.cli import requests as command
from otpqueue.cli.exits import ExitCode
from otpqueue.cli.output import remove_control_characters
from otpqueue.domain.errors import CodeIncorrect
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask, Provider

MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}Z"


def test_show(shell: Shell, parts: Parts, ask: Ask, provider: Provider) -> None:
    """A header, and one aligned line for each thing that happened; never the number nor the code."""
    request = ask(language="de")
    parts.pump.run()
    code = provider.code()
    wrong = TypedCode(code=f"{(int(code) + 1) % 1_000_000:06}")
    with pytest.raises(CodeIncorrect):
        parts.verify(request.id, wrong, client_id=request.client_id, now=clock.now())
    parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())

    result = shell.run("requests", "show", str(request.id))

    assert (result.returncode, result.stderr) == (0, "")
    header, _, time_line = result.stdout.partition("\n\n")
    facts = [re.split(r" {2,}", line) for line in header.splitlines()]
    assert facts[:7] == [
        ["request", str(request.id)],
        ["status", "verified (code_correct)"],
        ["client", "test"],
        ["number", "+44********23"],
        ["country", "GB"],
        ["channel", "sms"],
        ["language", "de"],
    ]
    assert facts[7][0] == "send by"
    assert facts[9:] == [["sends", "1"], ["checks", "2 of 5"]]
    lines = [re.fullmatch(rf"({MOMENT})  +(\+\d+\.\d{{3}} s)  (\S.*)", one) for one in time_line.splitlines()]
    assert [line and line[3].split(":")[0] for line in lines] == [
        "accepted",
        "attempt 1 claimed",
        "attempt 1 accepted",
        "queued -> sent",
        "check 1 started",
        "check 1 wrong",
        "check 2 started",
        "check 2 correct",
        "sent -> verified",
    ]
    assert lines[0]
    assert lines[0][2] == "+0.000 s"
    assert len({line.start(3) for line in lines if line}) == 1
    assert NUMBER[1:] not in result.stdout
    assert code not in result.stdout.replace(str(request.id), "")


def test_show_json(shell: Shell, parts: Parts, ask: Ask) -> None:
    """For machines it is what the API answers."""
    request = ask()

    result = shell.run("requests", "show", "--json", str(request.id))

    assert result.returncode == 0
    assert json.loads(result.stdout) == HistoryResponse.of(parts.history(request.id)).model_dump(mode="json")


def test_words_of_others_cannot_command_a_terminal(parts: Parts, ask: Ask) -> None:
    """A provider's word with escape sequences in it is printed without them."""
    request = ask()
    parts.cancel(request.id, client_id=request.client_id, now=clock.now())
    history = parts.history(request.id)
    told = replace(history, moves=(replace(history.moves[0], reason="\x1b]0;owned\x07"),))

    lines = [remove_control_characters(line) for line in command._format_events(told)]

    assert lines[-1].endswith("queued -> cancelled: ?]0;owned?")


def test_unknown_id(shell: Shell, parts: Parts) -> None:
    """An id that no request has is a message, also for machines."""
    result = shell.run("requests", "show", "--json", str(uuid4()))

    assert (result.returncode, result.stdout) == (ExitCode.NOT_FOUND, "")
    assert result.stderr == "Error: There is no OTP request with this id.\n"


def test_not_an_id(cut_off_shell: Shell) -> None:
    """What is no UUID is said to be none, before anything connects."""
    result = cut_off_shell.invoke("requests", "show", "nonsense")

    assert (result.exit_code, result.stdout) == (2, "")
    assert "'nonsense' is not a valid UUID" in result.stderr


def test_database_down(cut_off_shell: Shell) -> None:
    """A database that cannot be reached is a message without its password."""
    result = cut_off_shell.invoke("requests", "show", str(uuid4()))

    assert (result.exit_code, result.stdout) == (ExitCode.UNREACHABLE, "")
    assert result.stderr == "Error: The database is unavailable. Retry.\n"


def test_no_settings(bare_shell: Shell) -> None:
    """Without a database the message names what is missing."""
    result = bare_shell.invoke("requests", "show", str(uuid4()))

    assert result.exit_code == ExitCode.CONFIGURATION
    assert result.stderr.startswith("Error: ")
    assert "DATABASE_URL" in result.stderr
