"""Options and parts that several commands share."""

from __future__ import annotations

import getpass
import socket
from contextlib import closing

import click

from otpqueue import settings
from otpqueue.wiring import Parts


def open_parts() -> closing[Parts]:
    """Return a context manager that yields parts by the current settings and closes them."""
    return closing(Parts(settings.load()))


def _name_operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user often has no name
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


operator_option = click.option(
    "--by", default=_name_operator, help="Name of the operator, for the record. Default: user@host."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
