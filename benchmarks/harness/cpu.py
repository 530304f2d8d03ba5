"""CPU time of processes with all their threads and children, from /proc (Linux)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def parents() -> dict[int, int]:
    """Return the parent of each process."""
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = int(fields[1])
    return found


def family(pid: int) -> list[int]:
    """Return a process and all its descendants that run now."""
    children: dict[int, list[int]] = {}
    for child, parent in parents().items():
        children.setdefault(parent, []).append(child)
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found


def seconds(pid: int) -> float:
    """Return the CPU seconds that a process and its descendants have used.

    Children that ended count too: the kernel adds their time to the parent that waited for them.
    """
    ticks = 0
    for one in family(pid):
        if fields := _stat(one):
            ticks += sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime: proc_pid_stat(5)
    return ticks * _TICK_S


def pss_bytes(pid: int) -> dict[int, int]:
    """Return the proportional set size of a process and of each descendant."""
    return {one: size for one in family(pid) if (size := _pss(one)) is not None}


class Meter:
    """CPU seconds that named processes use between two moments."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._before = self._read()

    def used(self) -> dict[str, float]:
        """Return the seconds used since the meter was made."""
        return {name: after - self._before[name] for name, after in self._read().items()}

    def _read(self) -> dict[str, float]:
        return {name: seconds(pid) for name, pid in self._pids.items()}


def _stat(pid: int) -> list[str] | None:
    # The name of a program may hold blanks and parentheses: fields are counted from behind its last one.
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _pss(pid: int) -> int | None:
    try:
        lines = (_PROC / str(pid) / "smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), None)
