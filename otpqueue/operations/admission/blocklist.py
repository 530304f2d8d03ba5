"""The do-not-send list: numbers that get no codes, at their owner's or an operator's request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.audit import AuditSubject, OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.phone import PhoneNumber
from otpqueue.operations.auditing import describe_change, record_action
from otpqueue.operations.reasons import check_reason
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

        def work(conn: Connection) -> None:
            do_not_send.block(conn, number.e164, reason=reason, until=until, now=now, vault=self.vault)
            record_action(
                conn,
                OperatorAction.NUMBER_BLOCKED,
                subject=AuditSubject(number_hash=self.vault.number_hash(number.e164)),
                country=number.country,
                reason=reason,
                details={"until": until.isoformat() if until else None},
            )

        transaction(self.engine, work)
        log.info("number_blocked", country=number.country, until=until.isoformat() if until else None)
        return number

    def unblock(self, phone_number: str, *, reason: str | None = None) -> tuple[str, bool]:
        """Remove a number (E.164) from the list. Returns it masked, and whether it was on the list.

        Accepts numbers that the current numbering plan no longer allows. Raises InvalidPhoneNumber,
        DatabaseUnavailable.
        """
        forms = phone.list_stored_forms(phone_number)
        number_hashes, country = self.vault.stored_hashes(forms), phone.find_country(forms[0])
        check_reason(reason)

        def work(conn: Connection) -> bool:
            removed = do_not_send.unblock(conn, number_hashes)
            record_action(
                conn,
                OperatorAction.NUMBER_UNBLOCKED,
                outcome=describe_change(removed),
                subject=AuditSubject(number_hash=number_hashes[0]),
                country=country,
                reason=reason,
            )
            return removed

        removed = transaction(self.engine, work)
        if removed:
            log.info("number_unblocked", country=country)
        return phone.mask_number(forms[0]), removed

    def find(self, phone_number: str, *, now: datetime) -> BlockedNumber | None:
        """Return the block in force of a number (E.164), None if there is none.

        Raises InvalidPhoneNumber, DatabaseUnavailable.
        """
        number_hashes = self.vault.stored_hashes(phone.list_stored_forms(phone_number))
        with connection(self.engine) as conn:
            found = do_not_send.list_blocked(conn, now=now, vault=self.vault, number_hashes=number_hashes)
        return found[0] if found else None

    def list(self, *, now: datetime) -> list[BlockedNumber]:
        """Return the list, newest first. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return do_not_send.list_blocked(conn, now=now, vault=self.vault)
