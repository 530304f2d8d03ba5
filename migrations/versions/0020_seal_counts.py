"""Count what each sealing key seals: random nonces allow 2^32 seals a key."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "seal_counts",
        sa.Column("key_id", sa.Text(), nullable=False),
        sa.Column("seals", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("key_id", name=op.f("seal_counts_pkey")),
    )


def downgrade() -> None:
    op.drop_table("seal_counts")
