"""Turns errors of a command into one message and the exit code of their kind, without a traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from otpqueue.cli.exits import CommandFailed, ExitCode

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_NO_SUCH_TABLE_OR_COLUMN = {"42P01", "42703"}
_FORBIDDEN = "42501"
_EXITS_BY_STATUS = {
    401: ExitCode.DENIED,
    403: ExitCode.DENIED,
    404: ExitCode.NOT_FOUND,
    500: ExitCode.INTERNAL,
    502: ExitCode.UNREACHABLE,
    503: ExitCode.UNREACHABLE,
    504: ExitCode.UNREACHABLE,
}
_REFUSED_CODES = {"number_locked", "sending_stopped", "daily_cap_reached"}
"""Problems that a rule causes, although their HTTP status is that of a missing right or an outage."""


def explain_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn errors that an operator can fix into `CommandFailed`. Other errors pass unchanged."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except Exception as error:
            if (failure := describe_error(error)) is None:
                raise
            raise failure from None

    return run


def choose_exit(status: int, problem: object) -> ExitCode:
    """Return the exit code of an API response with this HTTP status (4xx, 5xx) and problem code."""
    return ExitCode.REFUSED if problem in _REFUSED_CODES else _EXITS_BY_STATUS.get(status, ExitCode.REFUSED)


def describe_error(error: Exception) -> CommandFailed | None:
    """Return the failure that an error means to an operator, or None for an error that is a bug."""
    # Imported here: a command that succeeds does not load SQLAlchemy for this.
    from otpqueue.domain.errors import (  # noqa: PLC0415
        DatabaseMisconfigured,
        InvalidRequest,
        OtpqueueError,
    )
    from otpqueue.settings import SettingsError  # noqa: PLC0415

    if isinstance(error, InvalidRequest):
        is_missing = any(one.missing for one in error.errors)
        message = "; ".join(f"{one.field} {one.message}" for one in error.errors)
        return CommandFailed(ExitCode.NOT_FOUND if is_missing else ExitCode.REFUSED, message)
    if isinstance(error, SettingsError | DatabaseMisconfigured):
        return CommandFailed(ExitCode.CONFIGURATION, str(error))
    if isinstance(error, OtpqueueError):
        # Errors without a problem of the API, such as a failed provisioning, have the status 500.
        exit_code = ExitCode.UNREACHABLE if error.status == 500 else choose_exit(error.status, error.code)
        return CommandFailed(exit_code, str(error))
    if isinstance(error, UnicodeEncodeError):
        # Python decodes invalid bytes as surrogates, which Postgres cannot store.
        return CommandFailed(ExitCode.USAGE, "an argument or the input is not valid UTF-8")
    return _describe_database_error(error)


def _describe_database_error(error: Exception) -> CommandFailed | None:
    # psycopg's own error, or one that SQLAlchemy has wrapped.
    original = getattr(error, "orig", error)
    sqlstate = getattr(original, "sqlstate", None)
    if sqlstate == _FORBIDDEN:
        return CommandFailed(ExitCode.DENIED, f"The database denied access: {original}")
    if sqlstate in _NO_SUCH_TABLE_OR_COLUMN:
        return CommandFailed(
            ExitCode.CONFIGURATION,
            "The database lacks the tables of this version, or their schema is not in the role's "
            "search_path. Run `otpqueue migrate`.",
        )
    return None
