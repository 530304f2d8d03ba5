"""Turns of clients at the claim: what is due by client, and by client and country."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

DUE = sa.text("send_state = 'due'")
# Those of the claim with fewer arguments remain for workers that run while this is migrated.
PUMP_TURN = (
    "pump_turn(uuid[], json, integer, double precision, text, timestamptz, date,"
    " integer, integer, integer, jsonb, uuid)"
)
CLAIM_DUE = (
    "claim_due(integer, double precision, text, timestamptz, date, integer, integer, integer, jsonb, uuid)"
)
FUNCTIONS = (PUMP_TURN, CLAIM_DUE, "lock_due", "due_clients", "due_countries")


def upgrade() -> None:
    # Of few rows: those that wait to be sent.
    op.create_index(
        "otp_requests_due_of_client", "otp_requests", ["client_id", "next_attempt_at"], postgresql_where=DUE
    )
    op.create_index(
        "otp_requests_due_of_country",
        "otp_requests",
        ["client_id", sa.text("coalesce(country, '001')"), "next_attempt_at"],
        postgresql_where=DUE,
    )


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.drop_index("otp_requests_due_of_country", "otp_requests")
    op.drop_index("otp_requests_due_of_client", "otp_requests")
