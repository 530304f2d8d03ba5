"""How many calls wait for the result of another call's check."""

from __future__ import annotations

import threading
from collections import Counter
from uuid import UUID

_WAITERS_OF_CLIENT = 4


class CheckWaiters:
    """Calls in this process that wait for another check of the same request to end. Thread-safe.

    A waiting call occupies a thread. The limits (one per request, a few per client) leave threads for all
    others.
    """

    def __init__(self, *, of_client: int = _WAITERS_OF_CLIENT) -> None:
        self._of_client = of_client
        self._lock = threading.Lock()
        self._requests: set[UUID] = set()
        self._clients: Counter[UUID] = Counter()

    def enter(self, request_id: UUID, client_id: UUID) -> bool:
        """Return whether a call may wait. One that may must call `leave` afterwards."""
        with self._lock:
            if request_id in self._requests or self._clients[client_id] >= self._of_client:
                return False
            self._requests.add(request_id)
            self._clients[client_id] += 1
            return True

    def leave(self, request_id: UUID, client_id: UUID) -> None:
        """Stop waiting."""
        with self._lock:
            self._requests.discard(request_id)
            self._clients[client_id] -= 1
            # An idle client must use no memory.
            self._clients += Counter()
