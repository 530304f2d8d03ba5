"""The audit trail, and which numbers and requests its entries concerned."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.domain.audit import AuditOutcome, AuditSurface
from otpqueue.store.schema.base import Time, metadata, one_of

audit_entries = Table(
    "audit_entries",
    metadata,
    # Actions of operators. Append-only: triggers refuse every change but the purge. It leads to no phone
    # number: that link is in `audit_subjects`, which an erasure may delete from. Without
    # foreign keys, so that nothing else can change an entry.
    Column("id", Uuid, primary_key=True),
    Column("at", Time, nullable=False),
    # Not checked: an older version may write actions that a newer one no longer has.
    Column("action", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("surface", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("key_id", Uuid),
    Column("session", Text),
    Column("peer", Text),
    Column("call_id", Text),
    Column("client_id", Uuid),
    Column("target", Text),
    Column("country", Text),
    Column("reason", Text),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
    CheckConstraint(one_of("outcome", AuditOutcome), name="outcome"),
    CheckConstraint(one_of("surface", AuditSurface), name="surface"),
    Index("audit_entries_at", "at", "id"),
    Index("audit_entries_action", "action", "at"),
)

audit_subjects = Table(
    "audit_subjects",
    metadata,
    # Which number and request an entry concerned.
    Column("entry_id", Uuid, primary_key=True),
    Column("at", Time, nullable=False, index=True),
    Column("number_hash", LargeBinary, nullable=False),
    Column("request_id", Uuid),
    Index("audit_subjects_number", "number_hash", "at"),
)
