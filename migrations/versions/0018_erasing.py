"""Erasures: leave no fingerprints and digits of numbers, and keep wrong codes for as long as they count."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)

FORGET_ANSWER = """
CREATE OR REPLACE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    IF NEW.lease_until IS NULL THEN
        NEW.fingerprint := '';
    END IF;
    RETURN NEW;
END
$$
"""
FORGET_ANSWER_ALONE = """
CREATE OR REPLACE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    RETURN NEW;
END
$$
"""
# A number's last digits stood before its tag. What was about to become an alert is counted anew.
KEEP_TAGS = (
    "UPDATE alerts SET subject = right(subject, 7) WHERE number_hash IS NOT NULL",
    "UPDATE alert_silences SET subject = right(subject, 7) WHERE number_hash IS NOT NULL",
    "DELETE FROM alert_silences WHERE number_hash IS NULL AND subject ~ '[*]{2}[0-9]{2}'",
    "DELETE FROM alert_pending WHERE number_hash IS NOT NULL",
)


def upgrade() -> None:
    op.create_table(
        "erased_wrong_codes",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("number_hash", sa.LargeBinary(), nullable=False),
        sa.Column("client_ip_hash", sa.LargeBinary()),
        sa.Column("at", Time, nullable=False),
        sa.Column("until", Time, nullable=False),
        sa.ForeignKeyConstraint(
            ["client_id"], ["clients.id"], name=op.f("erased_wrong_codes_client_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("erased_wrong_codes_pkey")),
    )
    op.create_index(op.f("erased_wrong_codes_until_idx"), "erased_wrong_codes", ["until"])
    op.create_index("erased_wrong_codes_number", "erased_wrong_codes", ["number_hash", "at"])
    op.create_index(
        "erased_wrong_codes_address",
        "erased_wrong_codes",
        ["client_ip_hash", "at"],
        postgresql_where=sa.text("client_ip_hash IS NOT NULL"),
    )
    op.execute(FORGET_ANSWER)
    for statement in KEEP_TAGS:
        op.execute(statement)


def downgrade() -> None:
    op.execute(FORGET_ANSWER_ALONE)
    op.drop_table("erased_wrong_codes")
