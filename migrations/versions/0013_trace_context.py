"""Where a request's trace goes on: a wake-up carries none."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Without a default a new column rewrites no row.
    op.add_column("otp_requests", sa.Column("trace_context", sa.Text()))


def downgrade() -> None:
    op.drop_column("otp_requests", "trace_context")
