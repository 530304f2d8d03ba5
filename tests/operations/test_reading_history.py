"""The history of a request from real parts, and reports that a killed worker left unmatched."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest
import structlog
from sqlalchemy import select, update

from otpqueue import clock
from otpqueue.api.resources.history import HistoryResponse
from otpqueue.domain.errors import CodeIncorrect, DatabaseUnavailable, RequestNotFound
from otpqueue.domain.history import EventKind
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import Channel
from otpqueue.operations import expire
from otpqueue.operations.verify import TypedCode
from otpqueue.store.engine import connection
from otpqueue.store.schema import moves, receipts, send_attempts
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows


def report(message_id: str) -> Receipt:
    """Return a report that a message was delivered."""
    return Receipt(
        message_id=message_id,
        delivery=DeliveryState.DELIVERED,
        status="DELIVERED_TO_HANDSET",
        error=None,
        done_at=None,
        price=Decimal("0.0077"),
        currency="EUR",
    )


def test_whole_life(parts: Parts, ask: Ask, rows: Rows, provider: Provider) -> None:
    """A refused attempt, an accepted one, a report, a wrong code, a resend by voice, the right code."""
    provider.fault(match={"path": "/2fa/2/pin"}, status=503, times=1)
    request = ask()
    parts.pump.run()
    message_id = rows.attempts(request.id)[1]["external_message_id"]
    parts.receipts([report(message_id)], now=clock.now())
    code = provider.code()
    wrong = TypedCode(code=f"{(int(code) + 1) % 1_000_000:06}")
    with pytest.raises(CodeIncorrect):
        parts.verify(request.id, wrong, client_id=request.client_id, now=clock.now())
    rows.change(request.id, resend_after=clock.now())
    parts.resend(request.id, client_id=request.client_id, channel=Channel.VOICE, now=clock.now())
    parts.pump.run()
    parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())

    history = parts.history(request.id)

    K = EventKind  # noqa: N806 - a short name for the list below
    assert [event.kind for event in history.events] == [
        *[K.ACCEPTED, K.ATTEMPT_CLAIMED, K.ATTEMPT_FINISHED, K.ATTEMPT_CLAIMED, K.ATTEMPT_FINISHED, K.STATUS],
        *[K.RECEIPT, K.STATUS, K.CHECK_STARTED, K.CHECK_FINISHED],
        *[K.RESEND, K.ATTEMPT_CLAIMED, K.ATTEMPT_FINISHED, K.RESEND],
        *[K.CHECK_STARTED, K.CHECK_FINISHED, K.STATUS],
    ]
    assert [event.details["became"] for event in history.events if event.kind is K.STATUS] == [
        "sent",
        "delivered",
        "verified",
    ]
    assert [(one.kind, one.channel, one.outcome) for one in history.attempts] == [
        ("fresh", "sms", "refused"),
        ("fresh", "sms", "accepted"),
        ("resend", "voice", "accepted"),
    ]
    assert (history.attempts[1].delivery, history.attempts[1].price) == ("delivered", Decimal("0.0077"))
    assert [one.verdict for one in history.checks] == ["wrong", "correct"]
    assert [(one.attempt, one.status) for one in history.receipts] == [(2, "DELIVERED_TO_HANDSET")]
    row = rows.request(request.id)
    assert history.events[-1].at == row["finished_at"] == row["updated_at"]
    assert (history.client, history.phone_number, history.country) == ("test", "+44********23", "GB")
    assert (history.shown_status, history.reason, history.sends) == ("verified", "code_correct", 2)


def test_history_has_no_secret(parts: Parts, ask_sent: AskSent, rows: Rows, provider: Provider) -> None:
    """A history has no number, code, session or id of the provider."""
    request = ask_sent(session_id="the-session", client_ip="192.0.2.7", client_reference="the-reference")
    code = provider.code()
    parts.receipts([report(rows.attempts(request.id)[0]["external_message_id"])], now=clock.now())
    parts.verify(
        request.id,
        TypedCode(code=code, session_id="the-session"),
        client_id=request.client_id,
        now=clock.now(),
    )
    attempt = rows.attempts(request.id)[0]
    history = parts.history(request.id)

    for text in (repr(history), HistoryResponse.of(history).model_dump_json()):
        for secret in (NUMBER[1:], attempt["pin_id"], attempt["external_message_id"], "the-session"):
            assert secret not in text
        assert "192.0.2.7" not in text
    assert f'"{code}"' not in HistoryResponse.of(history).model_dump_json()


def test_unknown_id(parts: Parts) -> None:
    """An unknown id is not found."""
    with pytest.raises(RequestNotFound, match="no OTP request with this id"):
        parts.history(uuid4())


def test_database_down(make_parts: MakeParts) -> None:
    """Without a database the history is unavailable."""
    with pytest.raises(DatabaseUnavailable):
        make_parts(DATABASE_URL="postgresql://x@127.0.0.1:1/x").history(uuid4())


def test_number_without_its_key(parts: Parts, make_parts: MakeParts, ask_sent: AskSent) -> None:
    """Without the seal key the history has everything but the number."""
    request = ask_sent()
    others = make_parts(OTPQUEUE_SEAL_KEYS="k2:" + "b" * 43 + "=")

    assert others.history(request.id).phone_number is None
    assert others.history(request.id).moves == parts.history(request.id).moves != ()


def leave_over(parts: Parts, message_id: str) -> None:
    """Leave a report unmatched, as a worker that dies between recording the attempt and matching reports."""
    with connection(parts.engine) as conn:
        conn.execute(update(send_attempts).values(external_message_id=None))
    parts.receipts([report(message_id)], now=clock.now())
    with connection(parts.engine) as conn:
        conn.execute(update(send_attempts).values(external_message_id=message_id))
        assert conn.execute(select(receipts.c.request_id)).scalars().all() == [None]


def test_left_over_reports_are_matched(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """An unmatched report is matched seconds later, once."""
    request = ask_sent()
    leave_over(parts, "left-over")
    parts.expire(now=clock.now())  # it may be about to be matched
    assert rows.request(request.id)["status"] == "sent"
    now = clock.now() + timedelta(seconds=15)

    with structlog.testing.capture_logs() as logs:
        parts.expire(now=now)
        parts.expire(now=now)

    row = rows.request(request.id)
    assert (row["status"], row["updated_at"]) == ("delivered", now)
    assert parts.history(request.id).receipts[0].attempt == 1
    assert [move.became for move in parts.history(request.id).moves] == ["sent", "delivered"]
    assert [log["messages"] for log in logs if log["event"] == "receipts_matched_late"] == [1]


def test_left_over_report_just_before_its_deletion(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A late match still comes before the deletion."""
    request = ask_sent()
    leave_over(parts, "left-over")

    parts.expire(now=clock.now() + timedelta(hours=2))

    # Its code has expired by then.
    assert rows.request(request.id)["status"] == "expired"
    assert rows.attempts(request.id)[0]["delivery"] == "delivered"
    assert len(parts.history(request.id).receipts) == 1


def test_left_over_report_behind_those_of_others(
    parts: Parts, ask_sent: AskSent, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older unmatched reports of others do not delay it, and a batch is bounded."""
    monkeypatch.setattr(expire, "_LEFTOVERS_AT_MOST", 10)
    now = clock.now()
    request = ask_sent()
    parts.receipts([report(f"unknown-{i}") for i in range(50)], now=now - timedelta(minutes=5))
    with connection(parts.engine) as conn:
        conn.execute(update(send_attempts).values(external_message_id=None))
    parts.receipts([report("left-over")], now=now)
    with connection(parts.engine) as conn:
        conn.execute(update(send_attempts).values(external_message_id="left-over"))

    parts.expire(now=now + timedelta(seconds=15))

    assert rows.request(request.id)["status"] == "delivered"


def test_histories_are_each_their_own(parts: Parts, ask_sent: AskSent) -> None:
    """A request's history has no events of another."""
    first, second = ask_sent(), ask_sent("+447700900124")
    parts.cancel(second.id, client_id=second.client_id, now=clock.now())

    assert [move.became for move in parts.history(first.id).moves] == ["sent"]
    assert [move.became for move in parts.history(second.id).moves] == ["sent", "cancelled"]
    with connection(parts.engine) as conn:
        assert len(conn.execute(select(moves)).all()) == 3
