"""Requests for codes, the history of their status, and the responses stored for Idempotency-Keys."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.domain.history import MoveSubject
from otpqueue.domain.request import LIVE, Resend, SendKind, SendState, Status
from otpqueue.store.schema.base import VACUUMED_OFTEN, Time, metadata, one_of

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
    CheckConstraint(one_of("status", Status), name="status"),
    CheckConstraint(one_of("send_state", SendState), name="send_state"),
    CheckConstraint(one_of("send_kind", SendKind), name="send_kind"),
    CheckConstraint(f"resend IS NULL OR {one_of('resend', Resend)}", name="resend"),
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
        postgresql_where=text(one_of("status", LIVE)),
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
        postgresql_where=text(f"{one_of('status', LIVE)} AND expires_at IS NOT NULL"),
    ),
    Index("otp_requests_number", "number_hash", "created_at"),
    Index("otp_requests_created", "created_at", "id"),
    # For a key rotation, and for the check of required keys at every start.
    Index("otp_requests_sealed_with", "seal_key_id", "id"),
    Index("otp_requests_ended", "finished_at", postgresql_where=text("finished_at IS NOT NULL")),
    # A row is updated three to five times in its short life. Free space on the page allows HOT updates.
    postgresql_with={"fillfactor": "70", **VACUUMED_OFTEN},
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
    CheckConstraint(one_of("of", MoveSubject), name="of"),
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
