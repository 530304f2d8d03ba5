"""What API processes cache: a version that every change of API keys and clients raises."""

import sqlalchemy as sa
from alembic import op

from otpqueue.store.functions import FUNCTIONS

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
KEYS_TRIGGER = """
CREATE TRIGGER api_keys_access AFTER INSERT OR DELETE OR UPDATE OF
client_id, prefix, key_hash, scopes, note, created_at, expires_at, revoked_at, replaced_by ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
"""
CLIENTS_TRIGGER = """
CREATE TRIGGER clients_access AFTER INSERT OR DELETE OR UPDATE OF name, settings ON clients
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
"""


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
