"""One child process: started by the stub, watched until ready, stopped by a sequence of signals.

On Linux a child dies when its supervisor does, even by `kill -9`. macOS has nothing like PR_SET_PDEATHSIG:
there, a child outlives a supervisor that was killed, and the engines end such orphans at their next start.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from otpqueue.embedded.errors import ChildFailed, NotMainThread
from otpqueue.embedded.identity import RunAs

_STUB = Path(__file__).with_name("stub.py")
_POLL_SECONDS = 0.02
_KILL_SECONDS = 10
_TAIL_BYTES = 4000
_LOADER = ("LD_", "DYLD_")


class Spawned(Protocol):
    """A started process: the part of `subprocess.Popen` that `ChildProcess` needs."""

    pid: int

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end and return the exit code. Raises subprocess.TimeoutExpired."""

    def send_signal(self, sig: int) -> None:
        """Send a signal; does nothing once the process has ended."""


class ChildProcess:
    """A program that runs in the foreground as our child, in a session of its own (Ctrl-C does not reach it).

    command       program and arguments; a program without a slash is looked up in PATH
    ready         raises while the child is not ready; None: ready once started
    env           the child's whole environment; None: ours
    log           file its output is appended to; None: our own stdout and stderr
    stop_signals  what `stop` sends, in order, before SIGKILL
    death_signal  what the kernel sends to it when we die (Linux only); SIGKILL leaves no time to end its own
                  children: give a program that has some the signal that makes it stop
    run_as        another identity than ours, see `otpqueue.embedded.identity`
    cwd           its working directory; None: ours

    `start` may be called again after an unexpected death. After the child has ended, the rest of its
    process group is killed, so that a crashed worker's pool does not survive.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        ready: Callable[[], None] | None = None,
        env: Mapping[str, str] | None = None,
        log: Path | None = None,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        death_signal: signal.Signals = signal.SIGKILL,
        run_as: RunAs | None = None,
        cwd: Path | None = None,
    ) -> None:
        self.name = name
        self._command = command
        self._ready = ready
        self._env = env
        self._log = log
        self._stop_signals = stop_signals
        self._death_signal = death_signal
        self._run_as = run_as
        self._cwd = cwd
        self._spawned: Spawned | None = None
        self._swept = True
        self._log_start = 0

    def start(self) -> None:
        """Spawn the child without waiting for it; does nothing while it runs.

        Raises NotMainThread on Linux off the main thread: the kernel would end the child together with that
        thread (PR_SET_PDEATHSIG(2const), "Caveats").
        """
        if self.running:
            return
        if sys.platform == "linux" and threading.current_thread() is not threading.main_thread():
            raise NotMainThread(self.name)
        if self._log is None:
            self._spawned = self._spawn(None)
        else:
            descriptor = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                self._log_start = os.fstat(descriptor).st_size
                self._spawned = self._spawn(descriptor)
            finally:
                os.close(descriptor)
        self._swept = False

    def wait_ready(self, timeout: float = 60) -> None:
        """Wait until `ready` returns. Raises ChildFailed if the child ends first or `timeout` seconds pass.

        A child that is not ready in time is stopped.
        """
        deadline = time.monotonic() + timeout
        problem: Exception | None = None
        while time.monotonic() < deadline:
            if not self.running:
                raise ChildFailed(self.name, self.returncode, self._tail(), reason="before it was ready")
            try:
                if self._ready is not None:
                    self._ready()
            except Exception as error:  # noqa: BLE001 - any error means: not ready yet
                problem = error
                time.sleep(_POLL_SECONDS)
            else:
                if self.running:  # otherwise another server answered
                    return
        tail = self._tail()
        self.stop(grace=5)
        raise ChildFailed(
            self.name, None, tail, reason=f"not ready after {timeout:g} s, last problem: {problem!r}"
        )

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the child, without stopping it, and return its exit code.

        Raises TimeoutError after `timeout` seconds, ChildFailed if it was never started.
        """
        try:
            returncode = self._require_spawned().wait(timeout)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"{self.name} still runs after {timeout:g} s") from None
        self._sweep()
        return returncode

    def run(self, timeout: float) -> None:
        """Start the child and wait until its one job is done.

        Raises ChildFailed unless it ends with exit code 0 within `timeout` seconds.
        """
        self.start()
        try:
            returncode = self.wait(timeout)
        except TimeoutError as error:
            raise ChildFailed(self.name, None, self._tail(), reason=str(error)) from None
        finally:
            self.stop(grace=1)
        if returncode != 0:
            raise ChildFailed(self.name, returncode, self._tail())

    @property
    def running(self) -> bool:
        """Whether the child was started and has not ended."""
        return self._spawned is not None and self.returncode is None

    @property
    def pid(self) -> int:
        """The process id of the child, also after its end. Raises ChildFailed before the first `start`."""
        return self._require_spawned().pid

    @property
    def returncode(self) -> int | None:
        """How the last child ended, negative for a signal; None if it runs or was never started."""
        if self._spawned is None:
            return None
        returncode = self._spawned.poll()
        if returncode is not None:
            self._sweep()
        return returncode

    def stop(self, grace: float = 30) -> None:
        """End the child: each stop signal gets an equal share of `grace` seconds, then comes SIGKILL.

        May be repeated. Raises ChildFailed if even SIGKILL does not help: a process stuck inside the kernel.
        """
        if self._spawned is None:
            return
        share = grace / max(1, len(self._stop_signals))
        for each, seconds in (*((s, share) for s in self._stop_signals), (signal.SIGKILL, _KILL_SECONDS)):
            if not self.running:
                return
            self._spawned.send_signal(each)
            with suppress(TimeoutError):
                self.wait(seconds)
        if self.running:
            raise ChildFailed(
                self.name, None, self._tail(), reason=f"process {self.pid} did not end after SIGKILL"
            )

    def _require_spawned(self) -> Spawned:
        if self._spawned is None:
            raise ChildFailed(self.name, None, reason="was never started")
        return self._spawned

    def _spawn(self, output: int | None) -> Spawned:
        environment = dict(os.environ if self._env is None else self._env)
        # The stub's own Python may need the loader's variables to start; the child gets only what `env` says.
        loader = {k: v for k, v in os.environ.items() if k.startswith(_LOADER) and k not in environment}
        ties = [str(os.getpid()), str(int(self._death_signal))]
        place = [str(self._run_as or ""), str(self._cwd or ""), ",".join(loader)]
        return subprocess.Popen(
            [sys.executable, "-I", "-S", _STUB, *ties, *place, *self._command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**environment, **loader},
            start_new_session=True,
        )

    def _sweep(self) -> None:
        if self._spawned is None or self._swept:
            return
        self._swept = True
        # Only once, right after the leader was reaped: later the kernel may reuse the id.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._spawned.pid, signal.SIGKILL)

    def _tail(self) -> str:
        if self._log is None:
            return ""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip()


def bare_environment() -> dict[str, str]:
    """Return the environment of an engine: only PATH is inherited.

    So no PG* or LD_* variable, locale or secret of the caller reaches it. LC_ALL is set because PostgreSQL
    stops on macOS without a valid locale: "postmaster became multithreaded during startup" (postmaster.c).
    """
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
