"""Cancel a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.errors import RequestNotFound
from otpqueue.domain.request import OtpRequest
from otpqueue.domain.webhooks import StatusCallback, ignore_changes
from otpqueue.store import requests
from otpqueue.store.engine import run
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class CancelRequest:
    """Cancels requests."""

    engine: Engine
    vault: Vault
    on_status: StatusCallback = ignore_changes

    def __call__(self, request_id: UUID, *, client_id: UUID, now: datetime) -> OtpRequest:
        """Cancel a live request and return it. A request that has already ended is returned unchanged.

        Raises RequestNotFound, DatabaseUnavailable.
        """

        def work(conn: Connection) -> tuple[bool, OtpRequest | None]:
            cancelled = requests.cancel(conn, request_id, client_id=client_id, now=now)
            return cancelled, requests.find(conn, request_id, client_id=client_id, vault=self.vault)

        cancelled, request = run(self.engine, work)
        if request is None:
            raise RequestNotFound
        if cancelled:
            log.info("otp_cancelled", otp_id=str(request_id), client_id=str(client_id), reason=request.reason)
            self.on_status([(client_id, request.status)])
        return request
