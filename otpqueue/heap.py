"""Garbage collection in processes that serve many calls."""

from __future__ import annotations

import gc

_THRESHOLDS = (10_000, 20, 100)
"""CPython's default of 700 new objects starts a collection in every call, which finds nothing.

Few of our objects are in reference cycles: those of an error with its traceback.
"""


def freeze_heap() -> None:
    """Exempt all present objects from garbage collection: they live as long as the process.

    Full collections take less time, and do not write to memory that processes share after a fork.
    """
    gc.collect()
    gc.freeze()


def collect_rarely() -> None:
    """Freeze the heap of a process that has started, and collect garbage less often from now on."""
    freeze_heap()
    gc.set_threshold(*_THRESHOLDS)
