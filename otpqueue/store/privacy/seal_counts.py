"""How many texts each sealing key has sealed. The limit determines when to rotate it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select
from sqlalchemy.dialects.postgresql import insert

from otpqueue.store.schema import seal_counts

_c = seal_counts.c


def add(conn: Connection, key_id: str, seals: int) -> None:
    """Add to the count of a key."""
    new = insert(seal_counts).values(key_id=key_id, seals=seals, updated_at=func.statement_timestamp())
    values = {"seals": _c.seals + new.excluded.seals, "updated_at": new.excluded.updated_at}
    conn.execute(new.on_conflict_do_update(index_elements=[_c.key_id], set_=values))


def read_counts(conn: Connection) -> Mapping[str, int]:
    """Return how many texts each key has sealed."""
    return {row.key_id: row.seals for row in conn.execute(select(_c.key_id, _c.seals).order_by(_c.key_id))}
