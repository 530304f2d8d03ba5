"""How a command ends when something is wrong: one clear message and exit code 1, no traceback."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import click

from otpqueue.domain.errors import InvalidRequest, OtpqueueError
from otpqueue.settings import SettingsError

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


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

    return run
