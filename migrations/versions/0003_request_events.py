"""Every move of a request, written down by Postgres itself."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from otpqueue.store.functions import create_trigger_statement

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NOTE_MOVES = """
CREATE FUNCTION otp_requests_note_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'status', OLD.status, NEW.status, NEW.reason);
    END IF;
    IF NEW.resend IS DISTINCT FROM OLD.resend THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'resend', OLD.resend, NEW.resend, NEW.resend_reason);
    END IF;
    RETURN NULL;
END
$$
"""
TRIGGER = create_trigger_statement("otp_requests_moves")


def upgrade() -> None:
    op.create_table(
        "moves",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("of", sa.Text(), nullable=False),
        sa.Column("was", sa.Text()),
        sa.Column("became", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.CheckConstraint("of IN ('resend', 'status')", name=op.f("moves_of_check")),
        sa.ForeignKeyConstraint(
            ["request_id"], ["otp_requests.id"], name=op.f("moves_request_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("moves_pkey")),
    )
    op.execute(NOTE_MOVES)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER otp_requests_moves ON otp_requests")
    op.execute("DROP FUNCTION otp_requests_note_moves()")
    op.drop_table("moves")
