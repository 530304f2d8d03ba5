"""An awaitable that another thread's answer ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context


class Suspension:
    """An awaitable that ends when `resume` is called: a future, as far as asyncio's tasks need one.

    asyncio's own futures cost an additional iteration of the event loop.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop, self._asyncio_future_blocking = loop, False
        self._callback: Callable[[Suspension], object] | None = None

    def __await__(self) -> Generator[Suspension, None, None]:
        self._asyncio_future_blocking = True
        yield self

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the event loop, for the awaiting task."""
        return self._loop

    def add_done_callback(self, callback: Callable[[Suspension], object], **_context: Context) -> None:
        """Store the callback that resumes the task."""
        self._callback = callback

    def result(self) -> None:
        """Return the result for the task, which is None."""

    def cancel(self, msg: object = None) -> bool:  # noqa: ARG002 - asyncio's name
        """Return False: it cannot be cancelled."""
        return False

    def resume(self) -> None:
        """Resume the coroutine, once. Must be called by the event loop, not by another coroutine."""
        callback, self._callback = self._callback, None
        if callback:
            callback(self)
