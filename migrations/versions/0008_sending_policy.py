"""What the sending policy keeps: counts for daily caps, stops, the do-not-send list; test numbers marked."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

SCOPES = "scope IN ('all', 'client', 'country')"


def upgrade() -> None:
    # A constant default rewrites no row.
    op.add_column(
        "otp_requests",
        sa.Column("is_test", sa.Boolean(), nullable=False, server_default=sa.text("false")),
    )
    op.create_table(
        "send_counts",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("taken", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint(SCOPES, name=op.f("send_counts_scope_check")),
        sa.CheckConstraint("taken >= 0", name=op.f("send_counts_taken_check")),
        sa.PrimaryKeyConstraint("day", "scope", "subject", name=op.f("send_counts_pkey")),
        postgresql_with={"fillfactor": "50"},
    )
    op.create_table(
        "sending_stops",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("stopped_by", sa.Text(), nullable=False),
        sa.Column("stopped_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("resumed_by", sa.Text()),
        sa.Column("resumed_at", postgresql.TIMESTAMP(timezone=True)),
        sa.CheckConstraint(SCOPES, name=op.f("sending_stops_scope_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("sending_stops_pkey")),
    )
    op.create_index(
        "sending_stops_in_force",
        "sending_stops",
        ["scope", "subject"],
        unique=True,
        postgresql_where=sa.text("resumed_at IS NULL"),
    )
    op.create_index("sending_stops_resumed_at_idx", "sending_stops", ["resumed_at"])
    op.create_table(
        "do_not_send",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("number_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("seal_key_id", sa.Text(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("until", postgresql.TIMESTAMP(timezone=True)),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("do_not_send_pkey")),
        sa.UniqueConstraint("number_hash", name=op.f("do_not_send_number_hash_key")),
    )
    op.create_index("do_not_send_until_idx", "do_not_send", ["until"])


def downgrade() -> None:
    op.drop_table("do_not_send")
    op.drop_table("sending_stops")
    op.drop_table("send_counts")
    op.drop_column("otp_requests", "is_test")
