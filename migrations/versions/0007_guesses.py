"""Wrong codes in a row, checks by the minute, and one row for the refusals of a minute."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TIME = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "number_guesses",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("wrong_in_a_row", sa.Integer(), nullable=False),
        sa.Column("unlocked_at", TIME),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("wrong_in_a_row >= 0", name=op.f("number_guesses_wrong_in_a_row_check")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("number_guesses_client_id_fkey")),
        sa.PrimaryKeyConstraint("client_id", "number_hash", name=op.f("number_guesses_pkey")),
    )
    op.create_index("number_guesses_number", "number_guesses", ["number_hash"])
    op.create_index("number_guesses_updated", "number_guesses", ["updated_at"])
    op.create_table(
        "check_counts",
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("minute", TIME, nullable=False),
        sa.Column("shard", sa.SmallInteger(), nullable=False),
        sa.Column("checks", sa.Integer(), nullable=False),
        sa.Column("wrong", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("check_counts_client_id_fkey")),
        sa.PrimaryKeyConstraint("client_id", "minute", "shard", name=op.f("check_counts_pkey")),
    )
    op.create_index("check_counts_minute", "check_counts", ["minute"])
    # Neither rewrites a row: one is null, the other a constant.
    op.add_column("refusals", sa.Column("minute", TIME))
    op.add_column("refusals", sa.Column("count", sa.Integer(), server_default="1", nullable=False))
    # Both indexes are built by one look at each row, and hold next to none of those that are there.
    op.create_index(
        "refusals_minute",
        "refusals",
        ["client_id", "number_hash", "reason", "minute"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("minute IS NOT NULL"),
    )
    op.create_index(
        "checks_wrong_of_address",
        "checks",
        ["client_ip_hash", "started_at"],
        postgresql_where=sa.text(
            "client_ip_hash IS NOT NULL AND (verdict IS NULL OR verdict IN ('unknown', 'wrong'))"
        ),
    )


def downgrade() -> None:
    op.drop_index("checks_wrong_of_address", "checks")
    op.drop_index("refusals_minute", "refusals")
    op.drop_column("refusals", "count")
    op.drop_column("refusals", "minute")
    op.drop_table("check_counts")
    op.drop_table("number_guesses")
