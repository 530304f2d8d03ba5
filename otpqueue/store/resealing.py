"""Which keys stored numbers are sealed with, and how they are sealed anew with the first one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, delete, func, select, text

from otpqueue.store.schema import otp_requests
from otpqueue.store.vault import Vault

_r = otp_requests.c
_LOWEST = UUID(int=0)

# One look into the index for each key, however many rows there are.
_KEYS_IN_USE = text(
    """
    WITH RECURSIVE found (key_id) AS (
        (SELECT seal_key_id FROM otp_requests ORDER BY seal_key_id LIMIT 1)
        UNION ALL
        SELECT (SELECT seal_key_id FROM otp_requests WHERE seal_key_id > found.key_id
                ORDER BY seal_key_id LIMIT 1)
        FROM found WHERE found.key_id IS NOT NULL
    )
    SELECT key_id FROM found WHERE key_id IS NOT NULL
    """
)

# Nothing else of a row changes: `updated_at` is when its state changed, and callers see it.
_STORE = text(
    """
    UPDATE otp_requests AS r SET number_sealed = t.sealed, seal_key_id = :key_id
    FROM unnest(CAST(:ids AS uuid[]), CAST(:sealed AS bytea[])) AS t (id, sealed)
    WHERE r.id = t.id
    """
)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step of re-sealing did."""

    resealed: int
    unopened: int
    """Numbers that their key does not open: they are not its, or somebody has changed them."""
    last: UUID | None
    """The id where the next step begins after; None when there was nothing left."""


def keys_in_use(conn: Connection) -> list[str]:
    """Return the ids of the keys that stored numbers are sealed with."""
    return list(conn.execute(_KEYS_IN_USE).scalars())


def counts(conn: Connection, key_ids: Collection[str] | None = None) -> dict[str, int]:
    """Return how many numbers are sealed with each of these keys, or with each that there is."""
    rows = (
        select(_r.seal_key_id, func.count().label("numbers"))
        .group_by(_r.seal_key_id)
        .order_by(_r.seal_key_id)
    )
    if key_ids is not None:
        rows = rows.where(_r.seal_key_id.in_(key_ids))
    return {row.seal_key_id: row.numbers for row in conn.execute(rows)}


def reseal(conn: Connection, *, key_id: str, after: UUID | None, limit: int, vault: Vault) -> Step:
    """Seal up to `limit` numbers of a key anew with the first one, in the order of ids.

    Call in a transaction. Rows that somebody else has locked, a claim or a check, are passed over.
    """
    rows = conn.execute(
        select(_r.id, _r.number_sealed)
        .where(_r.seal_key_id == key_id, _r.id > (after or _LOWEST))
        .order_by(_r.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    sealed: dict[UUID, bytes] = {}
    current = vault.seal_key_ids[0]
    for row in rows:
        try:
            number = vault.unseal(row.number_sealed, key_id=key_id, row_id=row.id)
        except InvalidTag:
            continue
        sealed[row.id] = vault.seal(number, row_id=row.id)[1]
    if sealed:
        conn.execute(_STORE, {"key_id": current, "ids": list(sealed), "sealed": list(sealed.values())})
    return Step(resealed=len(sealed), unopened=len(rows) - len(sealed), last=rows[-1].id if rows else None)


def drop(conn: Connection, *, key_id: str, limit: int) -> int:
    """Delete up to `limit` requests whose number is sealed with a key; return how many."""
    batch: Sequence[UUID] = (
        conn.execute(
            select(_r.id).where(_r.seal_key_id == key_id).order_by(_r.id).limit(limit).with_for_update()
        )
        .scalars()
        .all()
    )
    return conn.execute(delete(otp_requests).where(_r.id.in_(batch))).rowcount if batch else 0
