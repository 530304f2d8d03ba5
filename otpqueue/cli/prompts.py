"""Reads a phone number or a code from a prompt or from standard input.

An argument would stay in the shell's history and be visible in the process list.
"""

from __future__ import annotations

import sys

import click


def read_number() -> str:
    """Prompt for a phone number, or read the first line of standard input. Raises ClickException."""
    return _read_line("phone number (E.164)")


def read_code() -> str:
    """Prompt for a code, or read the first line of standard input. Raises ClickException."""
    return _read_line("code")


def _read_line(what: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(what)).strip()
    try:
        text = sys.stdin.readline()
        text.encode()  # in some locales Python accepts any byte
        return text.strip()
    except UnicodeError:
        raise click.ClickException(f"The {what} on standard input is not valid UTF-8.") from None
