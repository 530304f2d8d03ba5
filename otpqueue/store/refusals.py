"""Queries on refused requests: a small row each, so that they can be counted and alerted on."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, insert
from uuid_utils.compat import uuid7

from otpqueue.store.schema import refusals


def add(
    conn: Connection,
    *,
    client_id: UUID,
    reason: str,
    number_hash: bytes | None,
    client_ip_hash: bytes | None,
    now: datetime,
) -> None:
    """Store that a request of this client was refused."""
    conn.execute(
        insert(refusals).values(
            id=uuid7(),
            client_id=client_id,
            reason=reason,
            number_hash=number_hash,
            client_ip_hash=client_ip_hash,
            created_at=now,
        )
    )
