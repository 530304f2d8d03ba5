"""How a command ends when something is wrong: one clear message and exit code 1, no traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_NO_SUCH_TABLE_OR_COLUMN = {"42P01", "42703"}
_FORBIDDEN = "42501"


def explained(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn the errors that a person can fix into messages."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if (message := _message(error)) is None:
                raise
            raise click.ClickException(message) from None

    return run


def _message(error: Exception) -> str | None:
    # Imported here: a command that succeeds does not load SQLAlchemy for this.
    from otpqueue.domain.errors import InvalidRequest, OtpqueueError  # noqa: PLC0415
    from otpqueue.settings import SettingsError  # noqa: PLC0415

    if isinstance(error, InvalidRequest):
        return "; ".join(f"{one.field} {one.message}" for one in error.errors)
    if isinstance(error, (OtpqueueError, SettingsError)):
        return str(error)
    if isinstance(error, UnicodeEncodeError):
        # Python keeps bytes that are no text as surrogates, which Postgres does not store.
        return "an argument, or the input, is not text in UTF-8"
    # psycopg's own error, or one that SQLAlchemy has wrapped.
    original = getattr(error, "orig", error)
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate == _FORBIDDEN:
        return f"the database refuses: {original}"
    if sqlstate in _NO_SUCH_TABLE_OR_COLUMN:
        return (
            "the database has not the tables of this version, or they are in a schema that is not in the "
            "role's search_path; run `otpqueue migrate`"
        )
    return None
