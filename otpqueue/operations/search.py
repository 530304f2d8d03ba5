"""Search requests of all clients, newest first, with pagination. For operators only."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue.domain import phone
from otpqueue.domain.audit import AuditSubject, OperatorAction
from otpqueue.domain.errors import FieldError, InvalidRequest
from otpqueue.domain.search import (
    SIGNATURE_BYTES,
    SearchFilters,
    SearchPage,
    SearchPosition,
    from_cursor,
    to_cursor,
)
from otpqueue.operations.auditing import record_action
from otpqueue.store import clients, search
from otpqueue.store.engine import connection
from otpqueue.store.search import SearchTerms
from otpqueue.store.vault import Vault


@dataclass(frozen=True, kw_only=True)
class SearchRequests:
    """Searches."""

    engine: Engine
    vault: Vault
    window: int = search.WINDOW

    def __call__(self, filters: SearchFilters, *, reader: UUID, cursor: str | None, limit: int) -> SearchPage:
        """Return a page of matching requests. It may be short although there is a `next_cursor`.

        The first page of a search by number is recorded in the audit trail. A cursor is valid only for the
        reader (a client) and the filters of the search that returned it.
        Raises InvalidRequest for any other cursor and for an unknown client, InvalidPhoneNumber,
        DatabaseUnavailable.
        """
        number_hashes = None
        if filters.phone_number is not None:
            number_hashes = self.vault.stored_hashes(phone.list_stored_forms(filters.phone_number))
        after = self._read(cursor, reader, filters) if cursor else None
        with connection(self.engine) as conn:
            if number_hashes and not after:
                subject = AuditSubject(number_hash=number_hashes[0])
                record_action(conn, OperatorAction.NUMBER_SEARCHED, subject=subject)
            sought = SearchTerms(
                number_hashes=number_hashes,
                status=filters.status,
                created_after=filters.created_after,
                created_before=filters.created_before,
                client_id=_client_id(conn, filters.client) if filters.client else None,
            )
            found, last = search.list_newest(
                conn, sought, after=after, limit=limit, window=self.window, vault=self.vault
            )
        next_cursor = to_cursor(last, self._sign(last, reader, filters)) if last else None
        return SearchPage(found=tuple(found), next_cursor=next_cursor)

    def _read(self, cursor: str, reader: UUID, filters: SearchFilters) -> SearchPosition:
        try:
            position, signature = from_cursor(cursor)
        except ValueError:
            raise _no_cursor() from None
        if not hmac.compare_digest(signature, self._sign(position, reader, filters)):
            raise _no_cursor()
        return position

    def _sign(self, position: SearchPosition, reader: UUID, filters: SearchFilters) -> bytes:
        signed = f"{reader}\n{position.to_bytes().hex()}\n{filters.to_text()}"
        return self.vault.cursor_hash(signed)[:SIGNATURE_BYTES]


def _no_cursor() -> InvalidRequest:
    return InvalidRequest(
        [FieldError("cursor", "must be the `next_cursor` of a search with the same filters and key's client")]
    )


def _client_id(conn: Connection, name: str) -> UUID:
    client_id = clients.find_client(conn, name)
    if client_id is None:
        # An empty result would suggest that the client has no requests.
        raise InvalidRequest([FieldError("client", "does not exist", missing=True)])
    return client_id
