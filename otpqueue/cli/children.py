"""The child processes of a development instance: commands as children, and a wait for the end of a child."""

from __future__ import annotations

import select
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from otpqueue.embedded import ChildProcess, ForkedProcess

ROOT_WARNING = "You're running the worker with superuser"
"""Start of a warning of Celery that a development worker does not need."""

_MAIN = Path(__file__).parents[1] / "__main__.py"


class SupervisedChild(Protocol):
    """A child process or an embedded engine."""

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""

    @property
    def pid(self) -> int:
        """Its process id."""

    def start(self) -> None:
        """Start it, also again after it ended."""

    def stop(self) -> None:
        """Stop it."""


def make_command_child(
    name: str, arguments: list[str], *, environment: Mapping[str, str], fork: bool
) -> ChildProcess:
    """Return a child that runs `otpqueue` with these arguments, in a fork of this process or by exec."""
    # The API has worker processes to stop; the others leave nothing behind when they are killed.
    death_signal = signal.SIGTERM if name == "api" else signal.SIGKILL
    if not fork:
        command = [sys.executable, "-m", "otpqueue", *arguments]
        return ChildProcess(name, command, env=environment, death_signal=death_signal)
    return ForkedProcess(
        name,
        lambda: _run_command(arguments),
        title=" ".join(["otpqueue", *arguments]),
        env=environment,
        death_signal=death_signal,
    )


def _run_command(arguments: list[str]) -> None:
    """Run a command in this process, which was forked for it."""
    from otpqueue.cli import main  # noqa: PLC0415 - a circular import

    # On SIGHUP a worker restarts itself with these arguments.
    sys.argv[:] = [str(_MAIN), *arguments]
    # A fork does not read PYTHONWARNINGS: only a starting interpreter does.
    warnings.filterwarnings("ignore", message=ROOT_WARNING)
    main(arguments, prog_name="otpqueue")


@contextmanager
def watch_for_deaths() -> Iterator[Callable[[], None]]:
    """Yield a function that waits until a child has ended since its last call. Spurious returns are possible.

    Works only on the main thread.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        # SIGCHLD is ignored by default and wakes the file descriptor only if it has a handler.
        before = signal.signal(signal.SIGCHLD, lambda *_: None)

        def wait_for_death() -> None:
            select.select([reader], [], [])
            reader.recv(4096)

        try:
            yield wait_for_death
        finally:
            signal.signal(signal.SIGCHLD, before)
            signal.set_wakeup_fd(-1)
