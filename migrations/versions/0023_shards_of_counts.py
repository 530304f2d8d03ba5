"""Spread each count of the day's sends over several rows, so that claims do not wait for each other."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

ARGUMENTS = "uuid[], json, integer, double precision, text, timestamptz, date, integer, integer, jsonb"
# Workers of the version before call the claim with these arguments until they are restarted.
PUMP_TURN = """
CREATE OR REPLACE FUNCTION pump_turn(
    ids uuid[], results json,
    slots integer, lease_s double precision, by_worker text, at timestamptz, of_day date,
    cap integer, cap_per_client integer, caps_by_country jsonb
) RETURNS TABLE (
    fate text, next_due timestamptz, request_id uuid, client_id uuid, country text, attempt smallint,
    tries smallint, unknowns smallint, send_by timestamptz, language text, status text, send_kind text,
    sends smallint, pin_id text, channel text, number_sealed bytea, seal_key_id text, is_test boolean,
    trace_context text, guard_block text, guard_counted smallint, created_at timestamptz, number_hash bytea,
    client_ip_hash bytea
) LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT * FROM pump_turn(
        ids, results, slots, lease_s, by_worker, at, of_day, cap, cap_per_client, NULL, caps_by_country, NULL
    );
END
$$
"""
FUNCTIONS = (
    "count_sends",
    "take_off_counts",
    "fit_under_caps(uuid[], text[], text[], bigint[])",
    "give_back_sends",
    f"pump_turn({ARGUMENTS})",
)
SUMS = """
CREATE TEMP TABLE sums ON COMMIT DROP AS
SELECT day, scope, subject, greatest(sum(taken), 0) AS taken FROM send_counts GROUP BY day, scope, subject
"""


def upgrade() -> None:
    op.add_column("send_counts", sa.Column("shard", sa.SmallInteger(), nullable=False, server_default="0"))
    op.drop_constraint("send_counts_pkey", "send_counts")
    op.create_primary_key("send_counts_pkey", "send_counts", ["day", "scope", "subject", "shard"])
    op.drop_constraint(op.f("send_counts_taken_check"), "send_counts")
    op.create_check_constraint(op.f("send_counts_taken_check"), "send_counts", "taken >= 0 OR shard < 0")
    if op.get_bind().scalar(sa.text(f"SELECT to_regprocedure('pump_turn({ARGUMENTS})') IS NOT NULL")):
        op.execute(PUMP_TURN)
    op.execute("DROP FUNCTION IF EXISTS fit_under_caps(uuid[], date, text[], text[], bigint[])")


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.execute(SUMS)
    op.execute("DELETE FROM send_counts")
    op.drop_constraint(op.f("send_counts_taken_check"), "send_counts")
    op.drop_constraint("send_counts_pkey", "send_counts")
    op.drop_column("send_counts", "shard")
    op.create_primary_key("send_counts_pkey", "send_counts", ["day", "scope", "subject"])
    op.create_check_constraint(op.f("send_counts_taken_check"), "send_counts", "taken >= 0")
    op.execute(
        "INSERT INTO send_counts (day, scope, subject, taken) SELECT day, scope, subject, taken FROM sums"
    )
