"""Show the wrong codes of a number, and unlock it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.audit import AuditSubject, OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.limits import GuessPolicy
from otpqueue.operations.auditing import record_action
from otpqueue.operations.reasons import check_reason
from otpqueue.store import guesses
from otpqueue.store.accepting import NumberLookup, read_facts
from otpqueue.store.engine import connection, transaction
from otpqueue.store.guesses import WrongCodes
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NumberStatus:
    """The wrong codes of one client for a number."""

    client: str
    in_a_row: int
    locked: bool
    """Whether only `unlock` admits it again."""
    refused_until: datetime | None
    """Until when new requests are rejected because of wrong codes in the last hour; None if they are not."""
    unlocked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """Shows and unlocks numbers. Operators pass them in E.164. They are not stored.

    Accepts numbers that the current numbering plan no longer allows.
    """

    engine: Engine
    vault: Vault
    policy: GuessPolicy

    def status(self, number: str, *, now: datetime, searched: bool = True) -> list[NumberStatus]:
        """Return the wrong codes of the number with each client that has any.

        The search is recorded, unless it belongs to one that is (`searched=False`). Raises
        InvalidPhoneNumber, DatabaseUnavailable.
        """
        number_hashes = self._hashes(number)
        with connection(self.engine) as conn:
            if searched:
                subject = AuditSubject(number_hash=number_hashes[0])
                record_action(conn, OperatorAction.NUMBER_SEARCHED, subject=subject)
            found = guesses.list_wrong_codes(conn, number_hashes, since=self._since(now))
        return [self._build_status(one, number_hashes, now) for one in found]

    def unlock(
        self, number: str, *, client: str | None, now: datetime, reason: str | None = None
    ) -> list[str]:
        """Reset the wrong codes for a number, of one client or of all. Returns the clients' names.

        Raises InvalidRequest if there are none; else as `status`.
        """
        number_hashes = self._hashes(number)
        check_reason(reason)

        def work(conn: Connection) -> list[WrongCodes]:
            of_all_clients = guesses.list_wrong_codes(conn, number_hashes, since=self._since(now))
            found = [one for one in of_all_clients if client in {None, one.client}]
            if not found:
                raise InvalidRequest([FieldError("number", "has no wrong codes to reset", missing=True)])
            for one in found:
                guesses.unlock(conn, client_id=one.client_id, number_hashes=number_hashes, now=now)
                record_action(
                    conn,
                    OperatorAction.NUMBER_UNLOCKED,
                    client_id=one.client_id,
                    subject=AuditSubject(number_hash=number_hashes[0]),
                    reason=reason,
                    details={"wrong_in_a_row": one.in_a_row},
                )
            return found

        found = transaction(self.engine, work)
        for one in found:
            log.warning("number_unlocked", client_id=str(one.client_id), wrong_in_a_row=one.in_a_row)
        return [one.client for one in found]

    def _build_status(self, one: WrongCodes, number_hashes: Sequence[bytes], now: datetime) -> NumberStatus:
        quota = self.policy.number
        refused_until = None
        if quota:
            window = timedelta(seconds=quota.window_s)
            lookup = NumberLookup(
                client_id=one.client_id,
                number_hashes=number_hashes,
                client_ip_hashes=None,
                guesses=self.policy,
                now=now,
            )
            nth = read_facts(self.engine, lookup).number_nth
            refused_until = nth and nth + window
        return NumberStatus(
            client=one.client,
            in_a_row=one.in_a_row,
            locked=self.policy.is_locked(one.in_a_row),
            refused_until=refused_until,
            unlocked_at=one.unlocked_at,
        )

    def _since(self, now: datetime) -> datetime:
        """Return the start of the period in which wrong codes reject new requests."""
        return now - timedelta(seconds=self.policy.number.window_s if self.policy.number else 0)

    def _hashes(self, number: str) -> Sequence[bytes]:
        return self.vault.stored_hashes(phone.list_stored_forms(number))
