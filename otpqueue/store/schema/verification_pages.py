"""Hosted verification pages."""

from __future__ import annotations

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    Table,
    Text,
    Uuid,
    text,
)

from otpqueue.domain.request import Channel
from otpqueue.store.schema.base import Time, metadata, one_of

verification_pages = Table(
    "verification_pages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("client_id", ForeignKey("clients.id"), nullable=False),
    # Of the secret in the link.
    Column("link_hash", LargeBinary, nullable=False, unique=True),
    # Of the cookie of the first browser that opened the link.
    Column("browser_hash", LargeBinary),
    Column("is_embedded", Boolean, nullable=False, server_default="false"),
    # The number that the client gave. One that the person gives is in the request alone.
    Column("number_hash", LargeBinary),
    Column("number_sealed", LargeBinary),
    Column("seal_key_id", Text),
    Column("channel", Text, nullable=False),
    Column("language", Text),
    Column("return_url", Text, nullable=False),
    Column("state", Text),
    Column("client_reference", Text),
    # The newest request that the page has made.
    Column("request_id", ForeignKey("otp_requests.id", ondelete="CASCADE")),
    Column("created_at", Time, nullable=False),
    Column("expires_at", Time, nullable=False),
    Column("opened_at", Time),
    # Of the newest token that the browser was sent back with.
    Column("token_hash", LargeBinary),
    Column("token_expires_at", Time),
    Column("redeemed_at", Time),
    CheckConstraint(one_of("channel", Channel), name="channel"),
    CheckConstraint(
        "(number_hash IS NULL) = (number_sealed IS NULL) AND (number_sealed IS NULL) = (seal_key_id IS NULL)",
        name="number_is_whole",
    ),
    CheckConstraint("(browser_hash IS NULL) = (opened_at IS NULL)", name="opened_by_a_browser"),
    CheckConstraint("(token_hash IS NULL) = (token_expires_at IS NULL)", name="token_expires"),
    CheckConstraint("redeemed_at IS NULL OR token_hash IS NOT NULL", name="redeemed_by_a_token"),
    Index("verification_pages_number", "number_hash", postgresql_where=text("number_hash IS NOT NULL")),
    Index(
        "verification_pages_seal_key",
        "seal_key_id",
        "id",
        postgresql_where=text("seal_key_id IS NOT NULL"),
    ),
    Index("verification_pages_request", "request_id", postgresql_where=text("request_id IS NOT NULL")),
    Index("verification_pages_token", "token_hash", postgresql_where=text("token_hash IS NOT NULL")),
    Index("verification_pages_expiry", "expires_at"),
)
