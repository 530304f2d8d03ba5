"""Processes of `otpqueue` that need not import everything again.

Importing takes most of the time in which a worker or an API starts. As `otpqueue dev` does, this program
imports once what they share, and forks for each: what runs is a process of its own with the environment,
folder and log that were asked for. Where a fork does not work each is started as its command.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from otpqueue.embedded import ChildProcess
from otpqueue.embedded.forked import ForkedProcess
from otpqueue.embedded.process import Spawned

_PROJECT = Path(__file__).resolve().parents[1]
_POLL_S = 0.01


def otpqueue_process(
    name: str,
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    log: Path,
    cwd: Path,
    ready: Callable[[], None] | None = None,
) -> ChildProcess:
    """Return `otpqueue ARGUMENTS` as a child that is not started yet. The rest is as in `ChildProcess`."""
    if sys.platform != "linux":
        command = [sys.executable, "-m", "otpqueue", *arguments]
        return ChildProcess(name, command, ready=ready, env=env, log=log, cwd=cwd)
    return PreloadedProcess(name, arguments, env=env, log=log, cwd=cwd, ready=ready)


class PreloadedProcess(ChildProcess):
    """A child of the program below."""

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        log: Path,
        cwd: Path,
        ready: Callable[[], None] | None,
    ) -> None:
        super().__init__(name, (), ready=ready, log=log, env=env, cwd=cwd)
        self._wanted = {
            "name": name,
            "arguments": [*arguments],
            "env": {**env},
            "log": str(log),
            "cwd": str(cwd),
        }

    def _spawn(self, output: int | None) -> Spawned:  # noqa: ARG002 - the child opens its log itself
        return _start_forker().fork(self._wanted)


class Forker:
    """The program below, as tests see it. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.preloaded"],
            cwd=_PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def fork(self, wanted: Mapping[str, Any]) -> RemoteProcess:
        """Start a process."""
        return RemoteProcess(self, int(self._ask(wanted)))

    def poll(self, pid: int) -> int | None:
        """Return the exit code of a process that has ended."""
        code: int | None = self._ask(pid)
        return code

    def close(self) -> None:
        """End the program, and what it has started."""
        self._process.communicate()

    def _ask(self, wanted: object) -> Any:
        assert self._process.stdin
        assert self._process.stdout
        with self._lock:
            self._process.stdin.write(json.dumps(wanted) + "\n")
            self._process.stdin.flush()
            return json.loads(self._process.stdout.readline())


class RemoteProcess:
    """A process that the program has started, with what `ChildProcess` needs of it."""

    def __init__(self, forker: Forker, pid: int) -> None:
        self.pid = pid
        self._forker = forker
        self._returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while it runs."""
        if self._returncode is None:
            self._returncode = self._forker.poll(self.pid)
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (returncode := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(_POLL_S)
        return returncode

    def send_signal(self, sig: int) -> None:
        """Send a signal; does nothing once the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, sig)


@cache
def _start_forker() -> Forker:
    forker = Forker()
    atexit.register(forker.close)
    return forker


def _run(wanted: Mapping[str, Any]) -> None:
    from otpqueue.cli import main

    log = os.open(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(wanted["cwd"])
    sys.argv[:] = ["otpqueue", *wanted["arguments"]]
    main(wanted["arguments"], prog_name="otpqueue")


def _serve() -> None:
    from otpqueue.cli import preload

    preload.import_modules(services=True, simulator=False)
    children: dict[int, ForkedProcess] = {}
    answer: int | None
    for line in sys.stdin:
        wanted = json.loads(line)
        if isinstance(wanted, int):
            answer = children[wanted].returncode
        else:
            title = " ".join(["otpqueue", *wanted["arguments"]])
            child = ForkedProcess(
                wanted["name"],
                partial(_run, wanted),
                title=title,
                env=wanted["env"],
                death_signal=signal.SIGKILL,
            )
            child.start()
            children[child.pid] = child
            answer = child.pid
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
