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
    Date,
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

from otpqueue.domain.caps import Scope
from otpqueue.domain.checking import Verdict
from otpqueue.domain.guard import Mode
from otpqueue.domain.history import MoveOf
from otpqueue.domain.receipts import Delivery
from otpqueue.domain.request import LIVE, Channel, Resend, SendKind, SendState, Status
from otpqueue.domain.sending import Evidence, OutcomeKind
from otpqueue.domain.webhooks import Disabled, Event, State

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


WRONG = "(verdict IS NULL OR verdict IN ('unknown', 'wrong'))"
"""A guess counts as wrong until the provider has said otherwise, or that it did not look."""

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
    Column("note", Text),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time),
    Column("last_used_at", Time),
    Column("revoked_at", Time),
    # The key that took its place; this one works until `expires_at`.
    Column("replaced_by", ForeignKey("api_keys.id")),
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
    # For a test number: nothing is sent, and no count has it.
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
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
    Index("otp_requests_created", "created_at", "id"),
    # What the key's replacement re-seals, and at every start: which keys are needed.
    Index("otp_requests_sealed_with", "seal_key_id", "id"),
    Index("otp_requests_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
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
    # Guesses that were wrong, or may have been: few, and looked for by address.
    Index(
        "checks_wrong_of_address",
        "client_ip_hash",
        "started_at",
        postgresql_where=text(f"client_ip_hash IS NOT NULL AND {WRONG}"),
    ),
)

number_guesses = Table(
    "number_guesses",
    metadata,
    # Only numbers whose last code was wrong, or that were unlocked: a right one deletes the row.
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    Column("number_hash", LargeBinary, primary_key=True),
    Column("wrong_in_a_row", Integer, nullable=False),
    # Wrong codes before that are forgiven.
    Column("unlocked_at", Time),
    Column("updated_at", Time, nullable=False),
    CheckConstraint("wrong_in_a_row >= 0", name="wrong_in_a_row"),
    Index("number_guesses_number", "number_hash"),
    Index("number_guesses_updated", "updated_at"),
)

check_counts = Table(
    "check_counts",
    metadata,
    # Codes that were judged, by the minute. Several rows, so that one client's checks do not wait in line.
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    Column("minute", Time, primary_key=True),
    Column("shard", SmallInteger, primary_key=True),
    Column("checks", Integer, nullable=False),
    Column("wrong", Integer, nullable=False),
    Index("check_counts_minute", "minute"),
)

refusals = Table(
    "refusals",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("reason", Text, nullable=False),
    Column("number_hash", LargeBinary),
    Column("client_ip_hash", LargeBinary),
    # The first one's; a flood is one row a minute.
    Column("created_at", Time, nullable=False),
    Column("minute", Time),
    Column("count", Integer, nullable=False, server_default="1"),
    Index("refusals_number", "number_hash", "created_at"),
    Index(
        "refusals_minute",
        "client_id",
        "number_hash",
        "reason",
        "minute",
        unique=True,
        postgresql_nulls_not_distinct=True,
        # Rows of before there was a minute stand for one refusal each.
        postgresql_where=text("minute IS NOT NULL"),
    ),
    Index("refusals_created", "created_at"),
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

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    # Keyed hashes: of the path and the key that was sent with it, and of the body.
    Column("key_hash", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    # The request that the answer speaks of; null before there is one, and after it was erased.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="SET NULL")),
    Column("answer", JSONB(none_as_null=True)),
    # While the first call runs, by Postgres's clock.
    Column("lease_until", Time),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    CheckConstraint("lease_until IS NULL OR answer IS NULL", name="answered_is_free"),
    Index("idempotency_keys_expiring", "expires_at"),
    Index("idempotency_keys_request", "request_id"),
)

# An answer goes when its request goes, whoever deletes that; the row stays, so that a late repetition of the
# call does not ask for the same code anew.
FORGET_ANSWER = """
CREATE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    RETURN NEW;
END
$$
"""
FORGET_TRIGGER = """
CREATE TRIGGER idempotency_keys_forget BEFORE UPDATE ON idempotency_keys FOR EACH ROW
WHEN (NEW.request_id IS NULL AND OLD.request_id IS NOT NULL)
EXECUTE FUNCTION idempotency_keys_forget_answer()
"""
for _statement in (FORGET_ANSWER, FORGET_TRIGGER):
    event.listen(idempotency_keys, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]


erasures = Table(
    "erasures",
    metadata,
    # That a number was erased, by whom and how much that was; never which number.
    Column("id", Uuid, primary_key=True),
    Column("at", Time, nullable=False, index=True),
    # Null for the operator at the command line.
    Column("client_id", ForeignKey("clients.id")),
    Column("counts", JSONB, nullable=False),
)

send_counts = Table(
    "send_counts",
    metadata,
    # How many attempts of a day (UTC) have left, may have left, or are about to: what daily caps hold down.
    Column("day", Date, primary_key=True),
    Column("scope", Text, primary_key=True),
    # Empty for `all`, the id of a client, a country.
    Column("subject", Text, primary_key=True),
    Column("taken", Integer, nullable=False, server_default="0"),
    CheckConstraint(_one_of("scope", Scope), name="scope"),
    CheckConstraint("taken >= 0", name="taken"),
    # Every claim updates three of these few rows: room on the page keeps that in place.
    postgresql_with={"fillfactor": "50"},
)

sending_stops = Table(
    "sending_stops",
    metadata,
    # The kill switch, and when it was used before. `subject` as in `send_counts`.
    Column("id", Uuid, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("stopped_by", Text, nullable=False),
    Column("stopped_at", Time, nullable=False),
    Column("resumed_by", Text),
    Column("resumed_at", Time, index=True),
    CheckConstraint(_one_of("scope", Scope), name="scope"),
    Index(
        "sending_stops_in_force",
        "scope",
        "subject",
        unique=True,
        postgresql_where=text("resumed_at IS NULL"),
    ),
)

do_not_send = Table(
    "do_not_send",
    metadata,
    Column("id", Uuid, primary_key=True),
    # Sealed too, or the list could not outlive the key of the hashes.
    Column("number_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    Column("number_hash", LargeBinary, nullable=False, unique=True),
    Column("reason", Text),
    Column("until", Time, index=True),
    Column("created_at", Time, nullable=False),
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
    Column("until", Time, nullable=False, index=True),
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

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    # What deliveries are signed with, sealed: one secret, or while it is replaced two, the newer one first.
    Column("secrets_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    # So long the older one signs too.
    Column("previous_until", Time),
    Column("created_at", Time, nullable=False),
    # Since then there was nothing but failures.
    Column("failing_since", Time),
    Column("disabled_at", Time),
    Column("disabled_reason", Text),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"),
    CheckConstraint(
        f"disabled_reason IS NULL OR {_one_of('disabled_reason', Disabled)}", name="disabled_reason"
    ),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # What the receiver sees as `webhook-id`: the same at each try.
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    # Drawn while the request's row is locked: of one request the order is that of the moves.
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), nullable=False),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # What the row of the request forgets; all else is read from there.
    Column("event", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("reason", Text),
    Column("provider_code", Text),
    Column("expires_at", Time),
    # How it stands. While a worker holds it, `lease_until` says how long, by Postgres's clock.
    Column("state", Text, nullable=False, server_default=State.PENDING.value),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("next_try_at", Time),
    Column("lease_until", Time),
    # The newest try: an HTTP status, or why there was none.
    Column("tried_at", Time),
    Column("http_status", SmallInteger),
    Column("problem", Text),
    CheckConstraint(_one_of("event", Event), name="event"),
    CheckConstraint(_one_of("state", State), name="state"),
    CheckConstraint("(state = 'pending') = (next_try_at IS NOT NULL)", name="pending_has_time"),
    CheckConstraint("lease_until IS NULL OR state = 'pending'", name="held_is_pending"),
    Index("webhook_deliveries_request", "request_id", "number"),
    Index("webhook_deliveries_client", "client_id", "number"),
    Index("webhook_deliveries_left", "client_id", "number", postgresql_where=text("state <> 'delivered'")),
    Index("webhook_deliveries_due", "client_id", "next_try_at", postgresql_where=text("state = 'pending'")),
    postgresql_with={"fillfactor": "70"},
)

# Whatever statement moves a request, its client is told: in the same transaction, where it wants to be. That
# is asked first, since to begin an INSERT costs more than to find that nobody listens. A delivery that waits
# for an earlier one of its request is not looked at before that one's next try.
TELL_CLIENT = """
CREATE FUNCTION otp_requests_tell_client() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    wait_until timestamptz;
BEGIN
    IF EXISTS (
        SELECT FROM webhook_endpoints AS e
        WHERE e.client_id = NEW.client_id AND e.disabled_at IS NULL
          AND 'otp_request.' || NEW.status = ANY(e.events)
    ) THEN
        IF OLD.status <> 'queued' THEN
            SELECT max(d.next_try_at) INTO wait_until FROM webhook_deliveries AS d
            WHERE d.request_id = NEW.id AND d.state = 'pending';
        END IF;
        INSERT INTO webhook_deliveries
            (request_id, client_id, event, at, reason, provider_code, expires_at, next_try_at)
        VALUES (NEW.id, NEW.client_id, 'otp_request.' || NEW.status, NEW.updated_at, NEW.reason,
                NEW.provider_code, NEW.expires_at, greatest(NEW.updated_at, wait_until));
    END IF;
    RETURN NULL;
END
$$
"""
TELL_TRIGGER = """
CREATE TRIGGER otp_requests_webhooks AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status)
EXECUTE FUNCTION otp_requests_tell_client()
"""
for _statement in (TELL_CLIENT, TELL_TRIGGER):
    event.listen(webhook_deliveries, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]
