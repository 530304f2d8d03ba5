"""A child that is a fork of this process: it shares the modules that are already imported.

A fork starts in milliseconds and costs only the memory that it changes. In return, this process must have one
thread and no connection that a child could use by mistake. Linux only: on macOS the system's libraries do not
survive a fork without an exec.
"""

import atexit
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from otpqueue.embedded import stub
from otpqueue.embedded.errors import Multithreaded
from otpqueue.embedded.process import ChildProcess, Spawned

_FIRST_WAIT_S = 0.0005
_LONGEST_WAIT_S = 0.05
_JOINED_THREAD_S = 1.0
_THREADS = Path("/proc/self/task")
_PR_SET_NAME = 15  # <linux/prctl.h>
_ARGUMENTS = slice(45, 47)  # arg_start and arg_end of /proc/self/stat, counted from the state: proc(5)


class ForkedProcess(ChildProcess):
    """A child that runs a function in a fork of this process.

    run    the function that the child runs; the child ends when it returns
    title  what `ps` shows, cut to the length of our own command line

    The other arguments are those of `ChildProcess`. The child gets our standard output, `env`, a session of
    its own, default signal handlers, and none of our open files.
    """

    def __init__(
        self,
        name: str,
        run: Callable[[], None],
        *,
        title: str,
        env: Mapping[str, str] | None = None,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        death_signal: signal.Signals = signal.SIGKILL,
    ) -> None:
        super().__init__(name, (), env=env, stop_signals=stop_signals, death_signal=death_signal)
        self._run, self._title = run, title

    def _spawn(self, output: int | None) -> Spawned:  # noqa: ARG002 - a fork writes where we do
        """Fork. Raises Multithreaded."""
        if not _wait_for_one_thread():
            raise Multithreaded(self.name)
        sys.stdout.flush()
        sys.stderr.flush()
        # Hide present objects from the garbage collector, which would write to them and so copy their memory.
        gc.freeze()
        parent = os.getpid()
        # A signal must never run our handlers in the child.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                self._run_child(parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _Fork(pid)

    def _run_child(self, parent: int) -> NoReturn:
        code: object = 1
        try:
            self._release_parent_resources(parent)
            self._run()
            code = 0
        except SystemExit as end:
            code = end.code
        except BaseException:  # noqa: BLE001 - as the interpreter would
            sys.excepthook(*sys.exc_info())
        finally:
            _end(code)

    def _release_parent_resources(self, parent: int) -> None:
        """Release the resources of the parent."""
        os.setsid()
        stub.tie_to_parent(int(self._death_signal), parent)
        signal.set_wakeup_fd(-1)
        stub.reset_signals()
        _handle_signals_as_python_does()
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        with Path(os.devnull).open("rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        if self._env is not None:
            os.environ.clear()
            os.environ.update(self._env)
        atexit._clear()
        _name(self.name, self._title)
        gc.enable()


class _Fork:
    """A forked process, with what `subprocess.Popen` offers. Not thread-safe."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self._returncode: int | None = None

    def poll(self) -> int | None:
        if self._returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._returncode = os.waitstatus_to_exitcode(status)
        return self._returncode

    def wait(self, timeout: float | None = None) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_WAIT_S
        while (returncode := self.poll()) is None:
            if deadline is not None and time.monotonic() >= deadline:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_WAIT_S)
        return returncode

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, sig)


def _wait_for_one_thread() -> bool:
    """Return whether this process has one thread; a thread that was just joined may take a moment to end."""
    deadline = time.monotonic() + _JOINED_THREAD_S
    while len(list(_THREADS.iterdir())) > 1:
        if time.monotonic() > deadline:
            return False
        time.sleep(_FIRST_WAIT_S)
    return True


def _handle_signals_as_python_does() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(ignored, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def _end(code: object) -> NoReturn:
    """End the process as the interpreter would, without unwinding the parent's part of the stack."""
    number = 0 if code is None else code if isinstance(code, int) else 1
    try:
        if code is not None and not isinstance(code, int):
            sys.stderr.write(f"{code}\n")
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(number & 0xFF)


def _name(name: str, title: str) -> None:
    """Set the name that `ps` and `top` show. Without /proc they show the parent's command line."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, os.fsencode(name), 0, 0, 0)
    with suppress(OSError, ValueError):
        start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_ARGUMENTS])
        room = end - start
        if room > 1:
            ctypes.memmove(start, os.fsencode(title)[: room - 1].ljust(room, b"\0"), room)
