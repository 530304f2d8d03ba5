"""The Celery consumer of our workers, which survives every error of the broker.

Celery itself retries only lost connections. Any other error would end all workers within two seconds: a Redis
that has become a replica, is out of memory or denies a command, or an invalid message. This consumer retries
every error every two seconds.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ClassVar

from celery.worker.consumer import Consumer as CeleryConsumer
from celery.worker.state import maybe_shutdown

from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

RETRY_S = 2.0

_REFUSED_AT_ONCE_S = 0.5
"""A broker rejects a consumer within this time."""

_STEP_S = 0.1
_REASON_CHARACTERS = 200
_BROKERS = {"amqp", "kombu", "redis"}


class Consumer(CeleryConsumer):  # type: ignore[misc]
    """Consumes from the broker and retries after every error."""

    listening: ClassVar[bool] = False
    """Whether the broker delivers messages to this process, as far as is known."""
    on_listening: ClassVar[list[Callable[[], None]]] = []
    """Called when the broker starts to deliver messages."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Not SystemExit, so a worker still stops on request.
        self.channel_errors = (Exception,)
        self._loop = self.loop  # type: ignore[has-type]
        self.loop = self._consume

    def _consume(self, *args: Any) -> Any:
        def mark_listening() -> None:
            type(self).listening = True
            for call in self.on_listening:
                call()

        self.timer.call_after(_REFUSED_AT_ONCE_S, mark_listening)
        try:
            return self._loop(*args)
        finally:
            type(self).listening = False

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Log the error that prevents the connection, and pause."""
        self._log_and_pause(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Handle a lost connection as Celery does. Log any other error and pause."""
        if isinstance(exc, self.connection_errors):
            try:
                super().on_connection_error_after_connected(exc)
            except Exception:  # noqa: BLE001 - whatever it is, the lost connection is the cause
                # If a message was not acknowledged, kombu returns it over the connection that it has just
                # discarded, and Celery does not expect the error of that (AttributeError).
                self._log_and_pause(exc)
            return
        connection, self.connection = self.connection, None  # type: ignore[has-type]
        for end in (connection.collect, connection.close):
            # Ignore errors of the old connection, which is replaced.
            with suppress(Exception):
                end()
        self._log_and_pause(exc)

    def _log_and_pause(self, exc: Exception) -> None:
        log.error(
            "consumer_failed",
            error=type(exc).__name__,
            why=str(exc)[:_REASON_CHARACTERS] or None,
            retry_in_s=RETRY_S,
            # Any other error is a bug, or an invalid message in the queue. Log its traceback.
            exc_info=exc if _get_package(exc) not in _BROKERS else None,
        )
        until = time.monotonic() + RETRY_S
        while time.monotonic() < until:
            maybe_shutdown()
            time.sleep(_STEP_S)


def _get_package(exc: Exception) -> str:
    return type(exc).__module__.partition(".")[0]
