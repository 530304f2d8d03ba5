"""The first tables."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "clients",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("clients_pkey")),
        sa.UniqueConstraint("name", name=op.f("clients_name_key")),
    )
    op.create_table(
        "provider_ids",
        sa.Column("base_url", sa.Text(), nullable=False),
        sa.Column("application_name", sa.Text(), nullable=False),
        sa.Column("application_id", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("base_url", "application_name", name=op.f("provider_ids_pkey")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("key_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("api_keys_client_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
        sa.UniqueConstraint("key_hash", name=op.f("api_keys_key_hash_key")),
    )
    op.create_index(op.f("api_keys_client_id_idx"), "api_keys", ["client_id"], unique=False)
    op.create_table(
        "otp_requests",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("number_sealed", sa.LargeBinary(), nullable=False),
        sa.Column("seal_key_id", sa.Text(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("session_hash", sa.LargeBinary(), nullable=True),
        sa.Column("client_ip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("client_reference", sa.Text(), nullable=True),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("provider_code", sa.Text(), nullable=True),
        sa.Column("send_state", sa.Text(), nullable=False),
        sa.Column("next_attempt_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("lease_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("tries", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("unknowns", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("pin_id", sa.Text(), nullable=True),
        sa.Column("checks_allowed", sa.SmallInteger(), nullable=False),
        sa.Column("checks_used", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("checks_given_back", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("check_number", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("check_lease_until", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("updated_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("send_by", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("sent_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("verified_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(send_state = 'claimed') = (lease_until IS NOT NULL)",
            name=op.f("otp_requests_claimed_has_lease_check"),
        ),
        sa.CheckConstraint(
            "(send_state = 'due') = (next_attempt_at IS NOT NULL)",
            name=op.f("otp_requests_due_has_time_check"),
        ),
        sa.CheckConstraint(
            "send_state IN ('claimed', 'due', 'idle')", name=op.f("otp_requests_send_state_check")
        ),
        sa.CheckConstraint(
            "status IN ('cancelled', 'delivered', 'expired', 'failed', 'locked', 'queued', 'sent', "
            "'undelivered', 'verified')",
            name=op.f("otp_requests_status_check"),
        ),
        sa.CheckConstraint(
            "checks_used BETWEEN 0 AND checks_allowed", name=op.f("otp_requests_checks_bounded_check")
        ),
        sa.CheckConstraint(
            "pin_id IS NULL OR expires_at IS NOT NULL", name=op.f("otp_requests_sent_expires_check")
        ),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("otp_requests_client_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("otp_requests_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index(
        "otp_requests_checking",
        "otp_requests",
        ["check_lease_until"],
        unique=False,
        postgresql_where=sa.text("check_lease_until IS NOT NULL"),
    )
    op.create_index(
        "otp_requests_claimed",
        "otp_requests",
        ["lease_until"],
        unique=False,
        postgresql_where=sa.text("send_state = 'claimed'"),
    )
    op.create_index(
        "otp_requests_due",
        "otp_requests",
        ["next_attempt_at"],
        unique=False,
        postgresql_where=sa.text("send_state = 'due'"),
    )
    op.create_index(
        "otp_requests_due_deadline",
        "otp_requests",
        ["send_by"],
        unique=False,
        postgresql_where=sa.text("send_state = 'due'"),
    )
    op.create_index(
        "otp_requests_expiring",
        "otp_requests",
        ["expires_at"],
        unique=False,
        postgresql_where=sa.text(
            "status IN ('delivered', 'queued', 'sent', 'undelivered') AND expires_at IS NOT NULL"
        ),
    )
    op.create_index("otp_requests_number", "otp_requests", ["number_hash", "created_at"], unique=False)
    op.create_index(
        "otp_requests_one_live",
        "otp_requests",
        ["client_id", "number_hash", "session_hash"],
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=sa.text("status IN ('delivered', 'queued', 'sent', 'undelivered')"),
    )
    op.create_table(
        "refusals",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=True),
        sa.Column("client_ip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("refusals_client_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("refusals_pkey")),
    )
    op.create_index("refusals_number", "refusals", ["number_hash", "created_at"], unique=False)
    op.create_table(
        "checks",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("client_ip_hash", sa.LargeBinary(), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "verdict IS NULL OR "
            "verdict IN ('correct', 'exhausted', 'expired', 'unjudged', 'unknown', 'wrong')",
            name=op.f("checks_verdict_check"),
        ),
        sa.ForeignKeyConstraint(
            ["request_id"], ["otp_requests.id"], name=op.f("checks_request_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("checks_pkey")),
    )
    op.create_table(
        "send_attempts",
        sa.Column("request_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("claimed_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("finished_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("retryable", sa.Boolean(), nullable=True),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("http_status", sa.SmallInteger(), nullable=True),
        sa.Column("pin_id", sa.Text(), nullable=True),
        sa.Column("latency_ms", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "outcome IS NULL OR outcome IN ('accepted', 'refused', 'returned', 'unknown')",
            name=op.f("send_attempts_outcome_check"),
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["otp_requests.id"],
            name=op.f("send_attempts_request_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("request_id", "number", name=op.f("send_attempts_pkey")),
    )


def downgrade() -> None:
    for table in (
        "send_attempts",
        "checks",
        "refusals",
        "otp_requests",
        "api_keys",
        "provider_ids",
        "clients",
    ):
        op.drop_table(table)
