"""Read the history of a request."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.errors import RequestNotFound
from otpqueue.domain.history import History
from otpqueue.store import history
from otpqueue.store.engine import connection
from otpqueue.store.vault import Vault


@dataclass(frozen=True, kw_only=True)
class ReadHistory:
    """Reads histories."""

    engine: Engine
    vault: Vault

    def __call__(self, request_id: UUID) -> History:
        """Return the history of a request of any client. For operators only.

        Raises RequestNotFound, DatabaseUnavailable.
        """
        # One snapshot, so that every status change comes with its cause.
        engine = self.engine.execution_options(isolation_level="REPEATABLE READ")
        with connection(engine) as conn, conn.begin():
            found = history.find(conn, request_id, vault=self.vault)
        if found is None:
            raise RequestNotFound("There is no OTP request with this id.")
        return found
