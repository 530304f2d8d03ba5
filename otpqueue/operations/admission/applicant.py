"""The caller and number of an attempt, as the admission rules and the pumping guard need them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from otpqueue.domain.guard import CountedSend
from otpqueue.domain.phone import PhoneNumber

Undo = Callable[[], None]
"""Reverts the counts of an attempt that stored no request. Never raises."""


@dataclass(kw_only=True)
class Notes:
    """What the pumping guard stores with the request."""

    guard: CountedSend | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Applicant:
    """The caller of an attempt, and the number that it is for."""

    client_id: UUID
    number: PhoneNumber
    number_hashes: Sequence[bytes]
    """The first is stored. There is another while the hash key is being rotated."""
    client_ip_hashes: Sequence[bytes] | None
    language: str | None
    resend: bool
    """Whether it is a resend of the current code."""
    is_test: bool
    """Whether the number is a test number."""
    now: datetime
    keyless: bool = False
    """Whether the call has no API key."""
    notes: Notes = field(default_factory=Notes)

    @property
    def number_hash(self) -> bytes:
        """The hash of the number that is stored."""
        return self.number_hashes[0]

    @property
    def client_ip_hash(self) -> bytes | None:
        """The hash of the end user's address that is stored."""
        return self.client_ip_hashes[0] if self.client_ip_hashes else None
