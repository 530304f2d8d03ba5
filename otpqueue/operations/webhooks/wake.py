"""Wake a webhook worker when a subscribed client has a new event."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from uuid import UUID

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.request import Status
from otpqueue.domain.webhooks import find_event
from otpqueue.store.engine import connection
from otpqueue.store.webhooks import endpoints
from otpqueue.telemetry.logs import get_logger

_LOOK_AGAIN_S = 10.0
"""How long the subscription list is cached. A new endpoint may miss wake-ups for that long."""

log = get_logger(__name__)


class WakeWebhooks:
    """Wakes a webhook worker if one of the given status changes has written an event. Thread-safe."""

    def __init__(
        self, *, engine: Engine, wake: Callable[[], bool], look_again_s: float = _LOOK_AGAIN_S
    ) -> None:
        self._engine, self._wake, self._look_again_s = engine, wake, look_again_s
        self._wanted: frozenset[tuple[UUID, str]] = frozenset()
        self._look_at = 0.0
        self._looking = threading.Lock()

    def __call__(self, moves: Iterable[tuple[UUID, Status]]) -> None:
        """Take the client ids and new statuses of requests. Never raises: beat also wakes a worker.

        Without subscriptions this costs only a query of the subscription table every ten seconds.
        """
        self._look()
        if self._wanted and any(
            (client_id, find_event(status)) in self._wanted for client_id, status in moves
        ):
            self._wake()

    def _look(self) -> None:
        # Concurrent calls use the cached list while one call refreshes it.
        if time.monotonic() < self._look_at or not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = time.monotonic() + self._look_again_s
            with connection(self._engine) as conn:
                self._wanted = endpoints.list_subscriptions(conn)
        except (DatabaseUnavailable, SQLAlchemyError) as error:
            # The next query is seconds away. The caller's own work is already committed.
            log.warning("webhook_list_not_read", error=type(error).__name__)
        finally:
            self._looking.release()
