"""Ends a process with the one that started it, where that is one of ours.

A process of the API that outlives its main process keeps its share of the port. Started again, the API would
answer half of the calls with the new settings and half with the old ones. A main process that is killed has
no time to end its children, so they watch it.
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
"""Environment variable: the process that this one is to end with, if that has started it."""

_LOOK_EVERY_S = 0.5


def end_with_it(*, grace_s: float | None = None) -> None:
    """Have this process get SIGTERM within a second of its parent's end; returns at once.

    After `grace_s` more it ends, whatever it is doing; None: it has as long as it takes. Nothing happens in a
    process that somebody else has started.
    """
    parent = _ours()
    if parent is not None:
        threading.Thread(target=_watch, args=(parent, grace_s), name="parent", daemon=True).start()


def _ours() -> int | None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        return parent.pid
    named = os.environ.get(STARTED_BY, "")
    # Inherited by somebody further down, it means nothing.
    return int(named) if named == str(os.getppid()) else None


def _watch(parent: int, grace_s: float | None) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_EVERY_S)
    log.warning("parent_gone", parent=parent)
    os.kill(os.getpid(), signal.SIGTERM)
    if grace_s is not None:
        time.sleep(grace_s)
        os._exit(1)
