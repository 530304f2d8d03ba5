"""An append-only table of what operators do; the link to a number stands apart, so that it can be erased."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from otpqueue.store.functions import create_trigger_statement

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)

REFUSE_CHANGE = """
CREATE FUNCTION audit_entries_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' AND current_setting('otpqueue.purging', true) = 'on'
        AND OLD.at < now() - interval '30 days' THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'audit_entries is append-only' USING ERRCODE = 'insufficient_privilege';
END
$$
"""
ROW_TRIGGER = create_trigger_statement("audit_entries_append_only")
TRUNCATE_TRIGGER = create_trigger_statement("audit_entries_not_truncated")


def upgrade() -> None:
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("surface", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid()),
        sa.Column("session", sa.Text()),
        sa.Column("peer", sa.Text()),
        sa.Column("call_id", sa.Text()),
        sa.Column("client_id", sa.Uuid()),
        sa.Column("target", sa.Text()),
        sa.Column("country", sa.Text()),
        sa.Column("reason", sa.Text()),
        sa.Column("details", postgresql.JSONB(), nullable=False, server_default=sa.text("'{}'")),
        sa.CheckConstraint(
            "outcome IN ('done', 'failed', 'refused', 'started', 'unchanged')",
            name=op.f("audit_entries_outcome_check"),
        ),
        sa.CheckConstraint(
            "surface IN ('api', 'beat', 'cli', 'console', 'process')",
            name=op.f("audit_entries_surface_check"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_entries_pkey")),
    )
    op.create_index("audit_entries_at", "audit_entries", ["at", "id"])
    op.create_index("audit_entries_action", "audit_entries", ["action", "at"])
    op.create_table(
        "audit_subjects",
        sa.Column("entry_id", sa.Uuid(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("request_id", sa.Uuid()),
        sa.PrimaryKeyConstraint("entry_id", name=op.f("audit_subjects_pkey")),
    )
    op.create_index(op.f("audit_subjects_at_idx"), "audit_subjects", ["at"])
    op.create_index("audit_subjects_number", "audit_subjects", ["number_hash", "at"])
    for statement in (REFUSE_CHANGE, ROW_TRIGGER, TRUNCATE_TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    op.drop_table("audit_subjects")
    op.drop_table("audit_entries")
    op.execute("DROP FUNCTION audit_entries_refuse_change()")
