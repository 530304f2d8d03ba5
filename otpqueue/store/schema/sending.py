"""Attempts to send codes, delivery reports, and the ids of Infobip."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.domain.receipts import DeliveryState
from otpqueue.domain.request import Channel, SendKind
from otpqueue.domain.sending import OutcomeEvidence, OutcomeKind
from otpqueue.store.schema.base import VACUUMED_OFTEN, Time, metadata, one_of

send_attempts = Table(
    "send_attempts",
    metadata,
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("claimed_at", Time, nullable=False),
    Column("started_at", Time),
    Column("finished_at", Time),
    Column("outcome", Text),
    Column("retryable", Boolean),
    Column("code", Text),
    Column("http_status", SmallInteger),
    Column("pin_id", Text),
    Column("latency_ms", Integer),
    Column("kind", Text, nullable=False, server_default=SendKind.FRESH.value),
    Column("channel", Text, nullable=False, server_default=Channel.SMS.value),
    Column("evidence", Text),
    # From delivery reports.
    Column("external_message_id", Text),
    Column("delivery", Text),
    Column("delivery_status", Text),
    Column("delivery_error", Text),
    Column("done_at", Time),
    # When the report arrived that set `delivery`.
    Column("reported_at", Time),
    Column("price", Numeric),
    Column("currency", Text),
    CheckConstraint(f"evidence IS NULL OR {one_of('evidence', OutcomeEvidence)}", name="evidence"),
    CheckConstraint(f"delivery IS NULL OR {one_of('delivery', DeliveryState)}", name="delivery"),
    Index(
        "send_attempts_external_message",
        "external_message_id",
        postgresql_where=text("external_message_id IS NOT NULL"),
    ),
    CheckConstraint(f"outcome IS NULL OR {one_of('outcome', OutcomeKind)}", name="outcome"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("done_at", Time),
    Column("price", Numeric),
    Column("currency", Text),
    Column("received_at", Time, nullable=False),
    # Null while no attempt of this message is known: a report can arrive before the response to the send.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE")),
    Column("attempt", SmallInteger),
    CheckConstraint(one_of("delivery", DeliveryState), name="delivery"),
    UniqueConstraint(
        "message_id", "status", "done_at", name="receipts_once", postgresql_nulls_not_distinct=True
    ),
    Index("receipts_request", "request_id"),
    Index("receipts_unmatched", "received_at", postgresql_where=text("request_id IS NULL")),
    postgresql_with=VACUUMED_OFTEN,
)

provider_ids = Table(
    "provider_ids",
    metadata,
    # One account may be the simulator's, another the real one. An id is valid only for its account.
    Column("base_url", Text, primary_key=True),
    Column("application_name", Text, primary_key=True),
    Column("application_id", Text, nullable=False),
    Column("message_ids", JSONB, nullable=False),
    Column("updated_at", Time, nullable=False),
)
