"""Queries on the kill switch: the scopes for which sending is stopped, by which operator and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from otpqueue.domain.caps import CapScope
from otpqueue.domain.phone import WORLD
from otpqueue.store.schema import sending_stops

_s = sending_stops.c
_IN_FORCE = _s.resumed_at.is_(None)

_STOPPED = "SELECT s.subject FROM sending_stops AS s WHERE s.resumed_at IS NULL AND s.scope"


def exclude_stopped(requests: str) -> str:
    """Return the SQL condition that sending is not stopped for a row of `requests`, a table's name or alias.

    Each part is read once per statement, not once per row.
    """
    return f"""(
        NOT EXISTS ({_STOPPED} = 'all')
        AND coalesce({requests}.country, '{WORLD}') <> ALL (ARRAY({_STOPPED} = 'country'))
        AND {requests}.client_id::text <> ALL (ARRAY({_STOPPED} = 'client'))
    )"""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A stop of sending: for all, for one client's id, or for one country."""

    scope: CapScope
    subject: str
    reason: str | None
    stopped_by: str
    stopped_at: datetime


def stop(conn: Connection, new: Stop) -> bool:
    """Store a stop; return False if the same stop is already in force."""
    made = conn.execute(
        insert(sending_stops)
        .values(
            id=uuid7(),
            scope=new.scope.value,
            subject=new.subject,
            reason=new.reason,
            stopped_by=new.stopped_by,
            stopped_at=new.stopped_at,
        )
        .on_conflict_do_nothing()
        .returning(_s.id)
    )
    return made.first() is not None


def resume(conn: Connection, *, scope: CapScope, subject: str, by: str, now: datetime) -> bool:
    """End a stop; return whether it was in force."""
    result = conn.execute(
        update(sending_stops)
        .where(_s.scope == scope.value, _s.subject == subject, _IN_FORCE)
        .values(resumed_by=by, resumed_at=now)
    )
    return bool(result.rowcount)


def list_stops(conn: Connection) -> list[Stop]:
    """Return the stops that are in force, oldest first."""
    rows = conn.execute(
        select(_s.scope, _s.subject, _s.reason, _s.stopped_by, _s.stopped_at)
        .where(_IN_FORCE)
        .order_by(_s.stopped_at, _s.id)
    )
    return [
        Stop(
            scope=CapScope(row.scope),
            subject=row.subject,
            reason=row.reason,
            stopped_by=row.stopped_by,
            stopped_at=row.stopped_at,
        )
        for row in rows
    ]
