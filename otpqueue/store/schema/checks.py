"""Checks of codes, and the wrong codes that limit further ones."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)

from otpqueue.domain.checking import CheckVerdict
from otpqueue.store.schema.base import Time, metadata, one_of

WRONG = "(verdict IS NULL OR verdict IN ('unknown', 'wrong'))"
"""A guess counts as wrong until the provider has said otherwise, or has not judged it."""

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
    CheckConstraint(f"verdict IS NULL OR {one_of('verdict', CheckVerdict)}", name="verdict"),
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
    # Wrong codes before that time do not count.
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
