"""Alerts, their measurements, history, notifications, silences and evaluations."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.domain.alerts import AlertState, AlertTransition
from otpqueue.domain.alerts import NotificationChannel as NoticeChannel
from otpqueue.store.schema.base import Time, metadata, one_of

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    # `all`, a country, a client, the tag of a number; null after that number was erased.
    Column("subject", Text),
    # Only if the subject is a number: finds the alert again whatever its mask, and is erased with the number.
    Column("number_hash", LargeBinary, index=True),
    Column("state", Text, nullable=False),
    # From the last evaluation.
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("window_s", Integer, nullable=False),
    Column("sample", BigInteger, nullable=False),
    Column("evaluated_at", Time, nullable=False),
    # Consecutive good evaluations while it is open.
    Column("good", SmallInteger, nullable=False, server_default="0"),
    Column("opened_at", Time, nullable=False),
    Column("closed_at", Time),
    # The measurement at the opening.
    Column("evidence", JSONB(none_as_null=True)),
    Column("acknowledged_at", Time),
    Column("acknowledged_by", Text),
    CheckConstraint(one_of("state", AlertState), name="state"),
    CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_has_time"),
    Index("alerts_one_open", "rule", "subject", unique=True, postgresql_where=text("state = 'open'")),
    Index("alerts_opened", "opened_at", "id"),
    Index("alerts_closed", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
)

alert_pending = Table(
    "alert_pending",
    metadata,
    # Subjects that were bad at the last evaluation, and not yet often enough for an alert.
    Column("rule", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("number_hash", LargeBinary, index=True),
    Column("bad", SmallInteger, nullable=False),
    Column("evaluated_at", Time, nullable=False, index=True),
)

alert_values = Table(
    "alert_values",
    metadata,
    # The measurements of an open alert, one per evaluation, for its chart.
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("at", Time, primary_key=True),
    # Null if there was no data.
    Column("value", Float),
    Column("sample", BigInteger, nullable=False),
    Index("alert_values_at", "at"),
)

alert_history = Table(
    "alert_history",
    metadata,
    # The history of an alert with its actors. It stores no subject: that could be a number.
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Time, nullable=False, index=True),
    Column("what", Text, nullable=False),
    Column("actor", Text),
    Column("detail", Text),
)

alert_notices = Table(
    "alert_notices",
    metadata,
    # The outbox: one row per alert, transition and channel. Its id is sent with every try of the
    # notification.
    Column("id", Uuid, primary_key=True),
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    Column("transition", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("created_at", Time, nullable=False, index=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    # Null once it was delivered or given up.
    Column("next_try_at", Time),
    # By Postgres's clock; set while a worker is delivering it.
    Column("lease_until", Time),
    Column("delivered_at", Time),
    # The reason of the last failure, one word.
    Column("problem", Text),
    CheckConstraint(one_of("transition", AlertTransition), name="transition"),
    CheckConstraint(one_of("channel", NoticeChannel), name="channel"),
    CheckConstraint("delivered_at IS NULL OR next_try_at IS NULL", name="delivered_is_done"),
    UniqueConstraint("alert_id", "transition", "channel", name="alert_notices_once"),
    Index("alert_notices_due", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    # Null for every subject of the rule.
    Column("subject", Text),
    Column("number_hash", LargeBinary, index=True),
    Column("until", Time, nullable=False, index=True),
    Column("reason", Text),
    Column("silenced_by", Text, nullable=False),
    Column("silenced_at", Time, nullable=False),
)

alert_evaluations = Table(
    "alert_evaluations",
    metadata,
    # Evaluations, so that two concurrent ones count as one, and the evaluated windows have no gaps.
    Column("at", Time, primary_key=True),
    Column("watch", Text, primary_key=True),
    Column("took_ms", Integer, nullable=False),
    Column("measures", Integer, nullable=False),
    Column("opened", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    # The oldest event in the queue: if it is still there next time, statistics are not updated.
    Column("waiting", BigInteger),
)
