"""The do-not-send list: numbers that get no codes, at their owner's or an operator's request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Engine

from otpqueue.domain import phone
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.phone import PhoneNumber
from otpqueue.operations.admission.reasons import check_reason
from otpqueue.store import do_not_send
from otpqueue.store.do_not_send import BlockedNumber
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Blocklist:
    """Manages the list. A change takes effect with the next request and the next claim."""

    engine: Engine
    vault: Vault

    def block(
        self, phone_number: str, *, reason: str | None, until: datetime | None, now: datetime
    ) -> PhoneNumber:
        """Put a number (E.164) on the list, until a time or permanently. Returns the entry.

        Raises InvalidPhoneNumber, InvalidRequest for an end in the past or a reason that contains a number,
        DatabaseUnavailable.
        """
        number = phone.parse_number(phone_number, allow_documentation=True)
        if until is not None and until <= now:
            raise InvalidRequest([FieldError("until", "must be in the future")])
        check_reason(reason)
        transaction(
            self.engine,
            lambda conn: do_not_send.block(
                conn, number.e164, reason=reason, until=until, now=now, vault=self.vault
            ),
        )
        log.info("number_blocked", country=number.country, until=until.isoformat() if until else None)
        return number

    def unblock(self, phone_number: str) -> tuple[str, bool]:
        """Remove a number (E.164) from the list. Returns it masked, and whether it was on the list.

        Accepts numbers that the current numbering plan no longer allows. Raises InvalidPhoneNumber,
        DatabaseUnavailable.
        """
        forms = phone.list_stored_forms(phone_number)
        number_hashes = self.vault.stored_hashes(forms)
        removed = transaction(self.engine, lambda conn: do_not_send.unblock(conn, number_hashes))
        if removed:
            log.info("number_unblocked", country=phone.find_country(forms[0]))
        return phone.mask_number(forms[0]), removed

    def list(self, *, now: datetime) -> list[BlockedNumber]:
        """Return the list, newest first. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return do_not_send.list_blocked(conn, now=now, vault=self.vault)
