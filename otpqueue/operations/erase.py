"""Erase all that concerns a phone number, in one transaction, and say how much that was."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.logs import get_logger
from otpqueue.store import erasing
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.vault import Vault

log = get_logger(__name__)

_ALLOWED_S = 60
"""A number that was attacked may have many thousands of rows."""


@dataclass(frozen=True, kw_only=True)
class EraseNumber:
    """Erases phone numbers, for every client of this deployment."""

    engine: Engine
    vault: Vault

    def __call__(
        self, phone_number: str, *, country: str | None, client_id: UUID | None, now: datetime
    ) -> Mapping[str, int]:
        """Erase a number and return how many rows of each kind that were: zeros the second time.

        Live requests end first. `client_id` is whose key asked for it, None the operator at the command line.
        Raises InvalidPhoneNumber, DatabaseUnavailable.
        """
        hashes = self.vault.stored_hashes(phone.stored_forms(phone_number, country=country))

        def work(conn: Connection) -> tuple[list[UUID], dict[str, int]]:
            allow_time(conn, _ALLOWED_S)
            ids = erasing.lock_requests(conn, hashes)
            ended = erasing.end_live(conn, ids, now=now)
            counts = erasing.erase(conn, number_hashes=hashes, ids=ids)
            erasing.note(conn, client_id=client_id, counts=counts, now=now)
            return ended, counts

        ended, counts = transaction(self.engine, work)
        for request_id in ended:
            log.info("otp_cancelled", otp_id=str(request_id), reason="erased")
        log.info(
            "number_erased", by=str(client_id) if client_id else "operator", ended=len(ended), counts=counts
        )
        return counts
