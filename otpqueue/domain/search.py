"""What requests are looked for, and where in the list of those found a reader stands."""

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
"""A multiple of three: base64 has one form for them, without padding."""


@dataclass(frozen=True, kw_only=True)
class SearchFilters:
    """Which requests are looked for; None is any."""

    phone_number: str | None = field(default=None, repr=False)
    status: str | None = None
    """As it is shown."""
    created_after: datetime | None = None
    """This moment or later."""
    created_before: datetime | None = None
    """Before this moment."""
    client: str | None = None
    """A client's name."""

    def text(self) -> str:
        """Return the filters as one text: another one for other filters."""
        return repr(astuple(self))


@dataclass(frozen=True)
class SearchPosition:
    """The last request that a reader has been shown, or that was looked at for him."""

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
    """A request that was found, and whose it is."""

    request: OtpRequest
    client: str


@dataclass(frozen=True, kw_only=True)
class SearchPage:
    """A part of the list, newest first."""

    found: tuple[FoundRequest, ...]
    next_cursor: str | None
    """None at the end of the list."""


def to_cursor(position: SearchPosition, signature: bytes) -> str:
    """Return a position and its signature as one word."""
    return base64.urlsafe_b64encode(position.to_bytes() + signature).decode()


def from_cursor(cursor: str) -> tuple[SearchPosition, bytes]:
    """Return the position and the signature of a cursor.

    Raises ValueError for what cannot be one.
    """
    packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    if len(packed) != CURSOR_BYTES or base64.urlsafe_b64encode(packed).decode() != cursor:
        raise ValueError("a cursor has another length, and one form")
    try:
        return SearchPosition.from_bytes(packed[: _POSITION.size]), packed[_POSITION.size :]
    except OverflowError:
        raise ValueError("no moment") from None
