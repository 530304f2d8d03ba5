"""Idempotent API calls and their stored responses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

_NO_DIGITS = "??"


@dataclass(frozen=True, kw_only=True)
class IdempotentCall:
    """A call with an idempotency key."""

    name: str
    """Method and path. Keys are scoped by them: the same key on another path is a different key."""
    key: str = field(repr=False)
    body: str = field(repr=False)
    """The canonical form of the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredResponse:
    """The response to an accepted call."""

    status: int
    body: str
    headers: Mapping[str, str] = field(default_factory=dict)
    replayed: bool = False
    """Whether this is a repetition of the response to an earlier call."""

    def hide_digits(self, masked: str | None) -> StoredResponse:
        """Return the response in its stored form: without the two visible digits of the masked number.

        Stored next to the request's id, the digits would help an attacker who cannot decrypt the number.
        """
        return self._replace_text(masked, masked and masked[:-2] + _NO_DIGITS)

    def restore_digits(self, masked: str | None) -> StoredResponse:
        """Return a stored response with the digits restored."""
        return self._replace_text(masked and masked[:-2] + _NO_DIGITS, masked)

    def _replace_text(self, old: str | None, new: str | None) -> StoredResponse:
        return replace(self, body=self.body.replace(old, new)) if old and new else self
