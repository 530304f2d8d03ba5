"""Hosted verification pages: rows, the browser of each, and the token that is redeemed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    and_,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)

from otpqueue.domain.request import Channel, Status
from otpqueue.domain.verification_pages import VerificationPage
from otpqueue.store.schema import clients, otp_requests, verification_pages
from otpqueue.store.vault import Vault

_p = verification_pages.c
_SELECT = select(verification_pages, clients.c.name.label("client_name")).join(clients)


@dataclass(frozen=True, kw_only=True)
class NewPage:
    """A page to store."""

    id: UUID
    client_id: UUID
    link_hash: bytes
    e164: str | None
    """The number that the client gave."""
    channel: Channel
    language: str | None
    return_url: str
    state: str | None
    client_reference: str | None
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, kw_only=True)
class FoundPage:
    """A page and the hash of its browser's secret."""

    page: VerificationPage
    browser_hash: bytes | None


@dataclass(frozen=True, kw_only=True)
class RedeemedPage:
    """The result of a redemption."""

    id: UUID
    request_id: UUID
    state: str | None


def add(conn: Connection, new: NewPage, vault: Vault) -> None:
    """Store a page."""
    number: dict[str, Any] = {}
    if new.e164 is not None:
        key_id, sealed = vault.seal(new.e164, row_id=new.id)
        number = {
            "number_hash": vault.number_hash(new.e164),
            "number_sealed": sealed,
            "seal_key_id": key_id,
        }
    conn.execute(
        insert(verification_pages).values(
            id=new.id,
            client_id=new.client_id,
            link_hash=new.link_hash,
            channel=new.channel.value,
            language=new.language,
            return_url=new.return_url,
            state=new.state,
            client_reference=new.client_reference,
            created_at=new.created_at,
            expires_at=new.expires_at,
            **number,
        )
    )


def find_by_link(
    conn: Connection, link_hashes: Sequence[bytes], *, now: datetime, vault: Vault
) -> FoundPage | None:
    """Return the page of a link unless it has expired."""
    row = conn.execute(_SELECT.where(_p.link_hash.in_(link_hashes), _p.expires_at > now)).one_or_none()
    return None if row is None else FoundPage(page=_to_page(row, vault), browser_hash=row.browser_hash)


def find(
    conn: Connection, page_id: UUID, *, client_id: UUID, now: datetime, vault: Vault
) -> VerificationPage | None:
    """Return a page of this client unless it has expired."""
    row = conn.execute(
        _SELECT.where(_p.id == page_id, _p.client_id == client_id, _p.expires_at > now)
    ).one_or_none()
    return None if row is None else _to_page(row, vault)


def bind_browser(
    conn: Connection, page_id: UUID, browser_hash: bytes, *, embedded: bool, now: datetime
) -> bool:
    """Bind a page to a browser; return False if it is bound already."""
    bound = (
        update(verification_pages)
        .where(_p.id == page_id, _p.browser_hash.is_(None))
        .values(browser_hash=browser_hash, is_embedded=embedded, opened_at=now)
    )
    return conn.execute(bound).rowcount == 1


def set_request(conn: Connection, page_id: UUID, request_id: UUID) -> None:
    """Set the request of a page, unless a concurrent call set a newer one: ids are ordered by time.

    One that was cancelled is not newer: of concurrent requests for one number, the last to be stored replaces
    the others, whatever their ids.
    """
    is_newer = and_(_p.request_id < request_id, ~_is_cancelled(literal(request_id)))
    conn.execute(
        update(verification_pages)
        .where(_p.id == page_id, or_(_p.request_id.is_(None), is_newer, _is_cancelled(_p.request_id)))
        .values(request_id=request_id)
    )


def _is_cancelled(request_id: ColumnElement[UUID]) -> ColumnElement[bool]:
    cancelled = otp_requests.c.status == Status.CANCELLED.value
    return exists(select(otp_requests.c.id).where(otp_requests.c.id == request_id, cancelled))


def clear_request(conn: Connection, page_id: UUID, request_id: UUID) -> None:
    """Remove this request from a page, so that the person can give another number."""
    conn.execute(
        update(verification_pages)
        .where(_p.id == page_id, _p.request_id == request_id)
        .values(request_id=None)
    )


def read_number(conn: Connection, page_id: UUID, vault: Vault) -> str | None:
    """Return the number that the client gave, in E.164, None if it gave none.

    Raises KeyError and InvalidTag if it cannot be unsealed.
    """
    row = conn.execute(select(_p.id, _p.number_sealed, _p.seal_key_id).where(_p.id == page_id)).one_or_none()
    if row is None or row.number_sealed is None:
        return None
    return vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)


def store_token(
    conn: Connection, page_id: UUID, token_hash: bytes, *, expires_at: datetime, page_until: datetime
) -> bool:
    """Replace the token of a page; return False if one has been redeemed.

    The page expires at `page_until` at the earliest.
    """
    stored = (
        update(verification_pages)
        .where(_p.id == page_id, _p.redeemed_at.is_(None))
        .values(
            token_hash=token_hash,
            token_expires_at=expires_at,
            expires_at=func.greatest(_p.expires_at, page_until),
        )
    )
    return conn.execute(stored).rowcount == 1


def redeem(
    conn: Connection, token_hashes: Sequence[bytes], *, client_id: UUID, now: datetime
) -> RedeemedPage | None:
    """Mark the token of this client's page as redeemed. None if there is none, or it was redeemed before."""
    redeemed = (
        update(verification_pages)
        .where(
            _p.token_hash.in_(token_hashes),
            _p.client_id == client_id,
            _p.token_expires_at > now,
            _p.redeemed_at.is_(None),
            _p.request_id == otp_requests.c.id,
            otp_requests.c.verified_at.is_not(None),
        )
        .values(redeemed_at=now)
        .returning(_p.id, _p.request_id, _p.state)
    )
    row = conn.execute(redeemed).one_or_none()
    return None if row is None else RedeemedPage(id=row.id, request_id=row.request_id, state=row.state)


def _to_page(row: Row[Any], vault: Vault) -> VerificationPage:
    return VerificationPage(
        id=row.id,
        client_id=row.client_id,
        client_name=row.client_name,
        is_opened=row.opened_at is not None,
        is_embedded=row.is_embedded,
        has_number=row.number_sealed is not None,
        phone_number=(
            vault.unseal_masked_number(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
            if row.number_sealed is not None
            else None
        ),
        channel=Channel(row.channel),
        language=row.language,
        return_url=row.return_url,
        state=row.state,
        client_reference=row.client_reference,
        request_id=row.request_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        redeemed_at=row.redeemed_at,
    )
