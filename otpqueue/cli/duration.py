"""Durations as values of command line options."""

from __future__ import annotations

from datetime import timedelta

import click

from otpqueue.durations import InvalidDuration, parse_duration


class DurationType(click.ParamType[timedelta]):
    """An option's duration, such as `30m`, `24h`, `7d` or `2w`; with `zero` it may be `0s`."""

    name = "duration"

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the duration. A value that is none is a usage error, with exit code 2."""
        if isinstance(value, timedelta):
            return value
        try:
            duration = parse_duration(str(value))
        except InvalidDuration as error:
            self.fail(f"{str(value)!r} {error}", param, ctx)
        if not (duration or self._zero):
            self.fail(f"{str(value)!r} must be longer than zero", param, ctx)
        return duration
