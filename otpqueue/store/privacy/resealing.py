"""The sealing keys of stored numbers and webhook secrets, and resealing with the primary key."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from uuid import UUID

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, Table, TextClause, delete, func, select, text, update

from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.webhooks import DisabledReason
from otpqueue.store.privacy import erasing
from otpqueue.store.privacy.holdings import HOLDINGS, Holding
from otpqueue.store.schema import do_not_send, otp_requests, verification_pages, webhook_endpoints
from otpqueue.store.vault import Vault

_r = otp_requests.c
_LOWEST = UUID(int=0)
_NO_KEY = ""
"""The value that replaces a number that could not be unsealed."""

SEALED: tuple[Holding, ...] = tuple(holding for holding in HOLDINGS if holding.sealed)
"""The tables with a sealed column."""


def build_key_query(table: Table) -> TextClause:
    """Return the query for a table's key ids: one index lookup per key, however many rows there are."""
    return text(
        f"""
        WITH RECURSIVE found (key_id) AS (
            (SELECT seal_key_id FROM {table.name} WHERE seal_key_id > '{_NO_KEY}'
             ORDER BY seal_key_id LIMIT 1)
            UNION ALL
            SELECT (SELECT seal_key_id FROM {table.name} WHERE seal_key_id > found.key_id
                    ORDER BY seal_key_id LIMIT 1)
            FROM found WHERE found.key_id IS NOT NULL
        )
        SELECT key_id FROM found WHERE key_id IS NOT NULL
        """  # noqa: S608 - the name of a table, not input
    )


def _store(holding: Holding) -> TextClause:
    # No other column changes: `updated_at` is the time of a status change, which callers see.
    return text(
        f"""
        UPDATE {holding.table.name} AS r SET {holding.sealed} = t.sealed, seal_key_id = :key_id
        FROM unnest(CAST(:ids AS uuid[]), CAST(:sealed AS bytea[])) AS t (id, sealed)
        WHERE r.id = t.id
        """  # noqa: S608 - the name of a table, not input
    )


@dataclass(frozen=True, kw_only=True)
class ResealStep:
    """What one step of re-sealing did."""

    resealed: int
    unopened: int
    """Numbers that their key does not unseal: they were sealed with another key or modified."""
    last: UUID | None
    """The next step starts after this id; None when no rows are left."""


def list_keys_in_use(conn: Connection) -> list[str]:
    """Return the ids of the keys that stored numbers are sealed with."""
    return sorted({key_id for one in SEALED for key_id in conn.execute(build_key_query(one.table)).scalars()})


def count_by_key(conn: Connection, key_ids: Collection[str] | None = None) -> dict[str, int]:
    """Return how many numbers are sealed with each of these keys, by default with each existing key."""
    found: Counter[str] = Counter()
    for holding in SEALED:
        key = holding.table.c.seal_key_id
        rows = select(key, func.count().label("numbers")).where(key != _NO_KEY).group_by(key)
        if key_ids is not None:
            rows = rows.where(key.in_(key_ids))
        found.update({row.seal_key_id: row.numbers for row in conn.execute(rows)})
    return dict(sorted(found.items()))


def reseal(
    conn: Connection, holding: Holding, *, key_id: str, after: UUID | None, limit: int, vault: Vault
) -> ResealStep:
    """Reseal up to `limit` rows of a table and a key with the primary key, in the order of ids.

    Call in a transaction. Rows that a claim, a check or another session has locked are skipped.
    """
    table = holding.table
    rows = conn.execute(
        select(table.c.id, holding.column(holding.sealed or "").label("sealed"))
        .where(table.c.seal_key_id == key_id, table.c.id > (after or _LOWEST))
        .order_by(table.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    sealed: dict[UUID, bytes] = {}
    current = vault.seal_key_ids[0]
    for row in rows:
        try:
            opened = vault.unseal(row.sealed, key_id=key_id, row_id=row.id)
        except InvalidTag:
            continue
        sealed[row.id] = vault.seal(opened, row_id=row.id)[1]
    if sealed:
        conn.execute(
            _store(holding), {"key_id": current, "ids": list(sealed), "sealed": list(sealed.values())}
        )
    return ResealStep(
        resealed=len(sealed), unopened=len(rows) - len(sealed), last=rows[-1].id if rows else None
    )


def drop(conn: Connection, *, key_id: str, limit: int, guesses: GuessPolicy) -> int:
    """Delete up to `limit` requests with a number sealed by this key; return how many.

    Their wrong codes still count against new requests.
    """
    batch: Sequence[UUID] = (
        conn.execute(
            select(_r.id).where(_r.seal_key_id == key_id).order_by(_r.id).limit(limit).with_for_update()
        )
        .scalars()
        .all()
    )
    if not batch:
        return 0
    erasing.keep_wrong_codes(
        conn, batch, guesses=guesses, now=conn.execute(select(func.statement_timestamp())).scalar_one()
    )
    return conn.execute(delete(otp_requests).where(_r.id.in_(batch))).rowcount


def disable_webhooks(conn: Connection, *, key_id: str) -> int:
    """Delete the secrets that a key has sealed, and disable their webhooks; return how many."""
    unread = update(webhook_endpoints).where(webhook_endpoints.c.seal_key_id == key_id)
    disabled = unread.values(
        secrets_sealed=b"",
        seal_key_id=_NO_KEY,
        disabled_at=func.statement_timestamp(),
        disabled_reason=DisabledReason.SECRET_LOST.value,
    )
    return conn.execute(disabled).rowcount


def drop_pages(conn: Connection, *, key_id: str) -> int:
    """Delete the verification pages with a number sealed by this key; return how many."""
    pages = verification_pages
    return conn.execute(delete(pages).where(pages.c.seal_key_id == key_id)).rowcount


def drop_blocked_numbers(conn: Connection, *, key_id: str) -> int:
    """Delete the sealed numbers of a key from the do-not-send list; return how many.

    They stay blocked by their hashes.
    """
    unread = update(do_not_send).where(do_not_send.c.seal_key_id == key_id)
    return conn.execute(unread.values(number_sealed=b"", seal_key_id=_NO_KEY)).rowcount
