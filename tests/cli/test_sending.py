"""`otpqueue stop-sending`, `resume-sending`, `sending-status`, and `numbers`, as an operator types them."""

from __future__ import annotations

import re

from otpqueue.cli.exits import ExitCode
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.conftest import NUMBER, Ask

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"


def test_life_of_a_stop(shell: Shell, parts: Parts, ask: Ask) -> None:
    """Stopped with who and why, seen, resumed; a stop of a part goes on until it is ended itself."""
    ask()
    parts.pump.run()

    stopped = shell.run("stop-sending", "--reason", "pumping", "--by", "ann")
    again = shell.run("stop-sending", "--by", "ann")
    part = shell.run("stop-sending", "--country", "ID")
    status = shell.run("sending-status")
    resumed = shell.run("resume-sending")
    rest = shell.run("resume-sending", "--country", "ID")
    nothing = shell.run("resume-sending", "--client", "test")
    on = shell.run("sending-status")

    assert stopped.stdout == "sending stopped for all\n"
    assert again.stdout == "sending was already stopped for all\n"
    assert part.stdout == "sending stopped for country ID\n"
    first, second, *counts = status.stdout.splitlines()
    assert re.fullmatch(rf"STOPPED  everything  {WHEN}  by ann: pumping", first)
    assert re.fullmatch(rf"STOPPED  country ID  {WHEN}  by \S+@\S+", second)
    expected = ["sent today (UTC):", "  everything  1 of 10000", "  client test  1 no cap"]
    assert counts == [*expected, "  country GB  1 no cap"]
    assert resumed.stdout == "sending resumed for all\nstill stopped: country ID\n"
    assert rest.stdout == "sending resumed for country ID\n"
    assert nothing.stdout == "sending was not stopped for client test\n"
    assert on.stdout.startswith("sending is on\n")


def test_stop_of_what_does_not_exist(shell: Shell, parts: Parts) -> None:
    """A slip is a message, and stops nothing."""
    result = shell.run("stop-sending", "--country", "UK")

    assert (result.returncode, result.stdout) == (ExitCode.REFUSED, "")
    assert result.stderr.endswith("Error: country must be ISO 3166 alpha-2, e.g. GB, or 001\n")


def test_reached_cap_is_shown(shell: Shell, parts: Parts, ask: Ask) -> None:
    """The status says which cap is reached."""
    ask()
    parts.pump.run()

    status = shell.run("sending-status", OTPQUEUE_DAILY_CAP="1")

    assert "  everything  1 of 1  REACHED\n" in status.stdout


def test_life_of_a_blocked_number(shell: Shell, parts: Parts) -> None:
    """The number comes by standard input, and is never printed whole."""
    blocked = shell.run("numbers", "block", "--reason", "asked", "--until", "2099-01-31", typed=f"{NUMBER}\n")
    listed = shell.run("numbers", "blocked")
    unblocked = shell.run("numbers", "unblock", typed=NUMBER)
    again = shell.run("numbers", "unblock", typed=NUMBER)
    empty = shell.run("numbers", "blocked")

    assert blocked.stdout == "blocked +44********23 until 2099-01-31\n"
    assert re.fullmatch(r"\+44\*{8}23  \d{4}-\d\d-\d\d \d\d:\d\d  until 2099-01-31  asked\n", listed.stdout)
    assert unblocked.stdout == "unblocked +44********23\n"
    assert (again.returncode, again.stderr) == (
        ExitCode.NOT_FOUND,
        "Error: +44********23 is not blocked.\n",
    )
    assert empty.stdout == ""


def test_odd_numbers_and_days(shell: Shell, parts: Parts) -> None:
    """What is no number, or a day that has passed, is a message."""
    no_number = shell.run("numbers", "block", typed="nonsense\n")
    past = shell.run("numbers", "block", "--until", "2020-01-01", typed=NUMBER)

    assert no_number.returncode == past.returncode == ExitCode.REFUSED
    assert no_number.stderr.startswith("Error: phone_number ")
    assert past.stderr == "Error: until must be in the future\n"
