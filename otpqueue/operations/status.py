"""Read the status of a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine

from otpqueue.domain.errors import RequestNotFound
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.store import requests
from otpqueue.store.engine import connection
from otpqueue.store.vault import Vault


@dataclass(frozen=True, kw_only=True)
class ReadStatus:
    """Reads requests."""

    engine: Engine
    vault: Vault

    def __call__(self, request_id: UUID, *, client_id: UUID) -> OtpRequest:
        """Return this client's request.

        Raises RequestNotFound, DatabaseUnavailable.
        """
        found = requests.find(self.engine, request_id, client_id=client_id, vault=self.vault)
        if found is None:
            raise RequestNotFound
        return found

    def of_many(self, ids: Iterable[UUID]) -> Mapping[UUID, Status]:
        """Return the status of each of these requests, of any client, in one query."""
        with connection(self.engine) as conn:
            return requests.read_statuses(conn, ids)
