"""Refused requests, daily send counts, the kill switch and the do-not-send list."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from otpqueue.domain.caps import CapScope
from otpqueue.store.schema.base import Time, metadata, one_of

refusals = Table(
    "refusals",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("number_hash", LargeBinary),
    Column("country", Text),
    Column("client_ip_hash", LargeBinary),
    # For a test number, which no statistics include.
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    # Figures of the first one; repeated refusals share a row per minute.
    Column("created_at", Time, nullable=False),
    Column("minute", Time),
    Column("count", Integer, nullable=False, server_default="1"),
    Index("refusals_number", "number_hash", "created_at"),
    Index(
        "refusals_minute",
        "client_id",
        "number_hash",
        "reason",
        "minute",
        unique=True,
        postgresql_nulls_not_distinct=True,
        # Rows from before `minute` existed count as one refusal each.
        postgresql_where=text("minute IS NOT NULL"),
    ),
    Index("refusals_created", "created_at"),
)

send_counts = Table(
    "send_counts",
    metadata,
    # How many attempts of a day (UTC) were sent, may have been sent, or are about to be. Daily caps limit
    # them.
    Column("day", Date, primary_key=True),
    Column("scope", Text, primary_key=True),
    # Empty for `all`, else a client's id or a country.
    Column("subject", Text, primary_key=True),
    Column("taken", Integer, nullable=False, server_default="0"),
    # A count is the sum of its shards. Claims add to shards from 0 up; attempts are subtracted in shards
    # below 0.
    Column("shard", SmallInteger, primary_key=True, server_default="0"),
    CheckConstraint(one_of("scope", CapScope), name="scope"),
    CheckConstraint("taken >= 0 OR shard < 0", name="taken"),
    # Every claim updates three of these few rows. Free space on the page allows HOT updates.
    postgresql_with={"fillfactor": "50"},
)

sending_stops = Table(
    "sending_stops",
    metadata,
    # The kill switch and its history. `subject` is as in `send_counts`.
    Column("id", Uuid, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("stopped_by", Text, nullable=False),
    Column("stopped_at", Time, nullable=False),
    Column("resumed_by", Text),
    Column("resumed_at", Time, index=True),
    CheckConstraint(one_of("scope", CapScope), name="scope"),
    Index(
        "sending_stops_in_force",
        "scope",
        "subject",
        unique=True,
        postgresql_where=text("resumed_at IS NULL"),
    ),
)

do_not_send = Table(
    "do_not_send",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Sealed as well, so that the list survives a rotation of the look-up key.
    Column("number_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    Column("number_hash", LargeBinary, nullable=False, unique=True),
    Column("reason", Text),
    Column("until", Time, index=True),
    Column("created_at", Time, nullable=False),
)
