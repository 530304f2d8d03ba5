"""Shows the progress of long work: a bar on standard error if that is a terminal, else nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import click


class ReportProgress(Protocol):
    """Shows that `done` of `of` steps of the part `what` are done."""

    def __call__(self, what: str, done: int, of: int) -> None:
        """Update the bar. The number of steps may grow."""


class _ProgressBars:
    """One bar for each part of the work."""

    def __init__(self) -> None:
        self._what: str | None = None
        self._bar: Any = None

    def show(self, what: str, done: int, of: int) -> None:
        """Update the bar of a part, or begin it."""
        if what != self._what:
            self.finish()
            self._what = what
            self._bar = click.progressbar(length=of, label=what, file=sys.stderr, show_pos=True)
        self._bar.length = of
        self._bar.update(done - self._bar.pos)

    def finish(self) -> None:
        """End the bar's line."""
        if self._bar is not None:
            self._bar.render_finish()


def _show_nothing(what: str, done: int, of: int) -> None:
    """Report nothing: standard error is not a terminal."""


@contextmanager
def show_progress() -> Iterator[ReportProgress]:
    """Yield a function that reports progress. The bar's line ends with the context."""
    if not sys.stderr.isatty():
        yield _show_nothing
        return
    bars = _ProgressBars()
    try:
        yield bars.show
    finally:
        bars.finish()
