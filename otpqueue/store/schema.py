"""The tables. `migrations/` makes them; a test holds the two against each other."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum

from sqlalchemy import (
    ARRAY,
    DDL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Numeric,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    event,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP

from otpqueue.domain.checking import Verdict
from otpqueue.domain.guard import Mode
from otpqueue.domain.history import MoveOf
from otpqueue.domain.receipts import Delivery
from otpqueue.domain.request import LIVE, Channel, Resend, SendKind, SendState, Status
from otpqueue.domain.sending import Evidence, OutcomeKind

metadata = MetaData(
    naming_convention={
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
        "pk": "%(table_name)s_pkey",
    }
)

Time = TIMESTAMP(timezone=True)


def _listed(values: Iterable[StrEnum]) -> str:
    return ", ".join(f"'{value.value}'" for value in sorted(values))


def _one_of(column: str, values: Iterable[StrEnum]) -> str:
    return f"{column} IN ({_listed(values)})"


clients = Table(
    "clients",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    # What is set for this client alone.
    Column("settings", JSONB, nullable=False, server_default=text("'{}'")),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False, index=True),
    Column("prefix", Text, nullable=False),
    Column("key_hash", LargeBinary, nullable=False, unique=True),
    Column("scopes", ARRAY(Text), nullable=False),
    Column("created_at", Time, nullable=False),
    Column("revoked_at", Time),
)

otp_requests = Table(
    "otp_requests",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # Whom it goes to. The number is sealed with the row's id as associated data.
    Column("number_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    Column("number_hash", LargeBinary, nullable=False),
    Column("country", Text),
    Column("session_hash", LargeBinary),
    Column("client_ip_hash", LargeBinary),
    Column("client_reference", Text),
    Column("channel", Text, nullable=False),
    Column("language", Text),
    # What the caller sees.
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("provider_code", Text),
    # What the workers see. An `attempt` number is never used again; `tries`, `unknowns` are the policy's.
    Column("send_state", Text, nullable=False),
    Column("next_attempt_at", Time),
    Column("lease_until", Time),
    Column("attempt", SmallInteger, nullable=False, server_default="0"),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("unknowns", SmallInteger, nullable=False, server_default="0"),
    Column("pin_id", Text),
    Column("send_kind", Text, nullable=False, server_default=SendKind.FRESH.value),
    # Resends: the channel of the send under way, and how the newest one stands.
    Column("sends", SmallInteger, nullable=False, server_default="1"),
    Column("resend", Text),
    Column("resend_channel", Text),
    Column("resend_reason", Text),
    Column("resend_after", Time),
    # Checks. `checks_used` counts against `checks_allowed`; `check_number` numbers the rows of `checks`.
    Column("checks_allowed", SmallInteger, nullable=False),
    Column("checks_used", SmallInteger, nullable=False, server_default="0"),
    Column("checks_given_back", SmallInteger, nullable=False, server_default="0"),
    Column("check_number", SmallInteger, nullable=False, server_default="0"),
    Column("check_lease_until", Time),
    # Times.
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("send_by", Time, nullable=False),
    Column("sent_at", Time),
    Column("expires_at", Time),
    Column("verified_at", Time),
    Column("finished_at", Time),
    # What the pumping guard counts it as; the block is forgotten when the request ends.
    Column("guard_block", Text),
    Column("guard_as", Text),
    CheckConstraint(_one_of("status", Status), name="status"),
    CheckConstraint(_one_of("send_state", SendState), name="send_state"),
    CheckConstraint(_one_of("send_kind", SendKind), name="send_kind"),
    CheckConstraint(f"resend IS NULL OR {_one_of('resend', Resend)}", name="resend"),
    CheckConstraint("(send_state = 'due') = (next_attempt_at IS NOT NULL)", name="due_has_time"),
    CheckConstraint("(send_state = 'claimed') = (lease_until IS NOT NULL)", name="claimed_has_lease"),
    CheckConstraint("checks_used BETWEEN 0 AND checks_allowed", name="checks_bounded"),
    CheckConstraint("pin_id IS NULL OR expires_at IS NOT NULL", name="sent_expires"),
    Index(
        "otp_requests_one_live",
        "client_id",
        "number_hash",
        "session_hash",
        unique=True,
        postgresql_nulls_not_distinct=True,
        postgresql_where=text(_one_of("status", LIVE)),
    ),
    Index("otp_requests_due", "next_attempt_at", postgresql_where=text("send_state = 'due'")),
    Index("otp_requests_due_deadline", "send_by", postgresql_where=text("send_state = 'due'")),
    Index("otp_requests_claimed", "lease_until", postgresql_where=text("send_state = 'claimed'")),
    Index(
        "otp_requests_checking",
        "check_lease_until",
        postgresql_where=text("check_lease_until IS NOT NULL"),
    ),
    Index(
        "otp_requests_expiring",
        "expires_at",
        postgresql_where=text(f"{_one_of('status', LIVE)} AND expires_at IS NOT NULL"),
    ),
    Index("otp_requests_number", "number_hash", "created_at"),
    # A row is updated three to five times in its short life: room on the page keeps those updates in place.
    postgresql_with={"fillfactor": "70"},
)

send_attempts = Table(
    "send_attempts",
    metadata,
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("worker", Text, nullable=False),
    Column("claimed_at", Time, nullable=False),
    Column("started_at", Time),
    Column("finished_at", Time),
    Column("outcome", Text),
    Column("retryable", Boolean),
    Column("code", Text),
    Column("http_status", SmallInteger),
    Column("pin_id", Text),
    Column("latency_ms", Integer),
    Column("kind", Text, nullable=False, server_default=SendKind.FRESH.value),
    Column("channel", Text, nullable=False, server_default=Channel.SMS.value),
    Column("evidence", Text),
    # What delivery reports say.
    Column("external_message_id", Text),
    Column("delivery", Text),
    Column("delivery_status", Text),
    Column("delivery_error", Text),
    Column("done_at", Time),
    Column("price", Numeric),
    Column("currency", Text),
    CheckConstraint(f"evidence IS NULL OR {_one_of('evidence', Evidence)}", name="evidence"),
    CheckConstraint(f"delivery IS NULL OR {_one_of('delivery', Delivery)}", name="delivery"),
    Index(
        "send_attempts_external_message",
        "external_message_id",
        postgresql_where=text("external_message_id IS NOT NULL"),
    ),
    CheckConstraint(f"outcome IS NULL OR {_one_of('outcome', OutcomeKind)}", name="outcome"),
)

checks = Table(
    "checks",
    metadata,
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("client_ip_hash", LargeBinary),
    Column("started_at", Time, nullable=False),
    Column("finished_at", Time),
    Column("verdict", Text),
    Column("code", Text),
    Column("http_status", SmallInteger),
    Column("latency_ms", Integer),
    CheckConstraint(f"verdict IS NULL OR {_one_of('verdict', Verdict)}", name="verdict"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("number_hash", LargeBinary),
    Column("client_ip_hash", LargeBinary),
    Column("created_at", Time, nullable=False),
    Index("refusals_number", "number_hash", "created_at"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("message_id", Text, nullable=False),
    Column("delivery", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("error", Text),
    Column("done_at", Time),
    Column("price", Numeric),
    Column("currency", Text),
    Column("received_at", Time, nullable=False),
    # Null while no attempt of this message is known: a report can overtake the answer to the send.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE")),
    Column("attempt", SmallInteger),
    CheckConstraint(_one_of("delivery", Delivery), name="delivery"),
    UniqueConstraint(
        "message_id", "status", "done_at", name="receipts_once", postgresql_nulls_not_distinct=True
    ),
    Index("receipts_request", "request_id"),
    Index("receipts_unmatched", "received_at", postgresql_where=text("request_id IS NULL")),
)

provider_ids = Table(
    "provider_ids",
    metadata,
    # One account may be the simulator's, another the real one: an id means nothing at the other.
    Column("base_url", Text, primary_key=True),
    Column("application_name", Text, primary_key=True),
    Column("application_id", Text, nullable=False),
    Column("message_ids", JSONB, nullable=False),
    Column("updated_at", Time, nullable=False),
)

moves = Table(
    "moves",
    metadata,
    # What the row of a request forgets: each state it had. A trigger writes it, so no statement can leave it
    # out. The first state, `queued`, is not here: it is the row's own `created_at`.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), primary_key=True),
    # Drawn while the request's row is locked: of one request the order is that of the moves.
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    # The `updated_at` that the move gave the row.
    Column("at", Time, nullable=False),
    Column("of", Text, nullable=False),
    Column("was", Text),
    Column("became", Text, nullable=False),
    Column("reason", Text),
    CheckConstraint(_one_of("of", MoveOf), name="of"),
)

guard_tallies = Table(
    "guard_tallies",
    metadata,
    # A block of numbers (digits), the chances of new blocks in a country (its two letters), or in all ('*').
    # No row is about one person: the smallest subject is 10 000 numbers.
    Column("subject", Text, primary_key=True),
    Column("hour", Time, primary_key=True),
    Column("country", Text, nullable=False),
    Column("sent", Integer, nullable=False, server_default="0"),
    Column("verified", Integer, nullable=False, server_default="0"),
    Column("refused", Integer, nullable=False, server_default="0"),
    # In shadow mode: sent although it would have been refused. One that is verified is in `sent`, too.
    Column("shadowed", Integer, nullable=False, server_default="0"),
    Column("shadowed_verified", Integer, nullable=False, server_default="0"),
    CheckConstraint("verified BETWEEN 0 AND sent", name="verified_of_sent"),
    Index("guard_tallies_hour", "hour"),
    postgresql_with={"fillfactor": "70"},
)

guard_addresses = Table(
    "guard_addresses",
    metadata,
    # Tries at new blocks alone, by the keyed hash of who asks; of use for a day.
    Column("address_hash", LargeBinary, primary_key=True),
    Column("hour", Time, primary_key=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("verified", Integer, nullable=False, server_default="0"),
    Index("guard_addresses_hour", "hour"),
)

guard_decisions = Table(
    "guard_decisions",
    metadata,
    # A flood of refusals is one row a minute: block and figures are the first one's, `tries` counts all.
    Column("minute", Time, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    Column("country", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("block", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("at_risk", Integer, nullable=False),
    Column("budget", Float, nullable=False),
    CheckConstraint(_one_of("mode", Mode), name="mode"),
)

guard_exceptions = Table(
    "guard_exceptions",
    metadata,
    # A country's two letters, or the first digits of numbers.
    Column("subject", Text, primary_key=True),
    Column("until", Time, nullable=False),
    Column("created_at", Time, nullable=False),
)

NOTE_MOVES = """
CREATE FUNCTION otp_requests_note_moves() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status IS DISTINCT FROM OLD.status THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'status', OLD.status, NEW.status, NEW.reason);
    END IF;
    IF NEW.resend IS DISTINCT FROM OLD.resend THEN
        INSERT INTO moves (request_id, at, of, was, became, reason)
        VALUES (NEW.id, NEW.updated_at, 'resend', OLD.resend, NEW.resend, NEW.resend_reason);
    END IF;
    RETURN NULL;
END
$$
"""
# The condition keeps the function away from claims and checks, which move nothing that is told.
TRIGGER = """
CREATE TRIGGER otp_requests_moves AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status OR NEW.resend IS DISTINCT FROM OLD.resend)
EXECUTE FUNCTION otp_requests_note_moves()
"""
for _statement in (NOTE_MOVES, TRIGGER):
    event.listen(moves, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

# The tallies follow what becomes of requests whatever statement ends them, in its own transaction: verified
# sends count, and those that certainly never left are given back. Chances come before blocks, so that two
# statements about chances cannot deadlock.
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
GUARD_TRIGGER = """
CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON otp_requests FOR EACH ROW
WHEN (OLD.guard_block IS NOT NULL AND (NEW.status IS DISTINCT FROM OLD.status
                                       OR NEW.resend IS DISTINCT FROM OLD.resend))
EXECUTE FUNCTION otp_requests_count_ends()
"""
for _statement in (COUNT_ENDS, GUARD_TRIGGER):
    event.listen(otp_requests, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]
