"""Vacuum tables of short-lived states by a hundredth of their size, indexes included."""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

TABLES = ("otp_requests", "receipts", "webhook_deliveries")
PARAMETERS = {
    "autovacuum_vacuum_threshold": "20000",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_analyze_threshold": "20000",
    "autovacuum_analyze_scale_factor": "0.01",
    "vacuum_index_cleanup": "on",
}


def upgrade() -> None:
    given = ", ".join(f"{name} = {value}" for name, value in PARAMETERS.items())
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} SET ({given})")


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"ALTER TABLE {table} RESET ({', '.join(PARAMETERS)})")
