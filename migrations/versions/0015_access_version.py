"""What API processes cache: a version that every change of API keys and clients raises."""

import sqlalchemy as sa
from alembic import op

from otpqueue.store.functions import FUNCTIONS, create_trigger_statement

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

RAISE_VERSION = """
CREATE FUNCTION access_version_raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO access_version AS a (version) VALUES (1)
    ON CONFLICT (one) DO UPDATE SET version = a.version + 1;
    RETURN NULL;
END
$$
"""
KEYS_TRIGGER = create_trigger_statement("api_keys_access")
CLIENTS_TRIGGER = create_trigger_statement("clients_access")


def upgrade() -> None:
    op.create_table(
        "access_version",
        sa.Column("one", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("one", name=op.f("access_version_one_row_check")),
        sa.PrimaryKeyConstraint("one", name=op.f("access_version_pkey")),
    )
    for statement in (RAISE_VERSION, KEYS_TRIGGER, CLIENTS_TRIGGER):
        op.execute(statement)


def downgrade() -> None:
    # `migrate` creates them after the last migration; some depend on tables that earlier ones drop.
    for name in reversed(FUNCTIONS):
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.execute("DROP TRIGGER clients_access ON clients")
    op.execute("DROP TRIGGER api_keys_access ON api_keys")
    op.execute("DROP FUNCTION access_version_raise")
    op.drop_table("access_version")
