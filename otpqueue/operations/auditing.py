"""The audit trail. Operations write an entry in the transaction of each action; operators read them."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue import clock
from otpqueue.domain import phone
from otpqueue.domain.audit import (
    AuditFilters,
    AuditOutcome,
    AuditPage,
    AuditSubject,
    ErasureRecord,
    OperatorAction,
    current_actor,
)
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.search import SIGNATURE_BYTES, SearchPosition, from_cursor, to_cursor
from otpqueue.store import audit, clients
from otpqueue.store.audit import AuditTerms
from otpqueue.store.engine import connection, transaction
from otpqueue.store.vault import Vault
from otpqueue.telemetry import masks

_LONGEST_DETAIL = 200


def record_action(
    conn: Connection,
    action: OperatorAction,
    *,
    outcome: AuditOutcome = AuditOutcome.DONE,
    client_id: UUID | None = None,
    target: str | None = None,
    country: str | None = None,
    subject: AuditSubject | None = None,
    reason: str | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Record an action of the current actor (`acting_as`).

    Call in the transaction of the action, so that there is neither without the other. Nothing here may
    contain a number, a code or a secret: the number that the action concerned is the `subject`. Texts in
    `details` are masked and shortened: a setting may be a picture or contain the number of a help desk.
    """
    audit.add_entry(
        conn,
        action=action,
        outcome=outcome,
        actor=current_actor(),
        client_id=client_id,
        target=target,
        country=country,
        subject=subject,
        reason=reason,
        details={name: _shorten(value) for name, value in (details or {}).items()},
        now=clock.now(),
    )


def _shorten(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text: str = masks.mask_text(value[:_LONGEST_DETAIL])
    return text if len(value) <= _LONGEST_DETAIL else f"{text}... ({len(value)} characters)"


def record_alone(engine: Engine, action: OperatorAction, **given: Any) -> None:
    """Record an action that is not one transaction of Postgres. Raises DatabaseUnavailable."""
    transaction(engine, lambda conn: record_action(conn, action, **given))


@contextmanager
def recorded_run(
    engine: Engine, action: OperatorAction, *, client_id: UUID | None = None, target: str | None = None
) -> Iterator[dict[str, Any]]:
    """Record that a long action begins, and how it ends; what is put into the yielded dict is its details.

    For an action of several transactions: an entry without a second one shows that it was interrupted. Raises
    DatabaseUnavailable.
    """
    of: dict[str, Any] = {"client_id": client_id, "target": target}
    record_alone(engine, action, outcome=AuditOutcome.STARTED, **of)
    details: dict[str, Any] = {}
    try:
        yield details
    except Exception:
        record_alone(engine, action, outcome=AuditOutcome.FAILED, details=details, **of)
        raise
    record_alone(engine, action, details=details, **of)


def describe_change(changed: bool) -> AuditOutcome:
    """Return the outcome of an action that may have found nothing to change."""
    return AuditOutcome.DONE if changed else AuditOutcome.UNCHANGED


@dataclass(frozen=True, kw_only=True)
class AuditTrail:
    """Reads the audit trail."""

    engine: Engine
    vault: Vault

    def list(self, filters: AuditFilters, *, cursor: str | None, limit: int) -> AuditPage:
        """Return a page of entries, newest first.

        A cursor is valid only for the filters of the page that returned it. Raises InvalidRequest for any
        other cursor and for an unknown client, InvalidPhoneNumber, DatabaseUnavailable.
        """
        hashes: Sequence[bytes] | None = None
        if filters.phone_number is not None:
            hashes = self.vault.stored_hashes(phone.list_stored_forms(filters.phone_number))
        after = self._read(cursor, filters) if cursor else None

        def read(conn: Connection) -> AuditPage:
            terms = AuditTerms(
                since=filters.since,
                until=filters.until,
                action=filters.action,
                surface=filters.surface,
                actor=filters.actor,
                client_id=_find_client(conn, filters.client) if filters.client else None,
                number_hashes=hashes,
            )
            found, last = audit.list_newest(conn, terms, after=after, limit=limit, vault=self.vault)
            next_cursor = to_cursor(last, self._sign(last, filters)) if last else None
            return AuditPage(entries=tuple(found), next_cursor=next_cursor)

        with connection(self.engine) as conn:
            return read(conn)

    def erasures(self, *, since: datetime | None = None, limit: int = 100) -> Sequence[ErasureRecord]:
        """Return the erasures of numbers, newest first. Raises DatabaseUnavailable."""
        with connection(self.engine) as conn:
            return audit.list_erasures(conn, since=since, limit=limit)

    def _read(self, cursor: str, filters: AuditFilters) -> SearchPosition:
        try:
            position, signature = from_cursor(cursor)
        except ValueError:
            raise _no_cursor() from None
        if not hmac.compare_digest(signature, self._sign(position, filters)):
            raise _no_cursor()
        return position

    def _sign(self, position: SearchPosition, filters: AuditFilters) -> bytes:
        signed = f"audit\n{position.to_bytes().hex()}\n{filters.to_text()}"
        return self.vault.cursor_hash(signed)[:SIGNATURE_BYTES]


def _no_cursor() -> InvalidRequest:
    return InvalidRequest([FieldError("cursor", "must be the `next_cursor` of a page with the same filters")])


def _find_client(conn: Connection, name: str) -> UUID:
    client_id = clients.find_client(conn, name)
    if client_id is None:
        raise InvalidRequest([FieldError("client", "does not exist")])
    return client_id
