"""Queries on heartbeats. `seen_at` uses Postgres's clock, since the clocks of hosts disagree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, case, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from otpqueue.domain.heartbeats import Heartbeat, ProcessKind
from otpqueue.store.schema import heartbeats

_h = heartbeats.c
_NOW = func.clock_timestamp()

DELETED_AFTER_S = 3600
"""How long a killed process is listed as silent."""


@dataclass(frozen=True, kw_only=True)
class ProcessReport:
    """A process's report on itself; the fields are those of `Heartbeat`."""

    process: str
    kind: ProcessKind
    queues: tuple[str, ...]
    in_touch: bool
    unheard_s: float | None
    """How long ago it last received a message from the broker, in seconds; None if never."""
    version: str
    running_s: float
    """How long it has been running, in seconds."""
    skew_s: float | None


def _ago(seconds: float) -> ColumnElement[datetime]:
    return _NOW - func.make_interval(0, 0, 0, 0, 0, 0, seconds)


def _seconds_since(time: ColumnElement[Any]) -> ColumnElement[Any]:
    # Never below 0: the clock may have been set back.
    return func.greatest(func.extract("epoch", _NOW - time), 0)


def store_heartbeat(conn: Connection, sign: ProcessReport) -> datetime:
    """Store a heartbeat and return Postgres's time."""
    new = insert(heartbeats).values(
        process=sign.process,
        kind=sign.kind.value,
        queues=list(sign.queues),
        in_touch=sign.in_touch,
        heard_at=None if sign.unheard_s is None else _ago(sign.unheard_s),
        version=sign.version,
        skew_s=sign.skew_s,
        started_at=_ago(sign.running_s),
        seen_at=_NOW,
    )
    taken_over = {column.name: column for column in new.excluded if column.name != "process"}
    written = new.on_conflict_do_update(index_elements=[_h.process], set_=taken_over).returning(_NOW)
    now: datetime = conn.execute(written).scalar_one()
    return now


def delete_heartbeat(conn: Connection, process: str) -> None:
    """Delete the heartbeat of a process that ends normally."""
    conn.execute(delete(heartbeats).where(_h.process == process))


def list_heartbeats(conn: Connection) -> list[Heartbeat]:
    """Return the last heartbeat of each process, including silent ones until they are deleted."""
    last_at_work = case((_h.in_touch, _h.seen_at), else_=func.coalesce(_h.heard_at, _h.started_at))
    ages = (_seconds_since(_h.seen_at).label("age_s"), _seconds_since(last_at_work).label("idle_s"))
    rows = conn.execute(select(*_h, *ages).order_by(_h.kind, _h.process))
    return [
        Heartbeat(
            process=row.process,
            kind=ProcessKind(row.kind),
            queues=tuple(row.queues),
            in_touch=row.in_touch,
            version=row.version,
            heard=row.in_touch or row.heard_at is not None,
            started_at=row.started_at,
            seen_at=row.seen_at,
            age_s=float(row.age_s),
            idle_s=float(row.idle_s),
            skew_s=row.skew_s,
        )
        for row in rows
    ]


def delete_old_heartbeats(conn: Connection) -> int:
    """Delete the heartbeats of processes that ended long ago; return how many."""
    return conn.execute(delete(heartbeats).where(_h.seen_at < _ago(DELETED_AFTER_S))).rowcount
