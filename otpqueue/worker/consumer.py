"""The part of a Celery worker that listens to the broker. Nothing that the broker answers ends it.

Celery itself retries only when a connection is lost. An answer would end every worker within two seconds:
that of a Redis that is a replica now, has no memory left or denies a command; or a message that is none.
Here every error is retried, every two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from celery.worker.consumer import Consumer as CelerysOwn
from celery.worker.state import maybe_shutdown

from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

RETRY_S = 2.0

_REFUSED_AT_ONCE_S = 0.5
"""What a broker refuses, it refuses sooner than that."""

_STEP_S = 0.1
_LONGEST_WHY = 200
_BROKERS = {"amqp", "kombu", "redis"}


class Consumer(CelerysOwn):  # type: ignore[misc]
    """Listens to the broker, and tries again whatever happens."""

    listening: ClassVar[bool] = False
    """Whether the broker hands messages out to this process, as far as is known."""
    on_listening: ClassVar[list[Callable[[], None]]] = []
    """Called when the broker has begun to."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # SystemExit is none of them: a worker that is told to stop does.
        self.channel_errors = (Exception,)
        self._loop = self.loop  # type: ignore[has-type]
        self.loop = self._listen

    def _listen(self, *args: Any) -> Any:
        def begun() -> None:
            type(self).listening = True
            for call in self.on_listening:
                call()

        self.timer.call_after(_REFUSED_AT_ONCE_S, begun)
        try:
            return self._loop(*args)
        finally:
            type(self).listening = False

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Log what keeps the broker from letting us in, and wait."""
        self._pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Do as Celery does after a loss of the connection; log anything else, and wait."""
        if isinstance(exc, self.connection_errors):
            try:
                super().on_connection_error_after_connected(exc)
            except Exception:  # noqa: BLE001 - whatever it is, the lost connection is the cause
                # If a message was not acknowledged, kombu returns it over the connection that it has just
                # discarded, and Celery does not expect the error of that (AttributeError).
                self._pause(exc)
            return
        connection, self.connection = self.connection, None  # type: ignore[has-type]
        for end in (connection.collect, connection.close):
            # Whatever it says to that: another one is made.
            with suppress(Exception):
                end()
        self._pause(exc)

    def _pause(self, exc: Exception) -> None:
        log.error(
            "consumer_failed",
            error=type(exc).__name__,
            why=str(exc)[:_LONGEST_WHY] or None,
            retry_in_s=RETRY_S,
            # An error that no broker answered is a bug, or a message that somebody else put there.
            exc_info=exc if _origin(exc) not in _BROKERS else None,
        )
        until = time.monotonic() + RETRY_S
        while time.monotonic() < until:
            maybe_shutdown()
            time.sleep(_STEP_S)


def _origin(exc: Exception) -> str:
    return type(exc).__module__.partition(".")[0]
