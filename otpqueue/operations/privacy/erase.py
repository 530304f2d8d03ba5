"""Erase all data of a phone number: in Postgres in one transaction, then its limit windows in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import GuessPolicy, Quotas
from otpqueue.operations.admission.limits import RequestLimits
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.operations.reasons import check_reason
from otpqueue.store import clients, locks
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.locks import Lock
from otpqueue.store.privacy import erasing
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_ALLOWED_S = 60
"""A number that was attacked may have many thousands of rows."""


@dataclass(frozen=True, kw_only=True)
class EraseNumber:
    """Erases phone numbers, for every client of this deployment."""

    engine: Engine
    vault: Vault
    limits: RequestLimits
    guesses: GuessPolicy

    def __call__(
        self,
        phone_number: str,
        *,
        country: str | None,
        client_id: UUID | None,
        now: datetime,
        reason: str | None = None,
    ) -> Mapping[str, int]:
        """Erase a number. Returns how many rows of each kind; all are zero the second time.

        Live requests are ended first. `client_id` is the client of the API key that asked for it, None for an
        operator at the command line. Limit windows that Redis cannot delete now expire, by default within a
        day. Raises InvalidPhoneNumber, DatabaseUnavailable.
        """
        forms = phone.list_stored_forms(phone_number, country=country)
        hashes = self.vault.stored_hashes(forms)
        check_reason(reason)

        def work(conn: Connection) -> tuple[list[UUID], dict[str, int], dict[UUID, Quotas]]:
            allow_time(conn, _ALLOWED_S)
            locks.take_shared(conn, Lock.ERASE)
            ids = erasing.lock_requests(conn, hashes)
            erasing.lock_alerts(conn, hashes, ids)
            erasing.keep_wrong_codes(conn, ids, guesses=self.guesses, now=now)
            ended = erasing.end_live(conn, ids, now=now)
            counts = erasing.erase(conn, number_hashes=hashes, ids=ids)
            erasure_id = erasing.record_erasure(conn, client_id=client_id, counts=counts, now=now)
            # Without the number: an erasure leaves nothing that leads to it.
            record_action(
                conn,
                OperatorAction.NUMBER_ERASED,
                outcome=describe_change(any(counts.values())),
                target=str(erasure_id),
                reason=reason,
                details={"rows": sum(counts.values())},
            )
            return ended, counts, clients.read_own_quotas(conn)

        ended, counts, quotas = transaction(self.engine, work)
        for request_id in ended:
            log.info("otp_cancelled", otp_id=str(request_id), reason="erased")
        log.info(
            "number_erased", by=str(client_id) if client_id else "operator", ended=len(ended), counts=counts
        )
        try:
            for form in forms:
                self.limits.forget(self.vault.number_hashes(form), quotas)
        except LimitsUnavailable as error:
            log.warning("number_limits_not_erased", error=type(error.__cause__).__name__)
        return counts
