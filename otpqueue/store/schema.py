"""The tables. `migrations/` creates them; a test compares the two."""

from __future__ import annotations

import textwrap
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

from otpqueue.domain.alerts import AlertState, AlertTransition
from otpqueue.domain.alerts import NotificationChannel as NoticeChannel
from otpqueue.domain.caps import CapScope
from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.guard import GuardMode
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.domain.history import MoveSubject
from otpqueue.domain.receipts import DeliveryState
from otpqueue.domain.request import LIVE, Channel, Resend, SendKind, SendState, Status
from otpqueue.domain.sending import OutcomeEvidence, OutcomeKind
from otpqueue.domain.stats import BEYOND, BOUNDS_MS
from otpqueue.domain.webhooks import DisabledReason, WebhookEvent, WebhookState
from otpqueue.store.functions import create_statements

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
"""A guess counts as wrong until the provider has said otherwise, or has not judged it."""

_VACUUMED_OFTEN = {
    # A row passes through the partial indexes of its states within minutes. A query for the oldest entry of
    # such an index also reads the dead entries before it, until a vacuum removes them. By default a vacuum
    # starts when a fifth of the rows are dead, and skips indexes while those are on less than a fiftieth of
    # the pages: the larger the table, the more dead entries each claim would read.
    "autovacuum_vacuum_threshold": "20000",
    "autovacuum_vacuum_scale_factor": "0.01",
    "autovacuum_analyze_threshold": "20000",
    "autovacuum_analyze_scale_factor": "0.01",
    "vacuum_index_cleanup": "on",
}

clients = Table(
    "clients",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Time, nullable=False),
    # This client's own settings.
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
    # The key that replaced it; this one works until `expires_at`.
    Column("replaced_by", ForeignKey("api_keys.id")),
)

access_version = Table(
    "access_version",
    metadata,
    # One row. Triggers raise the version with every change of API keys and clients, in its transaction. A use
    # of a key does not count as a change. API processes reload their copies when the version has changed.
    Column("one", Boolean, primary_key=True, server_default=text("true")),
    Column("version", BigInteger, nullable=False),
    CheckConstraint("one", name="one_row"),
)

RAISE_ACCESS_VERSION = """
CREATE FUNCTION access_version_raise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO access_version AS a (version) VALUES (1)
    ON CONFLICT (one) DO UPDATE SET version = a.version + 1;
    RETURN NULL;
END
$$
"""
KEYS_ACCESS_TRIGGER = """
CREATE TRIGGER api_keys_access AFTER INSERT OR DELETE OR UPDATE OF
client_id, prefix, key_hash, scopes, note, created_at, expires_at, revoked_at, replaced_by ON api_keys
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
"""
CLIENTS_ACCESS_TRIGGER = """
CREATE TRIGGER clients_access AFTER INSERT OR DELETE OR UPDATE OF name, settings ON clients
FOR EACH STATEMENT EXECUTE FUNCTION access_version_raise()
"""
for _statement in (
    RAISE_ACCESS_VERSION,
    KEYS_ACCESS_TRIGGER,
    CLIENTS_ACCESS_TRIGGER,
):
    event.listen(metadata, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

otp_requests = Table(
    "otp_requests",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # The recipient. The number is sealed with the row's id as associated data.
    Column("number_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    Column("number_hash", LargeBinary, nullable=False),
    Column("country", Text),
    Column("session_hash", LargeBinary),
    Column("client_ip_hash", LargeBinary),
    Column("client_reference", Text),
    Column("channel", Text, nullable=False),
    Column("language", Text),
    # The caller's view.
    Column("status", Text, nullable=False),
    Column("reason", Text),
    Column("provider_code", Text),
    # The workers' view. An `attempt` number is never reused; `tries` and `unknowns` are the policy's counts.
    Column("send_state", Text, nullable=False),
    Column("next_attempt_at", Time),
    Column("lease_until", Time),
    Column("attempt", SmallInteger, nullable=False, server_default="0"),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("unknowns", SmallInteger, nullable=False, server_default="0"),
    Column("pin_id", Text),
    Column("send_kind", Text, nullable=False, server_default=SendKind.FRESH.value),
    # Resends: the channel of the pending send, and the state of the newest one.
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
    # For a test number: nothing is sent, and no statistics include it.
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    # Times.
    Column("created_at", Time, nullable=False),
    Column("updated_at", Time, nullable=False),
    Column("send_by", Time, nullable=False),
    Column("sent_at", Time),
    Column("expires_at", Time),
    Column("verified_at", Time),
    Column("finished_at", Time),
    # The pumping guard: the block, which is cleared when the request ends; the last send that it counted and
    # the category; and the counts per category, without subtracted sends.
    Column("guard_block", Text),
    Column("guard_as", Text),
    Column("guard_counted", SmallInteger, nullable=False, server_default="0"),
    Column("guard_known", SmallInteger, nullable=False, server_default="0"),
    Column("guard_new", SmallInteger, nullable=False, server_default="0"),
    Column("guard_refused", SmallInteger, nullable=False, server_default="0"),
    # The trace of its newest accepted call: a W3C `traceparent`.
    Column("trace_context", Text),
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
    # The claim uses the first for the clients' turns, the second while sending to some countries is stopped.
    Index(
        "otp_requests_due_of_client",
        "client_id",
        "next_attempt_at",
        postgresql_where=text("send_state = 'due'"),
    ),
    Index(
        "otp_requests_due_of_country",
        "client_id",
        text("coalesce(country, '001')"),
        "next_attempt_at",
        postgresql_where=text("send_state = 'due'"),
    ),
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
    # For a key rotation, and for the check of required keys at every start.
    Index("otp_requests_sealed_with", "seal_key_id", "id"),
    Index("otp_requests_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    # A row is updated three to five times in its short life. Free space on the page allows HOT updates.
    postgresql_with={"fillfactor": "70", **_VACUUMED_OFTEN},
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
    # From delivery reports.
    Column("external_message_id", Text),
    Column("delivery", Text),
    Column("delivery_status", Text),
    Column("delivery_error", Text),
    Column("done_at", Time),
    # When the report arrived that set `delivery`.
    Column("reported_at", Time),
    Column("price", Numeric),
    Column("currency", Text),
    CheckConstraint(f"evidence IS NULL OR {_one_of('evidence', OutcomeEvidence)}", name="evidence"),
    CheckConstraint(f"delivery IS NULL OR {_one_of('delivery', DeliveryState)}", name="delivery"),
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
    CheckConstraint(f"verdict IS NULL OR {_one_of('verdict', CheckVerdict)}", name="verdict"),
    # Guesses that were wrong, or may have been: few, and looked up by address.
    Index(
        "checks_wrong_of_address",
        "client_ip_hash",
        "started_at",
        postgresql_where=text(f"client_ip_hash IS NOT NULL AND {WRONG}"),
    ),
    # Searched for numbers under attack. A correct code costs it nothing.
    Index("checks_wrong", "started_at", postgresql_where=text("verdict = 'wrong'")),
)

number_guesses = Table(
    "number_guesses",
    metadata,
    # Only numbers with a wrong last code, or that were unlocked: a correct code deletes the row.
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    Column("number_hash", LargeBinary, primary_key=True),
    Column("wrong_in_a_row", Integer, nullable=False),
    # Wrong codes before that time are forgiven.
    Column("unlocked_at", Time),
    Column("updated_at", Time, nullable=False),
    CheckConstraint("wrong_in_a_row >= 0", name="wrong_in_a_row"),
    Index("number_guesses_number", "number_hash"),
    Index("number_guesses_updated", "updated_at"),
)

check_counts = Table(
    "check_counts",
    metadata,
    # Judged codes per minute, in several rows, so that one client's checks do not wait for each other.
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
    Column("country", Text),
    Column("client_ip_hash", LargeBinary),
    # For a test number, which no statistics include.
    Column("is_test", Boolean, nullable=False, server_default=text("false")),
    # Figures of the first one; repeated refusals share a row per minute.
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
        # Rows from before `minute` existed count as one refusal each.
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
    # Null while no attempt of this message is known: a report can arrive before the response to the send.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE")),
    Column("attempt", SmallInteger),
    CheckConstraint(_one_of("delivery", DeliveryState), name="delivery"),
    UniqueConstraint(
        "message_id", "status", "done_at", name="receipts_once", postgresql_nulls_not_distinct=True
    ),
    Index("receipts_request", "request_id"),
    Index("receipts_unmatched", "received_at", postgresql_where=text("request_id IS NULL")),
    postgresql_with=_VACUUMED_OFTEN,
)

provider_ids = Table(
    "provider_ids",
    metadata,
    # One account may be the simulator's, another the real one. An id is valid only for its account.
    Column("base_url", Text, primary_key=True),
    Column("application_name", Text, primary_key=True),
    Column("application_id", Text, nullable=False),
    Column("message_ids", JSONB, nullable=False),
    Column("updated_at", Time, nullable=False),
)

moves = Table(
    "moves",
    metadata,
    # The status history that the request's row does not keep. A trigger writes it, so no statement can omit
    # it. The first status, `queued`, is not here: its time is the row's own `created_at`.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), primary_key=True),
    # Assigned while the request's row is locked, so it gives the order of one request's moves.
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    # The `updated_at` of the move.
    Column("at", Time, nullable=False),
    Column("of", Text, nullable=False),
    Column("was", Text),
    Column("became", Text, nullable=False),
    Column("reason", Text),
    CheckConstraint(_one_of("of", MoveSubject), name="of"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    # Keyed hashes: of the path and the key that was sent with it, and of the body. The latter is empty after
    # the request was erased.
    Column("key_hash", LargeBinary, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    # The request that the response is about; null before it exists and after it was erased.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="SET NULL")),
    Column("answer", JSONB(none_as_null=True)),
    # By Postgres's clock; set while the first call runs.
    Column("lease_until", Time),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    CheckConstraint("lease_until IS NULL OR answer IS NULL", name="answered_is_free"),
    Index("idempotency_keys_expiring", "expires_at"),
    Index("idempotency_keys_request", "request_id"),
)

# The response and the fingerprint are deleted with the request, by whatever statement. The body contains the
# number, which a holder of the look-up key could find by brute force. The row stays, so that a late retry of
# the call does not request another code. A call that takes over an expired key has a lease.
FORGET_ANSWER = """
CREATE FUNCTION idempotency_keys_forget_answer() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.answer := NULL;
    IF NEW.lease_until IS NULL THEN
        NEW.fingerprint := '';
    END IF;
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
    # Evidence of an erasure: its caller and row counts, never the number.
    Column("id", Uuid, primary_key=True),
    Column("at", Time, nullable=False, index=True),
    # Null for the operator at the command line.
    Column("client_id", ForeignKey("clients.id")),
    Column("counts", JSONB, nullable=False),
)

erased_wrong_codes = Table(
    "erased_wrong_codes",
    metadata,
    # Wrong codes of erased requests, for as long as they count against new requests: an erasure must not
    # allow more guesses.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    Column("number_hash", LargeBinary, nullable=False),
    Column("client_ip_hash", LargeBinary),
    Column("at", Time, nullable=False),
    Column("until", Time, nullable=False, index=True),
    Index("erased_wrong_codes_number", "number_hash", "at"),
    Index(
        "erased_wrong_codes_address",
        "client_ip_hash",
        "at",
        postgresql_where=text("client_ip_hash IS NOT NULL"),
    ),
)

send_counts = Table(
    "send_counts",
    metadata,
    # How many attempts of a day (UTC) were sent, may have been sent, or are about to be. Daily caps limit
    # them.
    Column("day", Date, primary_key=True),
    Column("scope", Text, primary_key=True),
    # Empty for `all`, else a client's id or a country.
    Column("subject", Text, primary_key=True),
    Column("taken", Integer, nullable=False, server_default="0"),
    # A count is the sum of its shards. Claims add to shards from 0 up; attempts are subtracted in shards
    # below 0.
    Column("shard", SmallInteger, primary_key=True, server_default="0"),
    CheckConstraint(_one_of("scope", CapScope), name="scope"),
    CheckConstraint("taken >= 0 OR shard < 0", name="taken"),
    # Every claim updates three of these few rows. Free space on the page allows HOT updates.
    postgresql_with={"fillfactor": "50"},
)

sending_stops = Table(
    "sending_stops",
    metadata,
    # The kill switch and its history. `subject` is as in `send_counts`.
    Column("id", Uuid, primary_key=True),
    Column("scope", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("reason", Text),
    Column("stopped_by", Text, nullable=False),
    Column("stopped_at", Time, nullable=False),
    Column("resumed_by", Text),
    Column("resumed_at", Time, index=True),
    CheckConstraint(_one_of("scope", CapScope), name="scope"),
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
    # Sealed as well, so that the list survives a rotation of the look-up key.
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
    # In shadow mode: sent although enforcement would have refused it. Verified ones are in `sent`, too.
    Column("shadowed", Integer, nullable=False, server_default="0"),
    Column("shadowed_verified", Integer, nullable=False, server_default="0"),
    CheckConstraint("verified BETWEEN 0 AND sent", name="verified_of_sent"),
    Index("guard_tallies_hour", "hour"),
    postgresql_with={"fillfactor": "70"},
)

guard_addresses = Table(
    "guard_addresses",
    metadata,
    # Only tries at new blocks, by the keyed hash of the caller's address; used for a day.
    Column("address_hash", LargeBinary, primary_key=True),
    Column("hour", Time, primary_key=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    Column("verified", Integer, nullable=False, server_default="0"),
    Index("guard_addresses_hour", "hour"),
)

guard_decisions = Table(
    "guard_decisions",
    metadata,
    # Repeated refusals share a row per minute: block and figures are the first one's, `tries` counts all.
    Column("minute", Time, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    Column("country", Text, primary_key=True),
    Column("mode", Text, primary_key=True),
    Column("reason", Text, primary_key=True),
    Column("block", Text, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("at_risk", Integer, nullable=False),
    Column("budget", Float, nullable=False),
    CheckConstraint(_one_of("mode", GuardMode), name="mode"),
)

guard_exceptions = Table(
    "guard_exceptions",
    metadata,
    # A country's two letters, or the leading digits of numbers.
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
# The condition skips the function for claims and checks, which cause no event.
TRIGGER = """
CREATE TRIGGER otp_requests_moves AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status OR NEW.resend IS DISTINCT FROM OLD.resend)
EXECUTE FUNCTION otp_requests_note_moves()
"""
for _statement in (NOTE_MOVES, TRIGGER):
    event.listen(moves, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

# The tallies follow the outcome of requests, in the transaction of whatever statement ends them: verified
# sends are credited, and counted sends that certainly failed are subtracted. Chances come before blocks and
# addresses, as everywhere, so that two statements cannot deadlock.
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
# The condition skips the function for claims, sends and delivery reports, which settle nothing.
GUARD_TRIGGER = """
CREATE TRIGGER otp_requests_guard BEFORE UPDATE ON otp_requests FOR EACH ROW
WHEN (OLD.guard_block IS NOT NULL
      AND (NEW.finished_at IS NOT NULL OR (OLD.resend = 'pending' AND NEW.resend = 'failed')))
EXECUTE FUNCTION otp_requests_count_ends()
"""
for _statement in (COUNT_ENDS, GUARD_TRIGGER):
    event.listen(otp_requests, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

stat_events = Table(
    "stat_events",
    metadata,
    # Events that are not added to the statistics yet. Triggers write them in the transaction of the change.
    # `roll_up` deletes them in the transaction that adds them up. A changed outcome subtracts the old one.
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Time, nullable=False),
    Column("client_id", Uuid, nullable=False),
    Column("country", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("metric", Text, nullable=False),
    Column("label", Text, nullable=False),
    # A second metric with the same count, to which the total then belongs.
    Column("also", Text),
    Column("also_label", Text),
    Column("n", Integer, nullable=False),
    Column("total", Numeric, nullable=False),
    # Every row is deleted within seconds and its space reused, so the file need not shrink: vacuum would
    # block inserts to truncate it.
    postgresql_with={
        "autovacuum_vacuum_scale_factor": "0",
        "autovacuum_vacuum_threshold": "5000",
        "autovacuum_vacuum_cost_delay": "0",
        "vacuum_truncate": "false",
    },
)


def _stats(name: str, fillfactor: int) -> Table:
    return Table(
        name,
        metadata,
        Column("at", Time, primary_key=True),
        # No foreign key: the counts of a client are added up even after its deletion.
        Column("client_id", Uuid, primary_key=True),
        Column("country", Text, primary_key=True),
        Column("channel", Text, primary_key=True),
        Column("metric", Text, primary_key=True),
        Column("label", Text, primary_key=True),
        Column("n", BigInteger, nullable=False),
        Column("total", Numeric, nullable=False),
        # The rows of the current minute or hour are updated repeatedly, all rows of a page at once. Equal
        # free space on the page allows HOT updates.
        postgresql_with={"fillfactor": str(fillfactor)},
    )


stats_minutes = _stats("stats_minutes", 50)
stats_hours = _stats("stats_hours", 45)

_BOUNDS = textwrap.fill(", ".join(map(str, BOUNDS_MS)), 90, initial_indent=" " * 8, subsequent_indent=" " * 8)
STAT_BUCKET = f"""
CREATE FUNCTION stat_bucket(ms bigint) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce((ARRAY[
{_BOUNDS}
    ])[1 + width_bucket(greatest(ms, 1) - 1, ARRAY[
{_BOUNDS}
    ]::bigint[])]::text, '{BEYOND}')
$$
"""
STAT_MS = """
CREATE FUNCTION stat_ms(began timestamptz, ended timestamptz) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT greatest(round(extract(epoch FROM ended - began) * 1000), 0)::bigint
$$
"""
# Few expressions and no variables: PL/pgSQL prepares each of them again in each transaction.
TELL_OF_REQUEST_MADE = """
CREATE FUNCTION otp_requests_tell_made() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), NEW.channel,
            'requested', '', 1, 0);
    RETURN NULL;
END
$$
"""
REQUEST_MADE_TRIGGER = """
CREATE TRIGGER otp_requests_made_statistics AFTER INSERT ON otp_requests FOR EACH ROW
WHEN (NOT NEW.is_test)
EXECUTE FUNCTION otp_requests_tell_made()
"""
# Attempts count what reports say of a request.
TELL_OF_REQUEST_MOVED = """
CREATE FUNCTION otp_requests_tell_moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'sent' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.sent_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'sent', '', 'accept_to_sent', stat_bucket(ms), 1, ms
        FROM stat_ms(NEW.created_at, coalesce(NEW.sent_at, NEW.updated_at)) AS ms;
    ELSIF NEW.status = 'verified' THEN
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
        SELECT date_trunc('minute', coalesce(NEW.verified_at, NEW.updated_at)), NEW.client_id,
               coalesce(NEW.country, 'ZZ'), NEW.channel, 'verified', '', 'sent_to_verified', stat_bucket(ms),
               1, ms
        FROM stat_ms(coalesce(NEW.sent_at, NEW.created_at), coalesce(NEW.verified_at, NEW.updated_at)) AS ms;
    ELSE
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
        VALUES (date_trunc('minute', coalesce(NEW.finished_at, NEW.updated_at)), NEW.client_id,
                coalesce(NEW.country, 'ZZ'), NEW.channel, NEW.status,
                CASE WHEN NEW.status <> 'expired' OR NEW.sent_at IS NULL THEN coalesce(NEW.reason, '')
                     WHEN NEW.check_number > 0 THEN 'checked' ELSE 'unchecked' END, 1, 0);
    END IF;
    RETURN NULL;
END
$$
"""
REQUEST_MOVED_TRIGGER = """
CREATE TRIGGER otp_requests_moved_statistics AFTER UPDATE ON otp_requests FOR EACH ROW
WHEN (NEW.status IS DISTINCT FROM OLD.status AND NOT NEW.is_test
      AND NEW.status NOT IN ('queued', 'delivered', 'undelivered'))
EXECUTE FUNCTION otp_requests_tell_moved()
"""
# Rows of the other tables change their counts: an attempt with an expired lease turns out to have sent its
# code, an undelivered code is delivered. So the event is the difference between before and after. For
# attempts it covers the whole statement, which records dozens at a time: equal ones share an event. Its
# requests are looked up one by one: a session keeps a plan made while the table was small, which would read
# all of it.
TELL_OF_ATTEMPTS = """
CREATE FUNCTION send_attempts_tell_statistics() RETURNS trigger LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', told.at), r.client_id, coalesce(r.country, 'ZZ'), a.channel,
           told.metric, told.label, told.also, told.also_label, sum(a.sign), sum(a.sign * told.total)
    FROM (SELECT 1 AS sign, * FROM new_attempts UNION ALL SELECT -1, * FROM old_attempts) AS a
    JOIN otp_requests AS r ON r.id = a.request_id
    CROSS JOIN LATERAL (
        SELECT coalesce(a.finished_at, a.claimed_at), 'attempts', a.outcome,
               CASE WHEN a.latency_ms IS NOT NULL THEN 'provider_sends' END,
               CASE WHEN a.latency_ms IS NULL THEN NULL
                    WHEN a.http_status = 404 AND (NOT a.retryable OR a.code = 'number_not_found')
                        THEN '404_one'
                    ELSE coalesce(a.http_status::text, 'none') END,
               coalesce(a.latency_ms, 0)::numeric
        WHERE a.outcome IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), 'delivered', '', 'sent_to_delivered',
               stat_bucket(stat_ms(a.finished_at, a.done_at)), stat_ms(a.finished_at, a.done_at)
        WHERE a.delivery = 'delivered' AND a.done_at IS NOT NULL
        UNION ALL
        SELECT coalesce(a.reported_at, a.finished_at, a.claimed_at), a.delivery, '', NULL, NULL, 0
        WHERE a.delivery = 'undelivered' OR (a.delivery = 'delivered' AND a.done_at IS NULL)
        UNION ALL
        SELECT coalesce(a.finished_at, a.claimed_at), 'cost', coalesce(a.currency, ''), NULL, NULL, a.price
        WHERE a.price IS NOT NULL
    ) AS told (at, metric, label, also, also_label, total)
    WHERE NOT r.is_test
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8
    HAVING sum(a.sign) <> 0 OR sum(a.sign * told.total) <> 0;
    RETURN NULL;
END
$$
"""
ATTEMPTS_TRIGGER = """
CREATE TRIGGER send_attempts_statistics AFTER UPDATE ON send_attempts
REFERENCING OLD TABLE AS old_attempts NEW TABLE AS new_attempts FOR EACH STATEMENT
EXECUTE FUNCTION send_attempts_tell_statistics()
"""
TELL_OF_CHECK = """
CREATE FUNCTION checks_tell_statistics() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, also, also_label, n, total)
    SELECT date_trunc('minute', coalesce(c.finished_at, c.started_at)), r.client_id,
           coalesce(r.country, 'ZZ'), r.channel, 'checks', c.verdict,
           CASE WHEN c.latency_ms IS NOT NULL THEN 'provider_checks' END,
           CASE WHEN c.latency_ms IS NOT NULL THEN coalesce(c.http_status::text, 'none') END,
           c.sign, c.sign * coalesce(c.latency_ms, 0)
    FROM (
        VALUES (1, NEW.finished_at, NEW.started_at, NEW.verdict, NEW.http_status, NEW.latency_ms),
               (-1, OLD.finished_at, OLD.started_at, OLD.verdict, OLD.http_status, OLD.latency_ms)
    ) AS c (sign, finished_at, started_at, verdict, http_status, latency_ms)
    JOIN otp_requests AS r ON r.id = NEW.request_id
    WHERE c.verdict IS NOT NULL AND NOT r.is_test;
    RETURN NULL;
END
$$
"""
CHECK_TRIGGER = """
CREATE TRIGGER checks_statistics AFTER UPDATE ON checks FOR EACH ROW
WHEN ((NEW.verdict, NEW.finished_at, NEW.http_status, NEW.latency_ms)
      IS DISTINCT FROM (OLD.verdict, OLD.finished_at, OLD.http_status, OLD.latency_ms))
EXECUTE FUNCTION checks_tell_statistics()
"""
TELL_OF_REFUSAL_FIRST = """
CREATE FUNCTION refusals_tell_first() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count, 0);
    RETURN NULL;
END
$$
"""
REFUSAL_FIRST_TRIGGER = """
CREATE TRIGGER refusals_first_statistics AFTER INSERT ON refusals FOR EACH ROW
WHEN (NOT NEW.is_test)
EXECUTE FUNCTION refusals_tell_first()
"""
TELL_OF_REFUSAL_MORE = """
CREATE FUNCTION refusals_tell_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
    VALUES (date_trunc('minute', NEW.created_at), NEW.client_id, coalesce(NEW.country, 'ZZ'), 'none',
            'refused', NEW.reason, NEW.count - OLD.count, 0);
    RETURN NULL;
END
$$
"""
REFUSAL_MORE_TRIGGER = """
CREATE TRIGGER refusals_more_statistics AFTER UPDATE ON refusals FOR EACH ROW
WHEN (NEW.count <> OLD.count AND NOT NEW.is_test)
EXECUTE FUNCTION refusals_tell_more()
"""
_OF_REQUESTS = (TELL_OF_REQUEST_MADE, REQUEST_MADE_TRIGGER, TELL_OF_REQUEST_MOVED, REQUEST_MOVED_TRIGGER)
_OF_REFUSALS = (TELL_OF_REFUSAL_FIRST, REFUSAL_FIRST_TRIGGER, TELL_OF_REFUSAL_MORE, REFUSAL_MORE_TRIGGER)
for _table, _statements in (
    (otp_requests, (STAT_BUCKET, STAT_MS, *_OF_REQUESTS)),
    (send_attempts, (TELL_OF_ATTEMPTS, ATTEMPTS_TRIGGER)),
    (checks, (TELL_OF_CHECK, CHECK_TRIGGER)),
    (refusals, _OF_REFUSALS),
):
    for _statement in _statements:
        event.listen(_table, "after_create", DDL(_statement))  # type: ignore[no-untyped-call]

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    # `all`, a country, a client, the tag of a number; null after that number was erased.
    Column("subject", Text),
    # Only if the subject is a number: finds the alert again whatever its mask, and is erased with the number.
    Column("number_hash", LargeBinary, index=True),
    Column("state", Text, nullable=False),
    # From the last evaluation.
    Column("value", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("window_s", Integer, nullable=False),
    Column("sample", BigInteger, nullable=False),
    Column("evaluated_at", Time, nullable=False),
    # Consecutive good evaluations while it is open.
    Column("good", SmallInteger, nullable=False, server_default="0"),
    Column("opened_at", Time, nullable=False),
    Column("closed_at", Time),
    # The measurement at the opening.
    Column("evidence", JSONB(none_as_null=True)),
    Column("acknowledged_at", Time),
    Column("acknowledged_by", Text),
    CheckConstraint(_one_of("state", AlertState), name="state"),
    CheckConstraint("(state = 'closed') = (closed_at IS NOT NULL)", name="closed_has_time"),
    Index("alerts_one_open", "rule", "subject", unique=True, postgresql_where=text("state = 'open'")),
    Index("alerts_opened", "opened_at", "id"),
    Index("alerts_closed", "closed_at", postgresql_where=text("closed_at IS NOT NULL")),
)

alert_pending = Table(
    "alert_pending",
    metadata,
    # Subjects that were bad at the last evaluation, and not yet often enough for an alert.
    Column("rule", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("number_hash", LargeBinary, index=True),
    Column("bad", SmallInteger, nullable=False),
    Column("evaluated_at", Time, nullable=False, index=True),
)

alert_values = Table(
    "alert_values",
    metadata,
    # The measurements of an open alert, one per evaluation, for its chart.
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("at", Time, primary_key=True),
    # Null if there was no data.
    Column("value", Float),
    Column("sample", BigInteger, nullable=False),
    Index("alert_values_at", "at"),
)

alert_history = Table(
    "alert_history",
    metadata,
    # The history of an alert with its actors. It stores no subject: that could be a number.
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), primary_key=True),
    Column("number", BigInteger, Identity(always=True), primary_key=True),
    Column("at", Time, nullable=False, index=True),
    Column("what", Text, nullable=False),
    Column("actor", Text),
    Column("detail", Text),
)

alert_notices = Table(
    "alert_notices",
    metadata,
    # The outbox: one row per alert, transition and channel. Its id is sent with every try of the
    # notification.
    Column("id", Uuid, primary_key=True),
    Column("alert_id", ForeignKey("alerts.id", ondelete="CASCADE"), nullable=False),
    Column("transition", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("created_at", Time, nullable=False, index=True),
    Column("tries", Integer, nullable=False, server_default="0"),
    # Null once it was delivered or given up.
    Column("next_try_at", Time),
    # By Postgres's clock; set while a worker is delivering it.
    Column("lease_until", Time),
    Column("delivered_at", Time),
    # The reason of the last failure, one word.
    Column("problem", Text),
    CheckConstraint(_one_of("transition", AlertTransition), name="transition"),
    CheckConstraint(_one_of("channel", NoticeChannel), name="channel"),
    CheckConstraint("delivered_at IS NULL OR next_try_at IS NULL", name="delivered_is_done"),
    UniqueConstraint("alert_id", "transition", "channel", name="alert_notices_once"),
    Index("alert_notices_due", "next_try_at", postgresql_where=text("next_try_at IS NOT NULL")),
)

alert_silences = Table(
    "alert_silences",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("rule", Text, nullable=False),
    # Null for every subject of the rule.
    Column("subject", Text),
    Column("number_hash", LargeBinary, index=True),
    Column("until", Time, nullable=False, index=True),
    Column("reason", Text),
    Column("silenced_by", Text, nullable=False),
    Column("silenced_at", Time, nullable=False),
)

alert_evaluations = Table(
    "alert_evaluations",
    metadata,
    # Evaluations, so that two concurrent ones count as one, and the evaluated windows have no gaps.
    Column("at", Time, primary_key=True),
    Column("watch", Text, primary_key=True),
    Column("took_ms", Integer, nullable=False),
    Column("measures", Integer, nullable=False),
    Column("opened", Integer, nullable=False),
    Column("closed", Integer, nullable=False),
    # The oldest event in the queue: if it is still there next time, statistics are not updated.
    Column("waiting", BigInteger),
)

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False, unique=True),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    # Sealed signing secrets: one, or two during a rotation, the newer one first.
    Column("secrets_sealed", LargeBinary, nullable=False),
    Column("seal_key_id", Text, nullable=False),
    # The older one also signs until this time.
    Column("previous_until", Time),
    Column("created_at", Time, nullable=False),
    # Since this time every delivery has failed.
    Column("failing_since", Time),
    Column("disabled_at", Time),
    Column("disabled_reason", Text),
    CheckConstraint("(disabled_at IS NULL) = (disabled_reason IS NULL)", name="disabled_has_reason"),
    CheckConstraint(
        f"disabled_reason IS NULL OR {_one_of('disabled_reason', DisabledReason)}", name="disabled_reason"
    ),
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    # The receiver sees it as `webhook-id`: the same at each try.
    Column("id", Uuid, primary_key=True, server_default=text("gen_random_uuid()")),
    # Assigned while the request's row is locked, so it gives the order of one request's moves.
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE"), nullable=False),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # Values that the request's row does not keep; all others are read from there.
    Column("event", Text, nullable=False),
    Column("at", Time, nullable=False),
    Column("reason", Text),
    Column("provider_code", Text),
    Column("expires_at", Time),
    # The delivery's state. `lease_until`, by Postgres's clock, is set while a worker holds it.
    Column("state", Text, nullable=False, server_default=WebhookState.PENDING.value),
    Column("tries", SmallInteger, nullable=False, server_default="0"),
    Column("next_try_at", Time),
    Column("lease_until", Time),
    # The newest try: an HTTP status, or the reason why there was none.
    Column("tried_at", Time),
    Column("http_status", SmallInteger),
    Column("problem", Text),
    CheckConstraint(_one_of("event", WebhookEvent), name="event"),
    CheckConstraint(_one_of("state", WebhookState), name="state"),
    CheckConstraint("(state = 'pending') = (next_try_at IS NOT NULL)", name="pending_has_time"),
    CheckConstraint("lease_until IS NULL OR state = 'pending'", name="held_is_pending"),
    Index("webhook_deliveries_request", "request_id", "number"),
    Index("webhook_deliveries_client", "client_id", "number"),
    Index("webhook_deliveries_left", "client_id", "number", postgresql_where=text("state <> 'delivered'")),
    Index("webhook_deliveries_due", "client_id", "next_try_at", postgresql_where=text("state = 'pending'")),
    postgresql_with={"fillfactor": "70", **_VACUUMED_OFTEN},
)

# Any statement that moves a request enqueues the client's event, in the same transaction. The subscription is
# checked first, since beginning an INSERT costs more than finding no subscriber. A delivery behind an earlier
# one of its request waits for that one's next try.
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

seal_counts = Table(
    "seal_counts",
    metadata,
    # An id of OTPQUEUE_SEAL_KEYS, and how many texts that key has sealed.
    Column("key_id", Text, primary_key=True),
    Column("seals", BigInteger, nullable=False),
    Column("updated_at", Time, nullable=False),
)

heartbeats = Table(
    "heartbeats",
    metadata,
    # The last heartbeat of each process: `worker|host:pid`.
    Column("process", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    # The connection to the broker; `heard_at` is the time of the last message.
    Column("in_touch", Boolean, nullable=False),
    Column("heard_at", Time),
    Column("version", Text, nullable=False),
    # How far the host's clock is ahead of Postgres's.
    Column("skew_s", Float),
    # By Postgres's clock.
    Column("started_at", Time, nullable=False),
    Column("seen_at", Time, nullable=False),
    CheckConstraint(_one_of("kind", ProcessKind), name="kind"),
    # Few rows, each updated every few seconds: no index on `seen_at` and free space on the page allow HOT
    # updates.
    postgresql_with={"fillfactor": "50"},
)

for _statement in create_statements():
    _escaped = _statement.replace("%", "%%")
    event.listen(metadata, "after_create", DDL(_escaped))  # type: ignore[no-untyped-call]
