"""Webhook endpoints, and the outbox of deliveries."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from otpqueue.domain.webhooks import DisabledReason, WebhookEvent, WebhookState
from otpqueue.store.schema.base import VACUUMED_OFTEN, Time, metadata, one_of

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    # Sealed signing secrets: one, or two during a rotation, the newer one first.
    Column("secrets_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    # The older one also signs until this time.
    Column("previous_until", Time),
    Column("created_at", Time, nullable=False),
    # Since this time every delivery has failed.
    Column("failing_since", Time),
    Column("disabled_at", Time),
    Column("disabled_reason", Text),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"),
    CheckConstraint(
        f"disabled_reason IS NULL OR {one_of('disabled_reason', DisabledReason)}", name="disabled_reason"
    ),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # The receiver sees it as `webhook-id`: the same at each try.
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    # Assigned while the request's row is locked, so it gives the order of one request's moves.
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), nullable=False),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # Values that the request's row does not keep; all others are read from there.
    Column("event", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("reason", Text),
    Column("provider_code", Text),
    Column("expires_at", Time),
    # The delivery's state. `lease_until`, by Postgres's clock, is set while a worker holds it.
    Column("state", Text, nullable=False, server_default=WebhookState.PENDING.value),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("next_try_at", Time),
    Column("lease_until", Time),
    # The newest try: an HTTP status, or the reason why there was none.
    Column("tried_at", Time),
    Column("http_status", SmallInteger),
    Column("problem", Text),
    CheckConstraint(one_of("event", WebhookEvent), name="event"),
    CheckConstraint(one_of("state", WebhookState), name="state"),
    CheckConstraint("(state = 'pending') = (next_try_at IS NOT NULL)", name="pending_has_time"),
    CheckConstraint("lease_until IS NULL OR state = 'pending'", name="held_is_pending"),
    Index("webhook_deliveries_request", "request_id", "number"),
    Index("webhook_deliveries_client", "client_id", "number"),
    Index("webhook_deliveries_left", "client_id", "number", postgresql_where=text("state <> 'delivered'")),
    Index("webhook_deliveries_due", "client_id", "next_try_at", postgresql_where=text("state = 'pending'")),
    postgresql_with={"fillfactor": "70", **VACUUMED_OFTEN},
)
