"""A request's history as values: its order, whatever the clocks say, and what a line says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from otpqueue.domain.history import (
    CodeCheck,
    EventKind,
    History,
    MoveSubject,
    ReportedDelivery,
    SendAttempt,
    StatusMove,
)
from otpqueue.domain.request import SendState, Status

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(seconds: float) -> datetime:
    """Return the moment so many seconds after acceptance."""
    return NOW + timedelta(seconds=seconds)


def attempt(number: int, claimed: float, finished: float | None = None, **differing: Any) -> SendAttempt:
    """Return an attempt that was taken, if it has finished."""
    done = finished is not None
    usual = SendAttempt(
        number=number,
        kind="fresh",
        channel="sms",
        worker="host:1",
        claimed_at=at(claimed),
        started_at=at(claimed) if done else None,
        finished_at=at(finished) if finished is not None else None,
        outcome="accepted" if done else None,
        retryable=None,
        code="MESSAGE_SENT" if done else None,
        http_status=200 if done else None,
        latency_ms=103 if done else None,
        evidence=None,
        delivery=None,
        delivery_status=None,
        delivery_error=None,
        done_at=None,
        price=None,
        currency=None,
    )
    return replace(usual, **differing)


def check(number: int, started: float, finished: float | None = None, verdict: str = "wrong") -> CodeCheck:
    """Return a check."""
    done = finished is not None
    return CodeCheck(
        number=number,
        started_at=at(started),
        finished_at=at(finished) if finished is not None else None,
        verdict=verdict if done else None,
        code="WRONG_PIN" if done else None,
        http_status=200 if done else None,
        latency_ms=None,
    )


def move(number: int, seconds: float, was: str | None, became: str, **differing: Any) -> StatusMove:
    """Return a move of the status."""
    usual = StatusMove(
        number=number, at=at(seconds), of=MoveSubject.STATUS, was=was, became=became, reason=None
    )
    return replace(usual, **differing)


def resend(
    number: int, seconds: float, was: str | None, became: str, reason: str | None = None
) -> StatusMove:
    """Return a move of a resend."""
    return move(number, seconds, was, became, of=MoveSubject.RESEND, reason=reason)


REPORT = ReportedDelivery(
    attempt=1,
    received_at=at(4),
    done_at=at(3),
    delivery="undelivered",
    status="UNDELIVERABLE_NOT_DELIVERED",
    error="EC_X",
    price=Decimal("0.0077"),
    currency="EUR",
)


def history(**differing: Any) -> History:
    """Return a history of nothing but acceptance, but for `differing`."""
    usual = History(
        id=UUID(int=1),
        client="shop",
        client_reference=None,
        phone_number="+44********23",
        country="GB",
        language=None,
        channel="sms",
        status=Status.QUEUED,
        send_state=SendState.DUE,
        reason=None,
        provider_code=None,
        created_at=NOW,
        send_by=at(90),
        sent_at=None,
        expires_at=None,
        verified_at=None,
        finished_at=None,
        sends=1,
        checks_used=0,
        checks_allowed=5,
        attempts=(),
        checks=(),
        receipts=(),
        moves=(),
    )
    return replace(usual, **differing)


def lines(made: History) -> list[tuple[float, str]]:
    """Return each event as seconds after acceptance and its line."""
    return [((event.at - NOW).total_seconds(), event.summary) for event in made.events]


def test_whole_life() -> None:
    """What came from five tables is one line of time."""
    made = history(
        attempts=(
            attempt(1, 1, 2, outcome="refused", retryable=True, code="UNAVAILABLE", http_status=503),
            attempt(2, 2.5, 3, outcome="unknown", code="timeout", http_status=None, evidence="left"),
            attempt(3, 40, 41, kind="resend", channel="voice"),
        ),
        checks=(check(1, 30, 31), check(2, 50, 51, "correct")),
        receipts=(REPORT,),
        moves=(
            move(7, 3, "queued", "sent"),
            move(8, 4, "sent", "undelivered"),
            resend(9, 39, None, "pending"),
            resend(12, 41, "pending", "sent"),
            move(15, 51, "undelivered", "verified", reason="code_correct"),
        ),
    )

    assert lines(made) == [
        (0, "accepted: shop, +44********23, GB, sms"),
        (1, "attempt 1 claimed: fresh, sms, by host:1"),
        (2, "attempt 1 refused (retryable): UNAVAILABLE, HTTP 503, 103 ms"),
        (2.5, "attempt 2 claimed: fresh, sms, by host:1"),
        (3, "attempt 2 unknown: timeout, 103 ms, evidence left"),
        (3, "queued -> sent"),
        (
            4,
            f"report on attempt 1: undelivered, {REPORT.status}, error EC_X, done 12:00:03, 0.0077 EUR",
        ),
        (4, "sent -> undelivered"),
        (30, "check 1 started"),
        (31, "check 1 wrong: WRONG_PIN, HTTP 200"),
        (39, "resend asked for"),
        (40, "attempt 3 claimed: resend, voice, by host:1"),
        (41, "attempt 3 accepted: MESSAGE_SENT, HTTP 200, 103 ms"),
        (41, "resend sent"),
        (50, "check 2 started"),
        (51, "check 2 correct: WRONG_PIN, HTTP 200"),
        (51, "undelivered -> verified: code_correct"),
    ]


def test_nothing_but_acceptance() -> None:
    """A request without an attempt has one line. A claimed one has two."""
    assert lines(history()) == [(0, "accepted: shop, +44********23, GB, sms")]
    held = history(attempts=(attempt(1, 1),), checks=(check(1, 2),))
    assert [event.kind for event in held.events] == [
        EventKind.ACCEPTED,
        EventKind.ATTEMPT_CLAIMED,
        EventKind.CHECK_STARTED,
    ]


def test_number_that_cannot_be_opened() -> None:
    """What is not known is left out of the line."""
    made = history(phone_number=None, country=None, channel="voice")

    assert lines(made) == [(0, "accepted: shop, voice")]


def test_moves_keep_their_order() -> None:
    """A clock that is behind moves no status before the one it came from; its own time is shown."""
    made = history(
        moves=(
            move(1, 5, "queued", "sent"),
            move(2, 4.8, "sent", "delivered"),
            move(3, 4.9, "delivered", "verified", reason="code_correct"),
        ),
        receipts=(replace(REPORT, received_at=at(4.7)),),
    )

    assert [line.split(":")[0] for _, line in lines(made)] == [
        "accepted",
        "report on attempt 1",
        "queued -> sent",
        "sent -> delivered",
        "delivered -> verified",
    ]
    assert [seconds for seconds, _ in lines(made)] == [0, 4.7, 5, 4.8, 4.9]


def test_nothing_ends_before_it_begins() -> None:
    """Also where two clocks say so."""
    made = history(attempts=(attempt(1, 3, 2),), checks=(check(1, 9, 8),))

    assert [event.kind for event in made.events][1:] == [
        EventKind.ATTEMPT_CLAIMED,
        EventKind.ATTEMPT_FINISHED,
        EventKind.CHECK_STARTED,
        EventKind.CHECK_FINISHED,
    ]


def test_everything_at_once() -> None:
    """Of what bears the same time causes come before what follows from them."""
    made = history(
        attempts=(attempt(1, 0, 0),),
        moves=(move(1, 0, "queued", "sent"), resend(2, 0, None, "pending"), resend(3, 1, "pending", "sent")),
    )
    asked = history(attempts=(attempt(2, 1, 1),), moves=(resend(1, 1, None, "pending"),))

    assert [line.split(":")[0] for _, line in lines(made)] == [
        "accepted",
        "attempt 1 claimed",
        "attempt 1 accepted",
        "queued -> sent",
        "resend asked for",
        "resend sent",
    ]
    assert [line.split(":")[0] for _, line in lines(asked)] == [
        "accepted",
        "resend asked for",
        "attempt 2 claimed",
        "attempt 2 accepted",
    ]


@pytest.mark.parametrize(
    ("status", "send_state", "shown"),
    [
        (Status.QUEUED, SendState.CLAIMED, "sending"),
        (Status.QUEUED, SendState.DUE, "queued"),
        (Status.SENT, SendState.CLAIMED, "sent"),
    ],
)
def test_shown_status(status: Status, send_state: SendState, shown: str) -> None:
    """The status is the one that callers see."""
    assert history(status=status, send_state=send_state).shown_status == shown


def test_reason_of_a_failed_resend() -> None:
    """A resend that failed says why."""
    assert lines(history(moves=(resend(1, 2, "pending", "failed", "REJECTED"),)))[1:] == [
        (2, "resend failed: REJECTED")
    ]
