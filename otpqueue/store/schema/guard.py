"""The tallies, decisions and exceptions of the pumping guard."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, Column, Float, ForeignKey, Index, Integer, LargeBinary, Table, Text

from otpqueue.domain.guard import GuardMode
from otpqueue.store.schema.base import Time, metadata, one_of

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
    CheckConstraint(one_of("mode", GuardMode), name="mode"),
)

guard_exceptions = Table(
    "guard_exceptions",
    metadata,
    # A country's two letters, or the leading digits of numbers.
    Column("subject", Text, primary_key=True),
    Column("until", Time, nullable=False, index=True),
    Column("created_at", Time, nullable=False),
)
