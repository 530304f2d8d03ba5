"""The pumping guard counts sends that have been claimed: which send it has counted last, and what as."""

import sqlalchemy as sa
from alembic import op

from otpqueue.store.functions import create_trigger_statement

revision = "0017"
down_revision = "0015"
branch_labels = None
depends_on = None

COLUMNS = ("guard_counted", "guard_known", "guard_new", "guard_refused")
FUNCTIONS = (
    *("guard_count_claims", "guard_claim_facts", "guard_note_refusal", "guard_take", "guard_count"),
    *("guard_allows", "guard_facts", "guard_tally", "guard_number"),
)

COUNT_ENDS = """
CREATE OR REPLACE FUNCTION otp_requests_count_ends() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    at timestamptz := date_trunc('hour', NEW.created_at, 'UTC');
    good integer := (NEW.status = 'verified')::integer;
    -- 1 for what the newest send was counted as, if it certainly did not leave.
    back_known integer := 0;
    back_new integer := 0;
    back_refused integer := 0;
BEGIN
    -- The version before counted all sends alike, at acceptance.
    IF NEW.guard_counted = 0 AND NEW.guard_as IS NOT NULL THEN
        NEW.guard_counted := NEW.sends;
        NEW.guard_known := CASE WHEN NEW.guard_as = 'known' THEN NEW.sends ELSE 0 END;
        NEW.guard_new := CASE WHEN NEW.guard_as = 'new' THEN NEW.sends ELSE 0 END;
        NEW.guard_refused := CASE WHEN NEW.guard_as = 'refused' THEN NEW.sends ELSE 0 END;
    END IF;
    IF NEW.guard_counted = NEW.sends AND NEW.unknowns = 0 AND NEW.send_state = 'idle'
       AND (OLD.status = 'queued' OR (OLD.resend = 'pending' AND NEW.resend = 'failed')) THEN
        back_known := (NEW.guard_as = 'known' AND NEW.guard_known > 0)::integer;
        back_new := (NEW.guard_as = 'new' AND NEW.guard_new > 0)::integer;
        back_refused := (NEW.guard_as = 'refused' AND NEW.guard_refused > 0)::integer;
        NEW.guard_known := NEW.guard_known - back_known;
        NEW.guard_new := NEW.guard_new - back_new;
        NEW.guard_refused := NEW.guard_refused - back_refused;
    END IF;
    IF back_new + good * NEW.guard_new > 0 THEN
        UPDATE guard_tallies
        SET sent = greatest(sent - back_new, verified),
            verified = least(greatest(sent - back_new, verified), verified + good * NEW.guard_new)
        WHERE subject = '*' AND hour = at;
        UPDATE guard_tallies
        SET sent = greatest(sent - back_new, verified),
            verified = least(greatest(sent - back_new, verified), verified + good * NEW.guard_new)
        WHERE subject = coalesce(NEW.country, 'ZZ') AND hour = at;
    END IF;
    IF back_known + back_new + back_refused
       + good * (NEW.guard_known + NEW.guard_new + NEW.guard_refused) > 0 THEN
        UPDATE guard_tallies
        SET sent = greatest(sent - back_known - back_new, verified) + good * NEW.guard_refused,
            verified = least(greatest(sent - back_known - back_new, verified),
                             verified + good * (NEW.guard_known + NEW.guard_new))
                       + good * NEW.guard_refused,
            shadowed = greatest(shadowed - back_refused, 0),
            shadowed_verified = shadowed_verified + good * NEW.guard_refused
        WHERE subject = NEW.guard_block AND hour = at;
    END IF;
    IF good * NEW.guard_new > 0 THEN
        UPDATE guard_addresses SET verified = verified + 1
        WHERE address_hash = NEW.client_ip_hash AND hour = at;
    END IF;
    IF NEW.finished_at IS NOT NULL THEN
        NEW.guard_block := NULL;
    END IF;
    RETURN NEW;
END
$$
"""
TRIGGER = create_trigger_statement("otp_requests_guard")
# What the version before accepted is counted: all sends of a request alike. Few rows are live.
COUNTED_BEFORE = """
UPDATE otp_requests
SET guard_counted = sends,
    guard_known = CASE WHEN guard_as = 'known' THEN sends ELSE 0 END,
    guard_new = CASE WHEN guard_as = 'new' THEN sends ELSE 0 END,
    guard_refused = CASE WHEN guard_as = 'refused' THEN sends ELSE 0 END
WHERE status IN ('delivered', 'queued', 'sent', 'undelivered') AND guard_as IS NOT NULL
"""
COUNT_ENDS_BEFORE = """
CREATE OR REPLACE FUNCTION otp_requests_count_ends() RETURNS trigger LANGUAGE plpgsql AS $$
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
TRIGGER_BEFORE = """
CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON otp_requests FOR EACH ROW
WHEN (OLD.guard_block IS NOT NULL AND (NEW.status IS DISTINCT FROM OLD.status
                                       OR NEW.resend IS DISTINCT FROM OLD.resend))
EXECUTE FUNCTION otp_requests_count_ends()
"""


def upgrade() -> None:
    # A constant default rewrites no row.
    for name in COLUMNS:
        op.add_column("otp_requests", sa.Column(name, sa.SmallInteger(), nullable=False, server_default="0"))
    op.execute("DROP TRIGGER otp_requests_guard ON otp_requests")
    op.execute(COUNT_ENDS)
    op.execute(TRIGGER)
    op.execute(COUNTED_BEFORE)


def downgrade() -> None:
    for name in FUNCTIONS:
        op.execute(f"DROP FUNCTION IF EXISTS {name}")
    op.execute("DROP TRIGGER otp_requests_guard ON otp_requests")
    op.execute(COUNT_ENDS_BEFORE)
    op.execute(TRIGGER_BEFORE)
    for name in reversed(COLUMNS):
        op.drop_column("otp_requests", name)
