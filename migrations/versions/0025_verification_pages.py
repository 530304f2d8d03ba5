"""Hosted verification pages: a link, its browser, and the token that its client redeems."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)


def upgrade() -> None:
    op.create_table(
        "verification_pages",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("link_hash", sa.LargeBinary(), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary()),
        sa.Column("is_embedded", sa.Boolean(), nullable=False, server_default="false"),
        sa.Column("number_hash", sa.LargeBinary()),
        sa.Column("number_sealed", sa.LargeBinary()),
        sa.Column("seal_key_id", sa.Text()),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("language", sa.Text()),
        sa.Column("return_url", sa.Text(), nullable=False),
        sa.Column("state", sa.Text()),
        sa.Column("client_reference", sa.Text()),
        sa.Column("request_id", sa.Uuid()),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("expires_at", Time, nullable=False),
        sa.Column("opened_at", Time),
        sa.Column("token_hash", sa.LargeBinary()),
        sa.Column("token_expires_at", Time),
        sa.Column("redeemed_at", Time),
        sa.CheckConstraint("channel IN ('sms', 'voice')", name=op.f("verification_pages_channel_check")),
        sa.CheckConstraint(
            "(number_hash IS NULL) = (number_sealed IS NULL) AND (number_sealed IS NULL) = "
            "(seal_key_id IS NULL)",
            name=op.f("verification_pages_number_is_whole_check"),
        ),
        sa.CheckConstraint(
            "(browser_hash IS NULL) = (opened_at IS NULL)",
            name=op.f("verification_pages_opened_by_a_browser_check"),
        ),
        sa.CheckConstraint(
            "(token_hash IS NULL) = (token_expires_at IS NULL)",
            name=op.f("verification_pages_token_expires_check"),
        ),
        sa.CheckConstraint(
            "redeemed_at IS NULL OR token_hash IS NOT NULL",
            name=op.f("verification_pages_redeemed_by_a_token_check"),
        ),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("verification_pages_client_id_fkey")
        ),
        sa.ForeignKeyConstraint(
            ["request_id"],
            ["otp_requests.id"],
            name=op.f("verification_pages_request_id_fkey"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("verification_pages_pkey")),
        sa.UniqueConstraint("link_hash", name=op.f("verification_pages_link_hash_key")),
    )
    for name, columns in {
        "number": ["number_hash"],
        "seal_key": ["seal_key_id", "id"],
        "request": ["request_id"],
        "token": ["token_hash"],
    }.items():
        op.create_index(
            f"verification_pages_{name}",
            "verification_pages",
            columns,
            postgresql_where=sa.text(f"{columns[0]} IS NOT NULL"),
        )
    op.create_index("verification_pages_expiry", "verification_pages", ["expires_at"])


def downgrade() -> None:
    op.drop_table("verification_pages")
