"""The life of an API key: in force, coming to its end, over."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum

SCOPES = frozenset({"send", "verify", "admin"})

EXPIRING_WITHIN = timedelta(days=14)
"""Before its end a key counts as expiring: time to rotate it."""


class KeyState(StrEnum):
    """How a key stands."""

    ACTIVE = "active"
    EXPIRING = "expiring"
    """It works, and has been replaced or ends within EXPIRING_WITHIN."""
    EXPIRED = "expired"
    REVOKED = "revoked"


def key_state(
    *, expires_at: datetime | None, revoked_at: datetime | None, replaced: bool, now: datetime
) -> KeyState:
    """Return how a key stands at `now`."""
    if revoked_at:
        return KeyState.REVOKED
    if expires_at is None:
        return KeyState.ACTIVE
    if expires_at <= now:
        return KeyState.EXPIRED
    return KeyState.EXPIRING if replaced or expires_at - now <= EXPIRING_WITHIN else KeyState.ACTIVE
