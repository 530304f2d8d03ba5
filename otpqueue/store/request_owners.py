"""The owner of a request of any client, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection, select

from otpqueue.store.schema import otp_requests

_r = otp_requests.c


@dataclass(frozen=True, kw_only=True)
class RequestOwner:
    """The client of a request, and its number as a hash."""

    client_id: UUID
    number_hash: bytes
    country: str | None


def find_owner(conn: Connection, request_id: UUID) -> RequestOwner | None:
    """Return the owner of a request of any client, None if there is no such request."""
    row = conn.execute(
        select(_r.client_id, _r.number_hash, _r.country).where(_r.id == request_id)
    ).one_or_none()
    return RequestOwner(**row._mapping) if row else None
