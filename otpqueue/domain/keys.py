"""The states of an API key."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

SCOPES = frozenset({"send", "verify", "read", "admin"})

EXPIRING_WITHIN = timedelta(days=14)
"""A key counts as expiring for this long before its end."""


class KeyState(StrEnum):
    """The state of a key."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    """Still valid. It has been replaced, or ends within EXPIRING_WITHIN."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def get_key_state(
    *, expires_at: datetime | None, revoked_at: datetime | None, replaced: bool, now: datetime
) -> KeyState:
    """Return the state of a key at `now`."""
    if revoked_at:
        return KeyState.REVOKED
    if expires_at is None:
        return KeyState.ACTIVE
    if expires_at <= now:
        return KeyState.EXPIRED
    return KeyState.EXPIRING if replaced or expires_at - now <= EXPIRING_WITHIN else KeyState.ACTIVE
