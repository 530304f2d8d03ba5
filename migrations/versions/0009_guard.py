"""The pumping guard's tallies, decisions and exceptions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

Time = postgresql.TIMESTAMP(timezone=True)

COUNT_ENDS = """
CREATE FUNCTION otp_requests_count_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := date_trunc('hour', NEW.created_at, 'UTC');
    ended boolean := NEW.finished_at IS NOT NULL;
    good integer := 0;
    back integer := 0;
BEGIN
    IF NEW.unknowns = 0 THEN
        IF OLD.resend = 'pending' AND NEW.resend = 'failed' AND NEW.send_state = 'idle' THEN
            back := 1;
        END IF;
        IF ended AND OLD.status = 'queued' AND NEW.send_state = 'idle' THEN
            back := 1;
        END IF;
    END IF;
    IF NEW.status = 'verified' THEN
        good := NEW.sends - back;
    END IF;
    IF good > 0 OR back > 0 THEN
        IF NEW.guard_as = 'new' THEN
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = '*' AND hour = at;
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = coalesce(NEW.country, 'ZZ') AND hour = at;
            UPDATE guard_addresses SET verified = verified + 1
            WHERE address_hash = NEW.client_ip_hash AND hour = at AND good > 0;
        END IF;
        IF NEW.guard_as = 'refused' THEN
            UPDATE guard_tallies
            SET sent = sent + good, verified = verified + good, shadowed = greatest(shadowed - back, 0),
                shadowed_verified = shadowed_verified + good
            WHERE subject = NEW.guard_block AND hour = at;
        ELSE
            UPDATE guard_tallies
            SET sent = greatest(sent - back, verified),
                verified = least(greatest(sent - back, verified), verified + good)
            WHERE subject = NEW.guard_block AND hour = at;
        END IF;
    END IF;
    IF ended THEN
        NEW.guard_block := NULL;
    END IF;
    RETURN NEW;
END
$$
"""
TRIGGER = """
CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON otp_requests FOR EACH ROW
WHEN (OLD.guard_block IS NOT NULL AND (NEW.status IS DISTINCT FROM OLD.status
                                       OR NEW.resend IS DISTINCT FROM OLD.resend))
EXECUTE FUNCTION otp_requests_count_ends()
"""


def upgrade() -> None:
    op.create_table(
        "guard_tallies",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("hour", Time, nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("sent", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("verified", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("refused", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("shadowed", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("shadowed_verified", sa.Integer(), nullable=False, server_default="0"),
        sa.CheckConstraint("verified BETWEEN 0 AND sent", name=op.f("guard_tallies_verified_of_sent_check")),
        sa.PrimaryKeyConstraint("subject", "hour", name=op.f("guard_tallies_pkey")),
        postgresql_with={"fillfactor": "70"},
    )
    op.create_index("guard_tallies_hour", "guard_tallies", ["hour"])
    op.create_table(
        "guard_addresses",
        sa.Column("address_hash", sa.LargeBinary(), nullable=False),
        sa.Column("hour", Time, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False, server_default="0"),
        sa.Column("verified", sa.Integer(), nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("address_hash", "hour", name=op.f("guard_addresses_pkey")),
    )
    op.create_index("guard_addresses_hour", "guard_addresses", ["hour"])
    op.create_table(
        "guard_decisions",
        sa.Column("minute", Time, nullable=False),
        sa.Column("client_id", sa.Uuid(), nullable=False),
        sa.Column("country", sa.Text(), nullable=False),
        sa.Column("mode", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("block", sa.Text(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("at_risk", sa.Integer(), nullable=False),
        sa.Column("budget", sa.Float(), nullable=False),
        sa.CheckConstraint("mode IN ('enforce', 'off', 'shadow')", name=op.f("guard_decisions_mode_check")),
        sa.ForeignKeyConstraint(["client_id"], ["clients.id"], name=op.f("guard_decisions_client_id_fkey")),
        sa.PrimaryKeyConstraint(
            "minute", "client_id", "country", "mode", "reason", name=op.f("guard_decisions_pkey")
        ),
    )
    op.create_table(
        "guard_exceptions",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("until", Time, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.PrimaryKeyConstraint("subject", name=op.f("guard_exceptions_pkey")),
    )
    op.create_index("guard_exceptions_until_idx", "guard_exceptions", ["until"])
    # Without a default a new column rewrites no row.
    op.add_column("otp_requests", sa.Column("guard_block", sa.Text()))
    op.add_column("otp_requests", sa.Column("guard_as", sa.Text()))
    op.execute(COUNT_ENDS)
    op.execute(TRIGGER)


def downgrade() -> None:
    op.execute("DROP TRIGGER otp_requests_guard ON otp_requests")
    op.execute("DROP FUNCTION otp_requests_count_ends()")
    op.drop_column("otp_requests", "guard_as")
    op.drop_column("otp_requests", "guard_block")
    for table in ("guard_exceptions", "guard_decisions", "guard_addresses", "guard_tallies"):
        op.drop_table(table)
