"""Exit codes: one for each kind of failure, the same for every command. docs/cli.md lists them."""

from __future__ import annotations

from enum import IntEnum

import click


class ExitCode(IntEnum):
    """The exit code of a command."""

    OK = 0
    PROBLEM = 1
    USAGE = 2
    CONFIGURATION = 3
    NOT_FOUND = 4
    REFUSED = 5
    UNREACHABLE = 6
    DENIED = 7
    INTERNAL = 70

    @property
    def meaning(self) -> str:
        """What the code means, for docs/cli.md."""
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "success",
    ExitCode.PROBLEM: "the command ran and found a problem (`doctor`: warnings only), or it was aborted",
    ExitCode.USAGE: "usage: an unknown command or option, or an invalid value (`doctor`: a check failed)",
    ExitCode.CONFIGURATION: "a setting is missing or invalid, an extra is not installed, or the database is "
    "not migrated",
    ExitCode.NOT_FOUND: "the request, key, client or other object does not exist",
    ExitCode.REFUSED: "refused: a wrong code, a limit, a conflict, or input that a rule rejects",
    ExitCode.UNREACHABLE: "the API, Postgres, Redis or Infobip cannot be reached, or is unavailable",
    ExitCode.DENIED: "the API key is rejected or lacks a scope, or Postgres denies access",
    ExitCode.INTERNAL: "internal error: a bug, with a traceback on standard error",
}


class CommandFailed(click.ClickException):
    """Ends the command with one message on standard error, and the exit code of its kind."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.exit_code = code.value  # type: ignore[misc] # click reads it from the error
