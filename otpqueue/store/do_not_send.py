"""Queries on the do-not-send list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Row, delete, or_, select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.domain.phone import mask_number
from otpqueue.store import locks
from otpqueue.store.locks import Lock
from otpqueue.store.schema import do_not_send
from otpqueue.store.vault import Vault

_d = do_not_send.c


@dataclass(frozen=True, kw_only=True)
class BlockedNumber:
    """A blocked phone number."""

    phone_number: str | None
    """Masked; None if its key is missing."""
    reason: str | None
    until: datetime | None
    """None for an unlimited block."""
    created_at: datetime


def block(
    conn: Connection, e164: str, *, reason: str | None, until: datetime | None, now: datetime, vault: Vault
) -> None:
    """Block a number. A number that is already blocked gets the new reason and end.

    Call in a transaction. The number has exactly one row afterwards, also during a look-up key rotation.
    """
    lock_list(conn)
    current, *older = vault.number_hashes(e164)
    if older:
        conn.execute(delete(do_not_send).where(_d.number_hash.in_(older)))
    row_id: UUID = uuid7()
    key_id, sealed = vault.seal(e164, row_id=row_id)
    values = {
        "id": row_id,
        "number_sealed": sealed,
        "seal_key_id": key_id,
        "reason": reason,
        "until": until,
        "created_at": now,
    }
    conn.execute(
        insert(do_not_send)
        .values(number_hash=current, **values)
        .on_conflict_do_update(index_elements=["number_hash"], set_=values)
    )


def lock_list(conn: Connection) -> None:
    """Lock the list and its hashes against changes until the transaction ends.

    A concurrent lookup must find a row under one of its hashes while the hash is replaced.
    """
    locks.take(conn, Lock.DO_NOT_SEND)


def unblock(conn: Connection, number_hashes: Sequence[bytes]) -> bool:
    """Unblock a number; return whether it was blocked. Call in a transaction."""
    lock_list(conn)
    return bool(conn.execute(delete(do_not_send).where(_d.number_hash.in_(number_hashes))).rowcount)


def list_blocked(
    conn: Connection, *, now: datetime, vault: Vault, number_hashes: Sequence[bytes] | None = None
) -> list[BlockedNumber]:
    """Return the blocked numbers, newest first, without expired blocks; of one number if hashes are given."""
    rows = conn.execute(
        select(do_not_send)
        .where(
            or_(_d.until.is_(None), _d.until > now),
            *([_d.number_hash.in_(number_hashes)] if number_hashes is not None else []),
        )
        .order_by(_d.created_at.desc(), _d.id)
    )
    return [
        BlockedNumber(
            phone_number=_masked(row, vault), reason=row.reason, until=row.until, created_at=row.created_at
        )
        for row in rows
    ]


def _masked(row: Row[*tuple[Any, ...]], vault: Vault) -> str | None:
    try:
        return mask_number(vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id))
    except (KeyError, InvalidTag):
        # The key is missing. The hash still blocks the number.
        return None
