"""The operator at the command line, and the reason for an action."""

from __future__ import annotations

import getpass
import socket

import click


def name_operator() -> str:
    """Return the system user and the host, `user@host`, for the record."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


reason_option = click.option("--reason", help="Reason, for the audit trail. Callers never see it.")
