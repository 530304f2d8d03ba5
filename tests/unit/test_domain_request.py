"""The life cycle of a request: transitions, final statuses and the shown status."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from otpqueue.domain.request import (
    CHECKABLE,
    FINAL,
    LIVE,
    MOVES,
    Channel,
    OtpRequest,
    SendState,
    Status,
    find_sources,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)

ALLOWED = {
    "queued": {"sent", "failed", "expired", "cancelled"},
    "sent": {"delivered", "undelivered", "verified", "locked", "expired", "cancelled"},
    "delivered": {"verified", "locked", "expired", "cancelled"},
    "undelivered": {"delivered", "verified", "locked", "expired", "cancelled"},
    "verified": set(),
    "failed": set(),
    "expired": set(),
    "locked": set(),
    "cancelled": set(),
}


def a_request(**fields: Any) -> OtpRequest:
    """Return a request that was just accepted, but for `fields`."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "client_id": uuid4(),
        "phone_number": "+44********23",
        "channel": Channel.SMS,
        "status": Status.QUEUED,
        "send_state": SendState.DUE,
        "reason": None,
        "provider_code": None,
        "client_reference": None,
        "created_at": NOW,
        "send_by": NOW,
        "sent_at": None,
        "expires_at": None,
        "verified_at": None,
        "checks_allowed": 5,
        "checks_used": 0,
        "check_in_flight": False,
        "updated_at": NOW,
        "sends": 1,
        "resend": None,
        "resend_channel": None,
        "resend_reason": None,
        "resend_after": None,
    }
    return OtpRequest(**(values | fields))


@pytest.mark.parametrize("target", list(Status))
@pytest.mark.parametrize("source", list(Status))
def test_moves_are_those_of_the_table_and_no_other(source: Status, target: Status) -> None:
    """Exactly the transitions of the table are possible."""
    expected = target.value in ALLOWED[source.value]

    assert (target in MOVES[source]) == expected
    assert (source in find_sources(target)) == expected


def test_every_status_is_final_or_live() -> None:
    """Nothing leaves a final status, and everything else is live."""
    assert {status.value for status in FINAL} == {"verified", "failed", "expired", "locked", "cancelled"}
    assert set(FINAL) | set(LIVE) == set(Status)
    assert not FINAL & LIVE


def test_a_code_that_was_sent_can_be_checked() -> None:
    """A code is checkable from when it was sent until the request ends, whatever a receipt says."""
    assert {Status.SENT, Status.DELIVERED, Status.UNDELIVERED} == CHECKABLE


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("send_state", list(SendState))
def test_queued_request_in_a_workers_hand_is_shown_as_sending(status: Status, send_state: SendState) -> None:
    """`sending` is what the caller sees while a worker holds a queued request; all else is shown as it is."""
    request = a_request(status=status, send_state=send_state)

    held = status is Status.QUEUED and send_state is SendState.CLAIMED
    assert request.shown_status == ("sending" if held else status.value)


@pytest.mark.parametrize("status", list(Status))
def test_checks_are_left_until_the_request_ends(status: Status) -> None:
    """Remaining checks are those allowed less those used, and none after the end."""
    request = a_request(status=status, checks_allowed=5, checks_used=2)

    assert request.checks_left == (0 if status in FINAL else 3)
    assert request.is_final == (status in FINAL)
