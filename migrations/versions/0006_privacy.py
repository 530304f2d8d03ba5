"""What purging and re-sealing find their rows by, and the record of erasures.

An index takes about a second for each million requests, in which none is accepted. Where that is too long,
make it beforehand, with the same words and CONCURRENTLY: one that is there already is left as it is.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index("otp_requests_sealed_with", "otp_requests", ["seal_key_id", "id"], if_not_exists=True)
    op.create_index(
        "otp_requests_ended",
        "otp_requests",
        ["finished_at"],
        postgresql_where=sa.text("finished_at IS NOT NULL"),
        if_not_exists=True,
    )
    op.create_index("refusals_created", "refusals", ["created_at"], if_not_exists=True)
    op.create_table(
        "erasures",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("client_id", sa.Uuid()),
        sa.Column("counts", postgresql.JSONB(), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("erasures_client_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("erasures_pkey")),
    )
    op.create_index(op.f("erasures_at_idx"), "erasures", ["at"])


def downgrade() -> None:
    op.drop_table("erasures")
    op.drop_index("refusals_created", "refusals")
    op.drop_index("otp_requests_ended", "otp_requests")
    op.drop_index("otp_requests_sealed_with", "otp_requests")
