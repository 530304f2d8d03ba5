"""Signs of life of workers, beat and API processes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "heartbeats",
        sa.Column("process", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("queues", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("in_touch", sa.Boolean(), nullable=False),
        sa.Column("heard_at", Time),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("skew_s", sa.Float()),
        sa.Column("started_at", Time, nullable=False),
        sa.Column("seen_at", Time, nullable=False),
        sa.CheckConstraint("kind IN ('api', 'beat', 'worker')", name=op.f("heartbeats_kind_check")),
        sa.PrimaryKeyConstraint("process", name=op.f("heartbeats_pkey")),
        postgresql_with={"fillfactor": "50"},
    )


def downgrade() -> None:
    op.drop_table("heartbeats")
