"""Alerts: what is open or about to be, its history, the outbox of notices, silences, evaluations."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_index(
        "checks_wrong",
        "checks",
        ["started_at"],
        postgresql_where=sa.text("verdict = 'wrong'"),
        if_not_exists=True,
    )
    _alerts()
    _notices()
    op.create_table(
        "alert_silences",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("number_hash", sa.LargeBinary()),
        sa.Column("until", Time, nullable=False),
        sa.Column("reason", sa.Text()),
        sa.Column("silenced_by", sa.Text(), nullable=False),
        sa.Column("silenced_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("alert_silences_pkey")),
    )
    op.create_index(op.f("alert_silences_until_idx"), "alert_silences", ["until"])
    op.create_index(op.f("alert_silences_number_hash_idx"), "alert_silences", ["number_hash"])
    op.create_table(
        "alert_evaluations",
        sa.Column("at", Time, nullable=False),
        sa.Column("watch", sa.Text(), nullable=False),
        sa.Column("took_ms", sa.Integer(), nullable=False),
        sa.Column("measures", sa.Integer(), nullable=False),
        sa.Column("opened", sa.Integer(), nullable=False),
        sa.Column("closed", sa.Integer(), nullable=False),
        sa.Column("waiting", sa.BigInteger()),
        sa.PrimaryKeyConstraint("at", "watch", name=op.f("alert_evaluations_pkey")),
    )


def _alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text()),
        sa.Column("number_hash", sa.LargeBinary()),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("value", sa.Float(), nullable=False),
        sa.Column("threshold", sa.Float(), nullable=False),
        sa.Column("window_s", sa.Integer(), nullable=False),
        sa.Column("sample", sa.BigInteger(), nullable=False),
        sa.Column("evaluated_at", Time, nullable=False),
        sa.Column("good", sa.SmallInteger(), nullable=False, server_default="0"),
        sa.Column("opened_at", Time, nullable=False),
        sa.Column("closed_at", Time),
        sa.Column("evidence", postgresql.JSONB()),
        sa.Column("acknowledged_at", Time),
        sa.Column("acknowledged_by", sa.Text()),
        sa.CheckConstraint("state IN ('closed', 'open')", name=op.f("alerts_state_check")),
        sa.CheckConstraint(
            "(state = 'closed') = (closed_at IS NOT NULL)", name=op.f("alerts_closed_has_time_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("alerts_pkey")),
    )
    op.create_index(
        "alerts_one_open",
        "alerts",
        ["rule", "subject"],
        unique=True,
        postgresql_where=sa.text("state = 'open'"),
    )
    op.create_index("alerts_opened", "alerts", ["opened_at", "id"])
    op.create_index(
        "alerts_closed", "alerts", ["closed_at"], postgresql_where=sa.text("closed_at IS NOT NULL")
    )
    op.create_index(op.f("alerts_number_hash_idx"), "alerts", ["number_hash"])
    op.create_table(
        "alert_pending",
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary()),
        sa.Column("bad", sa.SmallInteger(), nullable=False),
        sa.Column("evaluated_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("rule", "subject", name=op.f("alert_pending_pkey")),
    )
    op.create_index(op.f("alert_pending_evaluated_at_idx"), "alert_pending", ["evaluated_at"])
    op.create_index(op.f("alert_pending_number_hash_idx"), "alert_pending", ["number_hash"])
    op.create_table(
        "alert_values",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("value", sa.Float()),
        sa.Column("sample", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("alert_values_alert_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", "at", name=op.f("alert_values_pkey")),
    )
    op.create_index("alert_values_at", "alert_values", ["at"])
    op.create_table(
        "alert_history",
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", Time, nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text()),
        sa.Column("detail", sa.Text()),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("alert_history_alert_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("alert_id", "number", name=op.f("alert_history_pkey")),
    )
    op.create_index(op.f("alert_history_at_idx"), "alert_history", ["at"])


def _notices() -> None:
    op.create_table(
        "alert_notices",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("alert_id", sa.Uuid(), nullable=False),
        sa.Column("transition", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("next_try_at", Time),
        sa.Column("lease_until", Time),
        sa.Column("delivered_at", Time),
        sa.Column("problem", sa.Text()),
        sa.CheckConstraint("transition IN ('closed', 'opened')", name=op.f("alert_notices_transition_check")),
        sa.CheckConstraint(
            "channel IN ('email', 'log', 'webhook')", name=op.f("alert_notices_channel_check")
        ),
        sa.CheckConstraint(
            "delivered_at IS NULL OR next_try_at IS NULL", name=op.f("alert_notices_delivered_is_done_check")
        ),
        sa.ForeignKeyConstraint(
            ["alert_id"], ["alerts.id"], name=op.f("alert_notices_alert_id_fkey"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("alert_notices_pkey")),
        sa.UniqueConstraint("alert_id", "transition", "channel", name="alert_notices_once"),
    )
    op.create_index(op.f("alert_notices_created_at_idx"), "alert_notices", ["created_at"])
    op.create_index(
        "alert_notices_due",
        "alert_notices",
        ["next_try_at"],
        postgresql_where=sa.text("next_try_at IS NOT NULL"),
    )


def downgrade() -> None:
    for table in (
        "alert_evaluations",
        "alert_silences",
        "alert_notices",
        "alert_history",
        "alert_values",
        "alert_pending",
        "alerts",
    ):
        op.drop_table(table)
    op.drop_index("checks_wrong", "checks")
