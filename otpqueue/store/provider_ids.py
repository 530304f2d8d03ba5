"""Queries on the provider's ids that provisioning found or created."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, select
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.templates import ProviderIds
from otpqueue.store import locks
from otpqueue.store.engine import allow_time
from otpqueue.store.locks import Lock
from otpqueue.store.schema import provider_ids

_PROVISIONING_S = 600


def store_ids(
    conn: Connection, ids: ProviderIds, *, base_url: str, application_name: str, now: datetime
) -> None:
    """Store the ids of this account's application, replacing earlier ones."""
    values = {
        "application_id": ids.application_id,
        "message_ids": dict(ids.message_ids),
        "updated_at": now,
    }
    conn.execute(
        insert(provider_ids)
        .values(base_url=base_url, application_name=application_name, **values)
        .on_conflict_do_update(index_elements=["base_url", "application_name"], set_=values)
    )


def read_ids(conn: Connection, *, base_url: str, application_name: str) -> ProviderIds | None:
    """Return the ids of this account's application, None before provisioning."""
    row = conn.execute(
        select(provider_ids.c.application_id, provider_ids.c.message_ids).where(
            provider_ids.c.base_url == base_url, provider_ids.c.application_name == application_name
        )
    ).one_or_none()
    return ProviderIds(row.application_id, row.message_ids) if row else None


def list_base_urls(conn: Connection) -> list[str]:
    """Return the base URL of each account that was provisioned from this database."""
    return list(conn.execute(select(provider_ids.c.base_url).distinct()).scalars())


def lock(conn: Connection) -> None:
    """Lock provisioning until this transaction ends; wait for another holder.

    The transaction's time-outs are raised to what the provider may need to answer.
    """
    allow_time(conn, _PROVISIONING_S)
    locks.take(conn, Lock.PROVISION)
