"""A phone number for a command: asked for, or read from stdin.

It is no argument: those stay in the shell's history, and every user of the machine sees them.
"""

from __future__ import annotations

import sys

import click


def typed_number() -> str:
    """Return the number that is typed, or the first line of standard input."""
    if sys.stdin.isatty():
        return str(click.prompt("phone number (E.164)")).strip()
    return sys.stdin.readline().strip()
