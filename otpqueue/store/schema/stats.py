"""Events to be counted, and the statistics per minute and per hour."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Integer, Numeric, Table, Text, Uuid

from otpqueue.store.schema.base import Time, metadata

stat_events = Table(
    "stat_events",
    metadata,
    # Events that are not added to the statistics yet. Triggers write them in the transaction of the change.
    # `roll_up` deletes them in the transaction that adds them up. A changed outcome subtracts the old one.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Time, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("country", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("label", Text, nullable=False),
    # A second metric with the same count, to which the total then belongs.
    Column("also", Text),
    Column("also_label", Text),
    Column("n", Integer, nullable=False),
    Column("total", Numeric, nullable=False),
    # Every row is deleted within seconds and its space reused, so the file need not shrink: vacuum would
    # block inserts to truncate it.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
        "vacuum_truncate": "false",
    },
)


def _make_stats(name: str, fillfactor: int) -> Table:
    return Table(
        name,
        metadata,
        Column("at", Time, primary_key=True),
        # No foreign key: the counts of a client are added up even after its deletion.
        Column("client_id", Uuid, primary_key=True),
        Column("country", Text, primary_key=True),
        Column("channel", Text, primary_key=True),
        Column("metric", Text, primary_key=True),
        Column("label", Text, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Numeric, nullable=False),
        # The rows of the current minute or hour are updated repeatedly, all rows of a page at once. Equal
        # free space on the page allows HOT updates.
        postgresql_with={"fillfactor": str(fillfactor)},
    )


stats_minutes = _make_stats("stats_minutes", 50)
stats_hours = _make_stats("stats_hours", 45)
