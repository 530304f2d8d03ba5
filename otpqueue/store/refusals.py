"""Queries on refused requests: one small row per minute and kind, for statistics and alerts."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.store.schema import refusals


def add(
    conn: Connection,
    *,
    client_id: UUID,
    reason: str,
    number_hash: bytes | None,
    client_ip_hash: bytes | None,
    country: str | None = None,
    is_test: bool = False,
    now: datetime,
) -> None:
    """Store the refusal of a request of this client. Equal refusals within a minute share a row."""
    first = insert(refusals).values(
        id=uuid7(),
        client_id=client_id,
        reason=reason,
        number_hash=number_hash,
        country=country,
        client_ip_hash=client_ip_hash,
        is_test=is_test,
        created_at=now,
        minute=now.replace(second=0, microsecond=0),
    )
    conn.execute(
        first.on_conflict_do_update(
            index_elements=["client_id", "number_hash", "reason", "minute"],
            index_where=text("minute IS NOT NULL"),
            set_={"count": refusals.c.count + 1},
        )
    )
