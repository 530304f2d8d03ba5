"""Test numbers: for app-store reviewers and end-to-end tests. Their code is fixed, and nothing is sent."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

LONGEST_DAYS = 90
"""A test number must end at most so many days after a process that knows it starts."""


@dataclass(frozen=True, kw_only=True)
class FixedCode:
    """The code of a test number."""

    code: str = field(repr=False)
    until: date
    """The number is a test number before this day (UTC) begins."""

    def is_in_force(self, now: datetime) -> bool:
        """Return whether the number is a test number at this moment."""
        return now.astimezone(UTC).date() < self.until

    def matches(self, code: str) -> bool:
        """Return whether this is the code, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.code.encode(), code.encode())


@dataclass(frozen=True)
class FixedCodes:
    """All test numbers, by E.164."""

    by_number: Mapping[str, FixedCode] = field(default_factory=dict, repr=False)

    def of(self, e164: str, *, now: datetime) -> FixedCode | None:
        """Return a number's fixed code, None for a number that is none, or no longer, a test number."""
        found = self.by_number.get(e164)
        return found if found and found.is_in_force(now) else None
