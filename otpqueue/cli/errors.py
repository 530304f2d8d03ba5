"""Turns errors of a command into one message and exit code 1, without a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_NO_SUCH_TABLE_OR_COLUMN = {"42P01", "42703"}
_FORBIDDEN = "42501"


def explain_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn errors that an operator can fix into a `ClickException`. Other errors pass unchanged."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if (message := _describe_error(error)) is None:
                raise
            raise click.ClickException(message) from None

    return run


def _describe_error(error: Exception) -> str | None:
    # Imported here: a command that succeeds does not load SQLAlchemy for this.
    from otpqueue.domain.errors import InvalidRequest, OtpqueueError  # noqa: PLC0415
    from otpqueue.settings import SettingsError  # noqa: PLC0415

    if isinstance(error, InvalidRequest):
        return "; ".join(f"{one.field} {one.message}" for one in error.errors)
    if isinstance(error, (OtpqueueError, SettingsError)):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        # Python decodes invalid bytes as surrogates, which Postgres cannot store.
        return "an argument or the input is not valid UTF-8"
    # psycopg's own error, or one that SQLAlchemy has wrapped.
    original = getattr(error, "orig", error)
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate == _FORBIDDEN:
        return f"The database denied access: {original}"
    if sqlstate in _NO_SUCH_TABLE_OR_COLUMN:
        return (
            "The database lacks the tables of this version, or their schema is not in the role's "
            "search_path. Run `otpqueue migrate`."
        )
    return None
