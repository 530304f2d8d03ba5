"""How a command ends when something is wrong: one clear message and exit code 1, no traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.errors import InvalidRequest, OtpqueueError
from otpqueue.settings import SettingsError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

_NO_SUCH_TABLE_OR_COLUMN = {"42P01", "42703"}
_FORBIDDEN = "42501"


def explained(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Turn the errors that a person can mend into messages."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except InvalidRequest as error:
            said = "; ".join(f"{one.field} {one.message}" for one in error.errors)
            raise click.ClickException(said) from None
        except (OtpqueueError, SettingsError) as error:
            raise click.ClickException(str(error)) from None
        except UnicodeEncodeError:
            # Python keeps bytes that are no text as surrogates, which Postgres does not store.
            raise click.ClickException("an argument, or the input, is not text in UTF-8") from None
        except ProgrammingError as error:
            sqlstate = getattr(error.orig, "sqlstate", None)
            if sqlstate == _FORBIDDEN:
                raise click.ClickException(f"the database refuses: {error.orig}") from None
            if sqlstate not in _NO_SUCH_TABLE_OR_COLUMN:
                raise
            raise click.ClickException(
                "the database has not the tables of this version, or they are in a schema that is not in the "
                "role's search_path; run `otpqueue migrate`"
            ) from None

    return run
