"""The folder in which the processes of one server share their metrics."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from prometheus_client.multiprocess import mark_process_dead

FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The environment variable with the folder that the processes of one server share. The library defines it."""

DEAD_KEPT = 16
"""How many dead processes keep their counts in the sums, so that the sums do not decrease."""


def delete_dead(folder: Path) -> None:
    """Delete the gauges of dead processes, and all but the last `DEAD_KEPT` of their counts."""
    dead = {pid for pid in list_pids(folder) if not _is_running(pid)}
    for pid in dead:
        # Another new process may do the same at this moment.
        with contextlib.suppress(FileNotFoundError):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
    left = sorted(
        (path for pid in dead for path in folder.glob(f"*_{pid}.db")),
        key=lambda path: path.stat().st_mtime if path.exists() else 0,
    )
    for path in left[: -DEAD_KEPT * 2]:
        path.unlink(missing_ok=True)


def list_pids(folder: Path) -> set[int]:
    """Return the ids of the processes with a file in the folder, dead or alive."""
    return {int(path.stem.rpartition("_")[2]) for path in folder.glob("*.db")}


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
