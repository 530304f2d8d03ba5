"""Filters, pages and cursors of the request search."""

from __future__ import annotations

import base64
import struct
from dataclasses import astuple, dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from otpqueue.domain.request import OtpRequest

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_POSITION = struct.Struct(">q16s")
SIGNATURE_BYTES = 18
CURSOR_BYTES = _POSITION.size + SIGNATURE_BYTES
"""A multiple of three, so that base64 needs no padding and has one form."""


@dataclass(frozen=True, kw_only=True)
class SearchFilters:
    """The filters of a search. None matches every request."""

    phone_number: str | None = field(default=None, repr=False)
    status: str | None = None
    """The shown status."""
    created_after: datetime | None = None
    """Inclusive."""
    created_before: datetime | None = None
    """Exclusive."""
    client: str | None = None
    """The name of a client."""

    def to_text(self) -> str:
        """Return a text that is equal for equal filters only."""
        return repr(astuple(self))


@dataclass(frozen=True)
class SearchPosition:
    """The last request that a search has returned or skipped."""

    created_at: datetime
    id: UUID

    def to_bytes(self) -> bytes:
        """Return the position in 24 bytes."""
        return _POSITION.pack((self.created_at - _EPOCH) // timedelta(microseconds=1), self.id.bytes)

    @classmethod
    def from_bytes(cls, packed: bytes) -> SearchPosition:
        """Return the position that `to_bytes` packed."""
        microseconds, id_ = _POSITION.unpack(packed)
        return cls(_EPOCH + timedelta(microseconds=microseconds), UUID(bytes=id_))


@dataclass(frozen=True, kw_only=True)
class FoundRequest:
    """A request and the name of its client."""

    request: OtpRequest
    client: str


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """One page of results, newest first."""

    found: tuple[FoundRequest, ...]
    next_cursor: str | None
    """None at the end of the list."""


def to_cursor(position: SearchPosition, signature: bytes) -> str:
    """Return a position and its signature as a cursor."""
    return base64.urlsafe_b64encode(position.to_bytes() + signature).decode()


def from_cursor(cursor: str) -> tuple[SearchPosition, bytes]:
    """Return the position and the signature of a cursor.

    Raises ValueError for text that is not a cursor.
    """
    packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    if len(packed) != CURSOR_BYTES or base64.urlsafe_b64encode(packed).decode() != cursor:
        raise ValueError("not the length or form of a cursor")
    try:
        return SearchPosition.from_bytes(packed[: _POSITION.size]), packed[_POSITION.size :]
    except OverflowError:
        raise ValueError("not a valid time") from None
