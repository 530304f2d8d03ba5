"""Test numbers for app-store reviewers and end-to-end tests. Their code is fixed, and no message is sent."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime

LONGEST_DAYS = 90
"""The latest end date of a test number, in days after the process starts."""


@dataclass(frozen=True, kw_only=True)
class FixedCode:
    """The fixed code of a test number."""

    code: str = field(repr=False)
    until: date
    """The first day (UTC) on which the number is no longer a test number."""

    def is_in_force(self, now: datetime) -> bool:
        """Return whether the number is a test number at this moment."""
        return now.astimezone(UTC).date() < self.until

    def matches(self, code: str) -> bool:
        """Return whether this is the code. Compares in constant time."""
        return hmac.compare_digest(self.code.encode(), code.encode())


@dataclass(frozen=True)
class FixedCodes:
    """All test numbers, by E.164."""

    by_number: Mapping[str, FixedCode] = field(default_factory=dict, repr=False)

    def find_code(self, e164: str, *, now: datetime) -> FixedCode | None:
        """Return the number's fixed code, or None if it is not a test number at `now`."""
        found = self.by_number.get(e164)
        return found if found and found.is_in_force(now) else None
