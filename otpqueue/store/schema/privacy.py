"""Evidence of erasures, and how often each sealing key was used."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ForeignKey, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.store.schema.base import Time, metadata

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

seal_counts = Table(
    "seal_counts",
    metadata,
    # An id of OTPQUEUE_SEAL_KEYS, and how many texts that key has sealed.
    Column("key_id", Text, primary_key=True),
    Column("seals", BigInteger, nullable=False),
    Column("updated_at", Time, nullable=False),
)
