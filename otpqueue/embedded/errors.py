"""Errors of embedded engines and child processes.

EmbeddedError
    AlreadyRunning      another supervisor holds the data folder
    ChildFailed         a child ended, was not ready in time, or could not be ended
    DataUnusable        the data folder exists, but these binaries or this user cannot use it
    EngineNotFound      no PostgreSQL or Valkey on this machine
    Multithreaded       a fork of a process with several threads
    NoUnprivilegedUser  PostgreSQL refuses the current user, and no other is available
    NotMainThread       a child was started from a thread that may end before the process
"""

import signal
from pathlib import Path


class EmbeddedError(Exception):
    """Base class; the message says how to fix the problem."""


class AlreadyRunning(EmbeddedError):
    """Another live process holds the lock of this data folder."""

    def __init__(self, path: Path, holder: str = "") -> None:
        self.path = path
        by = f" (process {holder})" if holder else ""
        super().__init__(f"{path} is in use by another instance{by}: stop it or choose another data folder")


class ChildFailed(EmbeddedError):
    """A child ended unexpectedly, was not ready in time, or could not be ended.

    `returncode` is as in `subprocess.Popen`: negative for a signal, None if the child had not ended.
    `tail` is the end of what it wrote since its start, empty if its output was not kept in a log.
    """

    def __init__(self, name: str, returncode: int | None, tail: str = "", *, reason: str = "") -> None:
        self.name = name
        self.returncode = returncode
        self.tail = tail
        what = "; ".join(part for part in (_format_exit(returncode), reason) if part)
        super().__init__(f"{name}: {what}" + (f"\n{tail}" if tail else ""))


class DataUnusable(EmbeddedError):
    """The data folder exists, but these binaries or this user cannot use it."""


class EngineNotFound(EmbeddedError):
    """No binary of an engine was found on this machine."""


class Multithreaded(EmbeddedError):
    """A process with several threads must not be forked: a lock that another thread holds stays locked."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: {self.__doc__}")


class NoUnprivilegedUser(EmbeddedError):
    """PostgreSQL does not run as the current user, and no other identity is available."""


class NotMainThread(EmbeddedError):
    """Children must be started from the main thread: on Linux they end with the thread that started them."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}: {self.__doc__}")


def _format_exit(returncode: int | None) -> str:
    if returncode is None:
        return ""
    if returncode >= 0:
        return f"ended with exit code {returncode}"
    try:
        return f"ended by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"ended by signal {-returncode}"
