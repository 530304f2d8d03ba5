"""The look-up keys of stored hashes, and the replacement of a number's hashes in every table.

A hash begins with the mark of its key, so all hashes of one key are adjacent in an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidTag
from sqlalchemy import (
    Column,
    Connection,
    LargeBinary,
    and_,
    column,
    delete,
    func,
    null,
    or_,
    select,
    true,
    update,
    values,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement
from sqlalchemy.sql.selectable import Values

from otpqueue.domain.limits import GuessPolicy
from otpqueue.domain.request import LIVE
from otpqueue.store import do_not_send
from otpqueue.store.privacy.holdings import HOLDINGS, Holding, OnErase
from otpqueue.store.requests import filter_by_status
from otpqueue.store.schema import (
    api_keys,
    checks,
    guard_addresses,
    idempotency_keys,
    otp_requests,
    verification_pages,
)
from otpqueue.store.vault import Vault

_r = otp_requests.c

_GUARD_COUNTS = timedelta(hours=25)
"""The guard counts an address for a day after the hour of the row."""

_HASHED = tuple(holding for holding in HOLDINGS if holding.number_hash is not None)
SEALED: tuple[Holding, ...] = tuple(holding for holding in _HASHED if holding.sealed)
"""The tables with the sealed number itself, from which it can be hashed again."""
OTHERS: tuple[Holding, ...] = tuple(holding for holding in _HASHED if holding.table is not otp_requests)
"""All tables with a number except the requests."""


@dataclass(frozen=True, kw_only=True)
class RehashStep:
    """The result of one step."""

    rehashed: int
    unopened: int
    """Numbers that cannot be unsealed, and so not be hashed again."""
    last: bytes | None
    """The next step starts after this hash; None when no rows are left."""


def count(conn: Connection, holding: Holding, marks: Sequence[bytes]) -> int:
    """Return how many rows of a table have a hash under one of these keys."""
    hashes = holding.column(holding.number_hash or "")
    return sum(_count(conn, [_marked(hashes, mark)]) for mark in marks)


def find_last_expiry(
    conn: Connection, holding: Holding, marks: Sequence[bytes], *, retention: timedelta
) -> datetime | None:
    """Return when the last of a table's rows under these keys expires; None if one never does."""
    if holding.age is None:
        return None
    hashes, age = holding.column(holding.number_hash or ""), holding.column(holding.age)
    under = or_(*(_marked(hashes, mark) for mark in marks))
    ages = holding.only if holding.only is not None else true()
    row = conn.execute(
        select(func.max(age).label("newest"), func.bool_and(func.coalesce(ages, False)).label("all")).where(
            under
        )
    ).one()
    return row.newest + holding.kept_for(retention) if row.newest and row.all else None


@dataclass(frozen=True, kw_only=True)
class KeyedCounts:
    """Rows that count under a key for a limited time, and are not hashed again."""

    rows: int
    until: datetime | None
    """When the last of them ends; None if there is none."""


def count_idempotency_keys(conn: Connection, marks: Sequence[bytes]) -> KeyedCounts:
    """Return the idempotency keys under these keys that have not expired."""
    k = idempotency_keys.c
    return _counting(conn, k.key_hash, marks, k.expires_at)


def count_pages(conn: Connection, marks: Sequence[bytes]) -> KeyedCounts:
    """Return the verification pages under these keys that have not expired."""
    return _counting(conn, verification_pages.c.link_hash, marks, verification_pages.c.expires_at)


def count_addresses(conn: Connection, marks: Sequence[bytes], *, guesses: GuessPolicy) -> KeyedCounts:
    """Return the rows under these keys that count addresses: for the guard, and for wrong codes."""
    found = [_counting(conn, guard_addresses.c.address_hash, marks, guard_addresses.c.hour + _GUARD_COUNTS)]
    if guesses.client_ip:
        window = timedelta(seconds=guesses.client_ip.window_s)
        found.append(_counting(conn, checks.c.client_ip_hash, marks, checks.c.started_at + window))
    ends = [one.until for one in found if one.until]
    return KeyedCounts(rows=sum(one.rows for one in found), until=max(ends, default=None))


def _counting(
    conn: Connection, hashes: Column[Any], marks: Sequence[bytes], ends_at: ColumnElement[datetime]
) -> KeyedCounts:
    row = conn.execute(
        select(func.count().label("rows"), func.max(ends_at).label("until")).where(
            or_(*(_marked(hashes, mark) for mark in marks)), ends_at > func.statement_timestamp()
        )
    ).one()
    return KeyedCounts(rows=row.rows, until=row.until)


def count_live_sessions(conn: Connection, marks: Sequence[bytes]) -> int:
    """Return how many live requests have a session hash made with one of these keys."""
    return sum(_count(conn, [filter_by_status(LIVE), _marked(_r.session_hash, mark)]) for mark in marks)


def list_unused_keys(conn: Connection, marks: Sequence[bytes]) -> dict[str, datetime | None]:
    """Return the active API keys that have not been used since these keys were replaced.

    The expiry of each by its prefix, None for never.
    """
    k = api_keys.c
    in_force = or_(k.expires_at.is_(None), k.expires_at > func.statement_timestamp())
    rows = conn.execute(
        select(k.prefix, k.expires_at)
        .where(k.revoked_at.is_(None), in_force, or_(*(_marked(k.key_hash, mark) for mark in marks)))
        .order_by(k.prefix)
    )
    return {row.prefix: row.expires_at for row in rows}


def rehash(
    conn: Connection, holding: Holding, *, mark: bytes, after: bytes | None, limit: int, vault: Vault
) -> RehashStep:
    """Replace the hash of up to `limit` sealed numbers by that of the primary key, in all tables.

    Call in a transaction. Rows that another session has locked are skipped.
    """
    do_not_send.lock_list(conn)
    of = holding.table.c
    rows = conn.execute(
        select(of.id, of.number_sealed, of.seal_key_id, of.number_hash)
        .where(_marked(of.number_hash, mark), *([of.number_hash > after] if after else []))
        .order_by(of.number_hash)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    pairs: dict[bytes, bytes] = {}
    ids = []
    for row in rows:
        try:
            number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
        except (KeyError, InvalidTag):
            continue
        pairs[row.number_hash] = vault.number_hash(number)
        ids.append(row.id)
    if pairs:
        for other in OTHERS:
            replace(conn, other, pairs)
        if holding not in OTHERS:
            known = _as_rows(pairs)
            conn.execute(
                update(holding.table)
                .where(of.id.in_(ids), of.number_hash == known.c.old)
                .values(number_hash=known.c.new)
            )
    return RehashStep(
        rehashed=len(ids), unopened=len(rows) - len(ids), last=rows[-1].number_hash if rows else None
    )


def replace(conn: Connection, holding: Holding, pairs: Mapping[bytes, bytes]) -> None:
    """Replace hashes in a table other than the requests, old by new.

    If there is one row per number and the new hash already has one, the two are merged.
    """
    known, table = _as_rows(pairs), holding.table
    old = holding.column(holding.number_hash or "")
    if holding.merge is None:
        replaced = {old.name: known.c.new, **_freed(holding)}
        conn.execute(update(table).where(old == known.c.old).values(replaced))
        return
    names = [one.name for one in table.columns]
    taken = (
        delete(table)
        .where(old == known.c.old)
        .returning(*(known.c.new.label(name) if name == old.name else table.c[name] for name in names))
        .cte("taken")
    )
    joining = insert(table).from_select(names, select(*taken.c))
    conn.execute(
        joining.on_conflict_do_update(
            index_elements=_unique(holding), set_=holding.merge(table.c, joining.excluded)
        )
    )


def drop(conn: Connection, holding: Holding, marks: Sequence[bytes]) -> int:
    """Delete the hashes of numbers that a table has only under one of these keys; return how many rows.

    Rows that an erasure keeps are kept.
    """
    if holding.on_erase is OnErase.KEPT:
        return 0
    hashes = holding.column(holding.number_hash or "")
    return sum(conn.execute(_forget(holding, hashes, mark)).rowcount for mark in marks)


def _forget(holding: Holding, hashes: Column[Any], mark: bytes) -> Any:
    # Without its hash, a row must not keep the number itself.
    if hashes.nullable and holding.sealed is None:
        cleared = {hashes.name: null(), **_freed(holding)}
        return update(holding.table).where(_marked(hashes, mark)).values(cleared)
    return delete(holding.table).where(_marked(hashes, mark))


def _unique(holding: Holding) -> list[Column[Any]]:
    key = list(holding.table.primary_key.columns)
    own = holding.column(holding.number_hash or "")
    return key if own.primary_key else [own]


def _freed(holding: Holding) -> dict[str, Any]:
    return dict.fromkeys(holding.frees, null())


def _marked(hashes: ColumnElement[Any], mark: bytes) -> ColumnElement[bool]:
    following = int.from_bytes(mark) + 1
    if following == 256 ** len(mark):
        return hashes >= mark
    return and_(hashes >= mark, hashes < following.to_bytes(len(mark)))


def _count(conn: Connection, conditions: Sequence[ColumnElement[bool]]) -> int:
    found: int = conn.execute(select(func.count()).where(*conditions)).scalar_one()
    return found


def _as_rows(pairs: Mapping[bytes, bytes]) -> Values:
    rows = values(column("old", LargeBinary), column("new", LargeBinary), name="known")
    return rows.data(sorted(pairs.items()))
