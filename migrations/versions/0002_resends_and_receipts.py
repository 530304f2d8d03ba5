"""Resends, voice, delivery reports, and a message template for each language."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    for column in (
        sa.Column("send_kind", sa.Text(), server_default="fresh", nullable=False),
        sa.Column("sends", sa.SmallInteger(), server_default="1", nullable=False),
        sa.Column("resend", sa.Text()),
        sa.Column("resend_channel", sa.Text()),
        sa.Column("resend_reason", sa.Text()),
        sa.Column("resend_after", TIME),
    ):
        op.add_column("otp_requests", column)
    for column in (
        sa.Column("kind", sa.Text(), server_default="fresh", nullable=False),
        sa.Column("channel", sa.Text(), server_default="sms", nullable=False),
        sa.Column("evidence", sa.Text()),
        sa.Column("external_message_id", sa.Text()),
        sa.Column("delivery", sa.Text()),
        sa.Column("delivery_status", sa.Text()),
        sa.Column("delivery_error", sa.Text()),
        sa.Column("done_at", TIME),
        sa.Column("price", sa.Numeric()),
        sa.Column("currency", sa.Text()),
    ):
        op.add_column("send_attempts", column)
    for table, name, condition in (
        ("otp_requests", "send_kind", "send_kind IN ('fresh', 'resend')"),
        ("otp_requests", "resend", "resend IS NULL OR resend IN ('failed', 'pending', 'sent')"),
        ("send_attempts", "evidence", "evidence IS NULL OR evidence IN ('left', 'no_answer', 'not_seen')"),
        (
            "send_attempts",
            "delivery",
            "delivery IS NULL OR delivery IN ('delivered', 'pending', 'undelivered')",
        ),
    ):
        op.create_check_constraint(op.f(f"{table}_{name}_check"), table, condition)
    op.create_index(
        "send_attempts_external_message",
        "send_attempts",
        ["external_message_id"],
        postgresql_where=sa.text("external_message_id IS NOT NULL"),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("delivery", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("done_at", TIME),
        sa.Column("price", sa.Numeric()),
        sa.Column("currency", sa.Text()),
        sa.Column("received_at", TIME, nullable=False),
        sa.Column("request_id", sa.Uuid()),
        sa.Column("attempt", sa.SmallInteger()),
        sa.CheckConstraint(
            "delivery IN ('delivered', 'pending', 'undelivered')", name=op.f("receipts_delivery_check")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["otp_requests.id"], name=op.f("receipts_request_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("receipts_pkey")),
        sa.UniqueConstraint(
            "message_id", "status", "done_at", name="receipts_once", postgresql_nulls_not_distinct=True
        ),
    )
    op.create_index("receipts_request", "receipts", ["request_id"])
    op.create_index(
        "receipts_unmatched", "receipts", ["received_at"], postgresql_where=sa.text("request_id IS NULL")
    )
    op.add_column("provider_ids", sa.Column("message_ids", postgresql.JSONB()))
    op.execute("UPDATE provider_ids SET message_ids = jsonb_build_object('en', message_id)")
    op.alter_column("provider_ids", "message_ids", nullable=False)
    op.drop_column("provider_ids", "message_id")


def downgrade() -> None:
    op.add_column("provider_ids", sa.Column("message_id", sa.Text()))
    op.execute("UPDATE provider_ids SET message_id = message_ids ->> 'en'")
    op.alter_column("provider_ids", "message_id", nullable=False)
    op.drop_column("provider_ids", "message_ids")
    op.drop_table("receipts")
    for column in (
        "kind",
        "channel",
        "evidence",
        "external_message_id",
        "delivery",
        "delivery_status",
        "delivery_error",
        "done_at",
        "price",
        "currency",
    ):
        op.drop_column("send_attempts", column)
    for column in ("send_kind", "sends", "resend", "resend_channel", "resend_reason", "resend_after"):
        op.drop_column("otp_requests", column)
