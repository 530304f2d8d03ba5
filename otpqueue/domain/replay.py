"""A call that its caller may repeat without harm, and the answer that a repetition gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_NO_DIGITS = "??"


@dataclass(frozen=True, kw_only=True)
class IdempotentCall:
    """A call that came with an idempotency key."""

    name: str
    """Method and path: the same key on another path is another key."""
    key: str = field(repr=False)
    body: str = field(repr=False)
    """In one form for all bodies that mean the same."""


@dataclass(frozen=True, kw_only=True)
class StoredResponse:
    """What an accepted call was answered, as plain words of HTTP."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False
    """Whether an earlier call was given it first."""

    def without_digits(self, masked: str | None) -> StoredResponse:
        """Return the answer as it is stored: of a masked number without the two digits that it shows.

        Stored beside the request's id they would help who has no key to find the number.
        """
        return self._replaced(masked, masked and masked[:-2] + _NO_DIGITS)

    def with_digits(self, masked: str | None) -> StoredResponse:
        """Return a stored answer as it was given."""
        return self._replaced(masked and masked[:-2] + _NO_DIGITS, masked)

    def _replaced(self, old: str | None, new: str | None) -> StoredResponse:
        return replace(self, body=self.body.replace(old, new)) if old and new else self
