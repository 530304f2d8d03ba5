"""Reads phone numbers and codes from a prompt or from standard input, and asks for confirmation.

An argument would stay in the shell's history and be visible in the process list.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import click

from otpqueue.cli.exits import CommandFailed, ExitCode

_NUMBER = "phone number (E.164)"


def read_number() -> str:
    """Prompt for a phone number, or read the first line of standard input. Raises CommandFailed."""
    return _read_line(_NUMBER)


def read_numbers() -> list[str]:
    """Prompt for one phone number, or read one from each line of standard input. Raises CommandFailed."""
    if sys.stdin.isatty():
        return [str(click.prompt(_NUMBER)).strip()]
    lines = (line.strip() for line in _read_input(sys.stdin.read, _NUMBER).splitlines())
    return list(dict.fromkeys(filter(None, lines)))


def read_code() -> str:
    """Prompt for a code, or read the first line of standard input. Raises CommandFailed."""
    return _read_line("code")


def _read_line(what: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(what)).strip()
    return _read_input(sys.stdin.readline, what).strip()


def _read_input(read: Callable[[], str], what: str) -> str:
    try:
        text = read()
        text.encode()  # in some locales Python accepts any byte
        return text
    except UnicodeError:
        raise CommandFailed(ExitCode.USAGE, f"The {what} on standard input is not valid UTF-8.") from None


def add_yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--yes` to a command that asks for confirmation."""
    return click.option("--yes", "-y", is_flag=True, help="Do not ask for confirmation.")(command)


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises Abort if the answer is no.

    Without a terminal, raises UsageError unless `yes`.
    """
    require_terminal(yes=yes)
    if not yes:
        click.confirm(question, abort=True, err=True)


def require_terminal(*, yes: bool) -> None:
    """Raise UsageError unless `yes`, or standard input is a terminal where the question can be asked."""
    if not (yes or sys.stdin.isatty()):
        raise click.UsageError("This cannot be undone, and standard input is no terminal to ask. Add --yes.")
