"""Claim and record by functions, whose plans do not depend on the size of the tables."""

from alembic import op

from otpqueue.store.schema import function

revision = "0016"
down_revision = "0014"
branch_labels = None
depends_on = None

FUNCTIONS = (
    "stops_in_force",
    "next_due",
    "fit_under_caps",
    "give_back_sends",
    "claim_due",
    "record_attempts",
    "pump_turn",
    "unmatched_receipts",
)


def upgrade() -> None:
    for name in FUNCTIONS:
        op.execute(function(name))


def downgrade() -> None:
    for name in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION {name}")
