"""Stops servers that outlived a killed supervisor, and removes stale process id files.

PostgreSQL does not start while its `postmaster.pid` names any live process, even an unrelated one, nor while
one of its own processes lives. Call only under the lock of the data folder: then no supervisor owns them.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_POLL_SECONDS = 0.02
_LEADER_SECONDS = 10
_STRAGGLER_SECONDS = 2  # without a postmaster there is nothing to wait for


def end_orphans(folder: Path, pid_file: Path, stop_signals: Sequence[signal.Signals], program: str) -> None:
    """Stop the processes that still run in `folder`, then remove `pid_file`.

    The process that `pid_file` names gets `stop_signals`, each followed by a wait of some seconds, then
    SIGKILL, but only if its working directory is `folder`. After it, processes of the file name `program`
    that work in `folder` and do not end are killed: PostgreSQL's backends outlive a killed
    postmaster for a moment. These are found on Linux only.
    """
    leader = _leader(pid_file)
    for each in (*stop_signals, signal.SIGKILL):
        if leader is None or not _works_in(leader, folder):
            break
        _send(leader, each)
        _wait_until(lambda: not _works_in(leader, folder), _LEADER_SECONDS)
    _wait_until(lambda: not _stragglers(folder, program), _STRAGGLER_SECONDS)
    for straggler in _stragglers(folder, program):
        _send(straggler, signal.SIGKILL)
    _wait_until(lambda: not _stragglers(folder, program), _STRAGGLER_SECONDS)
    pid_file.unlink(missing_ok=True)


def _leader(pid_file: Path) -> int | None:
    try:
        pid = int(pid_file.read_text().split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    return pid if pid > 1 and pid != os.getpid() else None


def _works_in(pid: int, folder: Path) -> bool:
    """Return whether a process lives and has `folder` as its working directory; a zombie has none."""
    if not (_PROC / "self").exists():
        return _listed_with(pid, folder)
    try:
        return _link(pid, "cwd") == str(folder)
    except PermissionError:
        # Another user's server, seen by a container's root without CAP_SYS_PTRACE: its arguments may be read.
        with suppress(OSError):
            return os.fsencode(folder) in (_PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        pass
    return False


def _listed_with(pid: int, folder: Path) -> bool:
    listed = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return str(folder) in listed.stdout


def _stragglers(folder: Path, program: str) -> list[int]:
    found = []
    for entry in _PROC.glob("[0-9]*"):
        pid = int(entry.name)
        with suppress(OSError):
            if _link(pid, "cwd") == str(folder) and Path(_link(pid, "exe")).name == program:
                found.append(pid)
    return found


def _link(pid: int, name: str) -> str:
    # proc(5): " (deleted)" is appended when the file is gone, as after an upgrade of the wheel.
    return str((_PROC / str(pid) / name).readlink()).removesuffix(" (deleted)")


def _send(pid: int, which: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, which)


def _wait_until(done: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not done() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
