"""The state of an API key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from otpqueue.domain.keys import EXPIRING_WITHIN, KeyState, get_key_state

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("ends_in", "revoked", "replaced", "expected"),
    [
        (None, False, False, "active"),
        (EXPIRING_WITHIN + SECOND, False, False, "active"),
        (EXPIRING_WITHIN, False, False, "expiring"),
        (EXPIRING_WITHIN + SECOND, False, True, "expiring"),
        (SECOND, False, True, "expiring"),
        (timedelta(0), False, False, "expired"),
        (-SECOND, False, True, "expired"),
        (SECOND, True, False, "revoked"),
        (-SECOND, True, True, "revoked"),
    ],
)
def test_states(ends_in: timedelta | None, revoked: bool, replaced: bool, expected: str) -> None:
    """A revoked key is always revoked. A replaced key, or one near its end, is expiring."""
    state = get_key_state(
        expires_at=None if ends_in is None else NOW + ends_in,
        revoked_at=NOW if revoked else None,
        replaced=replaced,
        now=NOW,
    )

    assert state is KeyState(expected)
