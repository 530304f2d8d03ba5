"""A phone number or a code for a command: asked for, or read from stdin.

As arguments they stay in the shell's history, and every user of the machine sees them.
"""

from __future__ import annotations

import sys

import click


def typed_number() -> str:
    """Return the number that is typed, or the first line of standard input. Raises ClickException."""
    return _typed("phone number (E.164)")


def typed_code() -> str:
    """Return the code that is typed, or the first line of standard input. Raises ClickException."""
    return _typed("code")


def _typed(what: str) -> str:
    if sys.stdin.isatty():
        return str(click.prompt(what)).strip()
    try:
        text = sys.stdin.readline()
        text.encode()  # in some locales Python reads any byte
        return text.strip()
    except UnicodeError:
        raise click.ClickException(f"the {what} on standard input is not text in UTF-8") from None
