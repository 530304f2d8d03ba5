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
            if getattr(error.orig, "sqlstate", None) not in _NO_SUCH_TABLE_OR_COLUMN:
                raise
            raise click.ClickException(
                "the database has not the tables of this version; run `otpqueue migrate`"
            ) from None

    return run
