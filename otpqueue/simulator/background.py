"""Background tasks of the server: push delivery reports, write the state file."""

import asyncio
from collections.abc import Mapping
from typing import Any

from otpqueue.simulator.pushing import Pusher
from otpqueue.simulator.storage import StateFile


class LifespanMiddleware:
    """Falcon middleware that starts and stops the background tasks by ASGI lifespan events."""

    def __init__(self, pusher: Pusher, state_file: StateFile | None) -> None:
        self._pusher = pusher
        self._state_file = state_file
        self._tasks: list[asyncio.Task[None]] = []

    async def process_startup(
        self,
        scope: Mapping[str, Any],  # noqa: ARG002 - Falcon's name
        event: Mapping[str, Any],  # noqa: ARG002 - Falcon's name
    ) -> None:
        """Start the tasks."""
        self._tasks.append(asyncio.create_task(self._pusher.run()))
        if self._state_file is not None:
            self._tasks.append(asyncio.create_task(self._state_file.run()))

    async def process_shutdown(
        self,
        scope: Mapping[str, Any],  # noqa: ARG002 - Falcon's name
        event: Mapping[str, Any],  # noqa: ARG002 - Falcon's name
    ) -> None:
        """Stop the tasks, and write the state file."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._state_file is not None:
            self._state_file.save()
