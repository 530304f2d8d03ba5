"""Queries on idempotency keys: a call holds its key under a lease, then keeps its response.

A key has a lease on a row instead of an advisory lock, since a check holds no transaction during the
provider's call. No statement waits for a concurrent call with the same key. A key is taken by an insert in
autocommit, which does nothing if a row is visible (`ON CONFLICT DO NOTHING` alone would wait for a
transaction that updates the row). The update that keeps the response is the last statement of its
transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, and_, delete, exists, func, literal, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.sql import ColumnElement

from otpqueue.domain.replay import StoredResponse
from otpqueue.store.schema import idempotency_keys

_k = idempotency_keys.c

_TRIES = 3
"""The conflicting row may be gone before it is read, when its call was refused."""


@dataclass(frozen=True, kw_only=True)
class IdempotencyKey:
    """An idempotency key of a client, and the body of its call."""

    client_id: UUID
    key_hashes: Sequence[bytes] = field(repr=False)
    """The hash to store first. A second one during a look-up key rotation."""
    fingerprints: Sequence[bytes] = field(repr=False)
    """The fingerprints of the body, in the same order."""


@dataclass(frozen=True, kw_only=True)
class HeldKey:
    """A key that this call holds."""

    key: IdempotencyKey
    lease_until: datetime


@dataclass(frozen=True, kw_only=True)
class UsedKey:
    """A key that another call holds or has used."""

    fingerprint: bytes = field(repr=False)
    """Empty if the subject of the response has been erased."""
    in_progress: bool
    answer: StoredResponse | None
    """None while the call is in progress, and after the subject of the response was erased."""
    request_id: UUID | None = None
    """The request that the response is about."""


def take(
    conn: Connection, key: IdempotencyKey, *, lease_s: float, now: datetime, expires_at: datetime
) -> HeldKey | UsedKey:
    """Hold a key for `lease_s` seconds, or return the call that has it. Call in autocommit.

    A key is taken over from a call with the same body and an expired lease (its process was killed), and from
    any call after the key has expired.
    """
    lease_until = func.statement_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease_s)
    columns = {
        "client_id": key.client_id,
        "key_hash": key.key_hashes[0],
        "fingerprint": key.fingerprints[0],
        "created_at": now,
        "expires_at": expires_at,
    }
    values: dict[str, ColumnElement[Any]] = {
        name: literal(value, idempotency_keys.c[name].type) for name, value in columns.items()
    } | {"lease_until": lease_until}
    for _ in range(_TRIES):
        taken = conn.execute(
            insert(idempotency_keys)
            .from_select(list(values), select(*values.values()).where(~exists().where(_is(key))))
            .on_conflict_do_nothing()
            .returning(_k.lease_until)
        ).scalar_one_or_none()
        if taken:
            return HeldKey(key=key, lease_until=taken)
        found = conn.execute(
            select(
                _k.key_hash,
                _k.fingerprint,
                _k.answer,
                _k.request_id,
                _k.lease_until.is_not(None).label("in_progress"),
                _free(key, now).label("free"),
            )
            .where(_is(key))
            # Two processes that hash with different keys at the same moment may insert two rows for one key.
            .order_by(_k.created_at.desc())
        ).first()
        if found is None:
            continue
        if not found.free:
            return _used(found)
        taken = conn.execute(
            update(idempotency_keys)
            .where(_k.client_id == key.client_id, _k.key_hash == found.key_hash, _free(key, now))
            .values(request_id=None, answer=None, **values)
            .returning(_k.lease_until)
        ).scalar_one_or_none()
        if taken:
            return HeldKey(key=key, lease_until=taken)
    return UsedKey(fingerprint=key.fingerprints[0], in_progress=True, answer=None)


def keep(
    conn: Connection,
    held: HeldKey,
    answer: StoredResponse,
    *,
    request_id: UUID,
    now: datetime,
    expires_at: datetime,
) -> bool:
    """Keep the response of the call that holds a key, as the last statement of the transaction of its work.

    An expired lease does not prevent it. Returns False if another call has used the key since: roll the work
    back.
    """
    stored = {"status": answer.status, "headers": dict(answer.headers), "body": answer.body}
    new = insert(idempotency_keys).values(
        client_id=held.key.client_id,
        key_hash=held.key.key_hashes[0],
        fingerprint=held.key.fingerprints[0],
        request_id=request_id,
        answer=stored,
        created_at=now,
        expires_at=expires_at,
    )
    kept = conn.execute(
        new.on_conflict_do_update(
            index_elements=[_k.client_id, _k.key_hash],
            set_={"request_id": request_id, "answer": stored, "lease_until": None},
            where=and_(_k.lease_until.is_not(None), _k.fingerprint == held.key.fingerprints[0]),
        ).returning(_k.request_id)
    )
    return kept.first() is not None


def release(conn: Connection, held: HeldKey) -> None:
    """Release the key of a refused call, unless another call has taken it over."""
    conn.execute(delete(idempotency_keys).where(_is(held.key), _k.lease_until == held.lease_until))


def _is(key: IdempotencyKey) -> ColumnElement[bool]:
    return and_(_k.client_id == key.client_id, _k.key_hash.in_(key.key_hashes))


def _free(key: IdempotencyKey, now: datetime) -> ColumnElement[bool]:
    lapsed = func.coalesce(_k.lease_until < func.statement_timestamp(), False)
    same = and_(lapsed, _k.fingerprint.in_(key.fingerprints))
    return or_(same, and_(_k.expires_at <= now, or_(lapsed, _k.lease_until.is_(None))))


def _used(row: Row[Any]) -> UsedKey:
    answer = StoredResponse(**row.answer, replayed=True) if row.answer else None
    return UsedKey(
        fingerprint=row.fingerprint, in_progress=row.in_progress, answer=answer, request_id=row.request_id
    )
