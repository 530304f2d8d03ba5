"""Who asks for a code, as the admission rules and the pumping guard see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from otpqueue.domain.guard import CountedSend
from otpqueue.domain.phone import PhoneNumber

Undo = Callable[[], None]
"""Gives back what was counted: nothing came of the try. Never raises."""


@dataclass(kw_only=True)
class Notes:
    """What the pumping guard notes of an applicant, to be stored with the request."""

    guard: CountedSend | None = None


@dataclass(frozen=True, kw_only=True)
class Applicant:
    """Who asks for a code, and for which number."""

    client_id: UUID
    number: PhoneNumber
    number_hashes: Sequence[bytes]
    """The one that is stored first; another while the look-up key is being replaced."""
    client_ip_hashes: Sequence[bytes] | None
    language: str | None
    resend: bool
    """Whether the code in hand is to be sent once more."""
    is_test: bool
    """Whether the number is a test number."""
    now: datetime
    keyless: bool = False
    """Whether the call came without an API key, from a stranger."""
    notes: Notes = field(default_factory=Notes)

    @property
    def number_hash(self) -> bytes:
        """The hash that is stored of the number."""
        return self.number_hashes[0]

    @property
    def client_ip_hash(self) -> bytes | None:
        """The hash that is stored of the end user's address."""
        return self.client_ip_hashes[0] if self.client_ip_hashes else None
