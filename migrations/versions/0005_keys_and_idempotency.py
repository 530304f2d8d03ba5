"""Keys that end and are replaced, answers that are replayed, and an index to search requests by time."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from otpqueue.store.functions import create_trigger_statement

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)

FORGET_ANSWER = """
CREATE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    RETURN NEW;
END
$$
"""
TRIGGER = create_trigger_statement("idempotency_keys_forget")


def upgrade() -> None:
    for column in (
        sa.Column("note", sa.Text()),
        sa.Column("expires_at", TIME),
        sa.Column("last_used_at", TIME),
        sa.Column("replaced_by", sa.Uuid()),
    ):
        op.add_column("api_keys", column)
    # A table of a few rows: checking them takes no time.
    op.create_foreign_key(op.f("api_keys_replaced_by_fkey"), "api_keys", "api_keys", ["replaced_by"], ["id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.Uuid()),
        sa.Column("answer", postgresql.JSONB()),
        sa.Column("lease_until", TIME),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("expires_at", TIME, nullable=False),
        sa.CheckConstraint(
            "lease_until IS NULL OR answer IS NULL", name=op.f("idempotency_keys_answered_is_free_check")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("idempotency_keys_client_id_fkey")),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["otp_requests.id"],
            name=op.f("idempotency_keys_request_id_fkey"),
            ondelete="SET NULL",
        ),
        sa.PrimaryKeyConstraint("client_id", "key_hash", name=op.f("idempotency_keys_pkey")),
    )
    op.create_index("idempotency_keys_expiring", "idempotency_keys", ["expires_at"])
    op.create_index("idempotency_keys_request", "idempotency_keys", ["request_id"])
    op.execute(FORGET_ANSWER)
    op.execute(TRIGGER)
    # All migrations are one transaction, in which no index can be built concurrently. Built here it holds
    # writes back for about a second per million rows; a larger table gets it by hand before (docs/keys.md),
    # and this finds it.
    op.create_index("otp_requests_created", "otp_requests", ["created_at", "id"], if_not_exists=True)


def downgrade() -> None:
    op.drop_index("otp_requests_created", "otp_requests")
    op.drop_table("idempotency_keys")
    op.execute("DROP FUNCTION idempotency_keys_forget_answer()")
    for column in ("note", "expires_at", "last_used_at", "replaced_by"):
        op.drop_column("api_keys", column)
