"""Cancel a request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain.audit import AuditSubject, OperatorAction
from otpqueue.domain.errors import RequestNotFound
from otpqueue.domain.request import OtpRequest, Reason, Status
from otpqueue.domain.webhooks import StatusCallback, ignore_changes
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.operations.reasons import check_reason
from otpqueue.store import request_owners, requests
from otpqueue.store.engine import run, transaction
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

    def by_operator(self, request_id: UUID, *, reason: str | None, now: datetime) -> bool:
        """Cancel a live request of any client, and record it. Returns whether it was live.

        Raises RequestNotFound, InvalidRequest for a reason that contains a number, DatabaseUnavailable.
        """
        check_reason(reason)

        def work(conn: Connection) -> tuple[bool, UUID]:
            owner = request_owners.find_owner(conn, request_id)
            if owner is None:
                raise RequestNotFound
            cancelled = requests.cancel(
                conn, request_id, client_id=owner.client_id, now=now, why=Reason.CANCELLED_BY_OPERATOR
            )
            record_action(
                conn,
                OperatorAction.REQUEST_CANCELLED,
                outcome=describe_change(cancelled),
                client_id=owner.client_id,
                country=owner.country,
                subject=AuditSubject(number_hash=owner.number_hash, request_id=request_id),
                reason=reason,
            )
            return cancelled, owner.client_id

        cancelled, client_id = transaction(self.engine, work)
        if cancelled:
            log.info(
                "otp_cancelled",
                otp_id=str(request_id),
                client_id=str(client_id),
                reason=Reason.CANCELLED_BY_OPERATOR.value,
            )
            self.on_status([(client_id, Status.CANCELLED)])
        return cancelled
