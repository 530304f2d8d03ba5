"""Webhooks: where clients want to be told, and what they are told, written by Postgres itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from otpqueue.store.functions import create_trigger_statement

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)

TELL_CLIENT = """
CREATE FUNCTION otp_requests_tell_client() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wait_until timestamptz;
BEGIN
    IF EXISTS (
        SELECT FROM webhook_endpoints AS e
        WHERE e.client_id = NEW.client_id AND e.disabled_at IS NULL
          AND 'otp_request.' || NEW.status = ANY(e.events)
    ) THEN
        IF OLD.status <> 'queued' THEN
            SELECT max(d.next_try_at) INTO wait_until FROM webhook_deliveries AS d
            WHERE d.request_id = NEW.id AND d.state = 'pending';
        END IF;
        INSERT INTO webhook_deliveries
            (request_id, client_id, event, at, reason, provider_code, expires_at, next_try_at)
        VALUES (NEW.id, NEW.client_id, 'otp_request.' || NEW.status, NEW.updated_at, NEW.reason,
                NEW.provider_code, NEW.expires_at, greatest(NEW.updated_at, wait_until));
    END IF;
    RETURN NULL;
END
$$
"""
TELL_TRIGGER = create_trigger_statement("otp_requests_webhooks")


def upgrade() -> None:
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("secrets_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("seal_key_id", sa.Text(), nullable=False),
        sa.Column("previous_until", Time),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("failing_since", Time),
        sa.Column("disabled_at", Time),
        sa.Column("disabled_reason", sa.Text()),
        sa.CheckConstraint(
            "(disabled_at IS NULL) = (disabled_reason IS NULL)",
            name=op.f("webhook_endpoints_disabled_has_reason_check"),
        ),
        sa.CheckConstraint(
            "disabled_reason IS NULL OR disabled_reason IN ('failing', 'gone', 'secret_lost')",
            name=op.f("webhook_endpoints_disabled_reason_check"),
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("webhook_endpoints_client_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_endpoints_pkey")),
        sa.UniqueConstraint("client_id", name=op.f("webhook_endpoints_client_id_key")),
    )
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.Uuid(), nullable=False, server_default=sa.text("gen_random_uuid()")),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("provider_code", sa.Text()),
        sa.Column("expires_at", Time),
        sa.Column("state", sa.Text(), nullable=False, server_default="pending"),
        sa.Column("tries", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("next_try_at", Time),
        sa.Column("lease_until", Time),
        sa.Column("tried_at", Time),
        sa.Column("http_status", sa.SmallInteger()),
        sa.Column("problem", sa.Text()),
        sa.CheckConstraint(
            "event IN ('otp_request.cancelled', 'otp_request.delivered', 'otp_request.expired', "
            "'otp_request.failed', 'otp_request.locked', 'otp_request.sent', 'otp_request.undelivered', "
            "'otp_request.verified')",
            name=op.f("webhook_deliveries_event_check"),
        ),
        sa.CheckConstraint(
            "state IN ('delivered', 'given_up', 'pending')", name=op.f("webhook_deliveries_state_check")
        ),
        sa.CheckConstraint(
            "(state = 'pending') = (next_try_at IS NOT NULL)",
            name=op.f("webhook_deliveries_pending_has_time_check"),
        ),
        sa.CheckConstraint(
            "lease_until IS NULL OR state = 'pending'", name=op.f("webhook_deliveries_held_is_pending_check")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["otp_requests.id"],
            name=op.f("webhook_deliveries_request_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("webhook_deliveries_client_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("webhook_deliveries_request", "webhook_deliveries", ["request_id", "number"])
    op.create_index("webhook_deliveries_client", "webhook_deliveries", ["client_id", "number"])
    op.create_index(
        "webhook_deliveries_left",
        "webhook_deliveries",
        ["client_id", "number"],
        postgresql_where=sa.text("state <> 'delivered'"),
    )
    op.create_index(
        "webhook_deliveries_due",
        "webhook_deliveries",
        ["client_id", "next_try_at"],
        postgresql_where=sa.text("state = 'pending'"),
    )
    op.execute(TELL_CLIENT)
    op.execute(TELL_TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER otp_requests_webhooks ON otp_requests")
    op.execute("DROP FUNCTION otp_requests_tell_client()")
    op.drop_table("webhook_deliveries")
    op.drop_table("webhook_endpoints")
