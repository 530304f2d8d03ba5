"""End a process when its parent process ends.

A child process of the API that outlives the main process keeps its share of the port. After a restart, the
API would answer half of the calls with the old settings. A killed main process cannot end its children, so
they watch it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

STARTED_BY = "_OTPQUEUE_STARTED_BY"
"""Environment variable: the id of the parent process with which this process must end."""

_POLL_S = 0.5


def end_with_parent(*, grace_s: float | None = None) -> None:
    """Start to watch the parent. Within a second of its end this process gets SIGTERM. Returns at once.

    The process ends `grace_s` after the SIGTERM, or when it has finished if None. Without such a parent
    nothing happens.
    """
    parent = _find_parent()
    if parent is not None:
        threading.Thread(target=_watch_parent, args=(parent, grace_s), name="parent", daemon=True).start()


def _find_parent() -> int | None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.pid
    named = os.environ.get(STARTED_BY, "")
    # A process further down inherits the variable, where it has no meaning.
    return int(named) if named == str(os.getppid()) else None


def _watch_parent(parent: int, grace_s: float | None) -> None:
    while os.getppid() == parent:
        time.sleep(_POLL_S)
    log.warning("parent_gone", parent=parent)
    os.kill(os.getpid(), signal.SIGTERM)
    if grace_s is not None:
        time.sleep(grace_s)
        os._exit(1)
