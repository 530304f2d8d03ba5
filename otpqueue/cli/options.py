"""Options and parts that several commands share."""

from __future__ import annotations

from contextlib import closing

import click

from otpqueue.cli.beside_dev import load_settings
from otpqueue.cli.operator import name_operator
from otpqueue.cli.output import json_option
from otpqueue.wiring import Parts

__all__ = ["json_option", "make_parts", "open_parts", "operator_option"]


def make_parts() -> Parts:
    """Return parts by the current settings, or by those of the `otpqueue dev` that runs in this folder.

    They are closed when the command ends.
    """
    parts = Parts(load_settings())
    click.get_current_context().call_on_close(parts.close)
    return parts


def open_parts() -> closing[Parts]:
    """Return a context manager that yields such parts and closes them at its end."""
    return closing(make_parts())


operator_option = click.option(
    "--by", default=name_operator, help="Name of the operator, for the record. Default: user@host."
)
