"""Heartbeats of processes."""

from __future__ import annotations

from sqlalchemy import ARRAY, Boolean, CheckConstraint, Column, Float, Table, Text

from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.store.schema.base import Time, metadata, one_of

heartbeats = Table(
    "heartbeats",
    metadata,
    # The last heartbeat of each process: `worker|host:pid`.
    Column("process", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    # The connection to the broker; `heard_at` is the time of the last message.
    Column("in_touch", Boolean, nullable=False),
    Column("heard_at", Time),
    Column("version", Text, nullable=False),
    # How far the host's clock is ahead of Postgres's.
    Column("skew_s", Float),
    # By Postgres's clock.
    Column("started_at", Time, nullable=False),
    Column("seen_at", Time, nullable=False),
    CheckConstraint(one_of("kind", ProcessKind), name="kind"),
    # Few rows, each updated every few seconds: no index on `seen_at` and free space on the page allow HOT
    # updates.
    postgresql_with={"fillfactor": "50"},
)
