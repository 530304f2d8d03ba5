"""Accepting a request: the row, the refusals, the wake-up."""

from __future__ import annotations

import time
from functools import partial
from uuid import UUID

import pytest

from otpqueue import clock
from otpqueue.domain.errors import InvalidPhoneNumber, NumberNotAllowed
from otpqueue.domain.request import OtpRequest, SendState, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, Ask, MakeParts
from tests.operations.looking import Rows, at_once, numbers

PREMIUM = "+449012345678"
QUEUE = "send"


def test_request_is_stored_as_due_and_sealed(ask: Ask, rows: Rows) -> None:
    """An accepted request is due at once. Its row has no number, session or address in clear."""
    request = ask(session_id="session-of-ann", client_ip="203.0.113.77", client_reference="order 7")

    row = rows.request(request.id)
    assert (row["status"], row["send_state"], row["attempt"]) == ("queued", "due", 0)
    assert row["next_attempt_at"] == row["created_at"] < row["send_by"]
    assert row["expires_at"] is None
    assert row["client_reference"] == "order 7"
    stored = b"|".join(v if isinstance(v, bytes) else str(v).encode() for v in row.values())
    for plain in (NUMBER, NUMBER.removeprefix("+"), NUMBER[-9:], "session-of-ann", "203.0.113.77"):
        assert plain.encode() not in stored
    assert NUMBER[-5:] not in request.phone_number


def test_same_number_is_sealed_differently_each_time(ask: Ask, rows: Rows) -> None:
    """Two rows of one number have the same hash, but different sealed numbers."""
    first, second = ask(), ask()

    one, other = rows.request(first.id), rows.request(second.id)
    assert one["number_hash"] == other["number_hash"]
    assert one["number_sealed"] != other["number_sealed"]


def test_newer_request_replaces_older(parts: Parts, ask: Ask, rows: Rows) -> None:
    """A new request for the same number and session cancels the older one, which is not sent."""
    older = ask(session_id="s")

    newer = ask(session_id="s")

    replaced = rows.request(older.id)
    assert (replaced["status"], replaced["reason"]) == ("cancelled", "replaced")
    assert (replaced["send_state"], replaced["next_attempt_at"]) == ("idle", None)
    assert replaced["finished_at"] is not None
    parts.pump.run()
    assert [row["request_id"] for row in rows.attempts()] == [newer.id]


def test_sent_request_is_replaced_too(parts: Parts, ask: Ask, rows: Rows) -> None:
    """A newer request also ends one that was sent: there is one live request per number and session."""
    older = ask()
    parts.pump.run()

    newer = ask()

    assert rows.request(older.id)["reason"] == "replaced"
    assert rows.request(newer.id)["status"] == "queued"


def test_others_are_not_replaced(make_parts: MakeParts, client_id: UUID, rows: Rows) -> None:
    """A request of another session, number or client, or without a session, is not replaced."""
    parts = make_parts(**NO_LIMITS)

    def ask(number: str = NUMBER, session_id: str | None = None) -> OtpRequest:
        wanted = RequestedCode(phone_number=number, session_id=session_id)
        return parts.request(wanted, client_id=client_id, now=clock.now())

    with connection(parts.engine) as conn:
        other_client = clients.ensure_client(conn, "other", now=clock.now())
    kept = [ask(session_id="a"), ask(session_id="b"), ask(), ask(numbers(1)[0], session_id="a")]
    wanted = RequestedCode(phone_number=NUMBER, session_id="a")
    kept.append(parts.request(wanted, client_id=other_client, now=clock.now()))

    newer = ask(session_id="a")

    assert rows.request(kept[0].id)["reason"] == "replaced"
    live = {row["id"] for row in rows.requests() if row["status"] == "queued"}
    assert live == {request.id for request in (*kept[1:], newer)}


def test_national_and_spaced_numbers_are_the_same_person(ask: Ask, rows: Rows) -> None:
    """Any spelling of a number is the same number: the newer request replaces the older."""
    older = ask("+44 7700 900123")

    ask("07700 900123", country="GB")

    assert rows.request(older.id)["reason"] == "replaced"


@pytest.mark.parametrize(
    ("number", "reason"),
    [(PREMIUM, "premium_rate_number"), (NUMBER, "documentation_number")],
    ids=["premium", "documentation"],
)
def test_refused_number_leaves_a_refusal(
    make_parts: MakeParts, client_id: UUID, rows: Rows, number: str, reason: str
) -> None:
    """A refused number is recorded as a small row without the number."""
    parts = make_parts(OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")
    wanted = RequestedCode(phone_number=number, client_ip="203.0.113.77")

    with pytest.raises(NumberNotAllowed) as refused:
        parts.request(wanted, client_id=client_id, now=clock.now())

    assert refused.value.reason == reason
    (refusal,) = rows.refusals()
    assert (refusal["client_id"], refusal["reason"]) == (client_id, reason)
    assert refusal["number_hash"] == parts.vault.number_hash(number)
    assert refusal["client_ip_hash"] == parts.vault.address_hash("203.0.113.77")
    assert rows.requests() == []


@pytest.mark.parametrize("number", ["", "abc", "+44", "+999123456789", "07700900123", "+4477009001234567"])
def test_invalid_number_leaves_nothing(ask: Ask, rows: Rows, number: str) -> None:
    """An invalid number is refused and stored nowhere."""
    with pytest.raises(InvalidPhoneNumber):
        ask(number)

    assert rows.requests() == []
    assert rows.refusals() == []


def test_many_requests_publish_one_wake_up(parts: Parts, ask: Ask) -> None:
    """While a wake-up is pending no other is published: at most one a second."""
    start = time.monotonic()

    for number in numbers(20):
        ask(number)

    assert 1 <= parts.redis.llen(QUEUE) <= 1 + (time.monotonic() - start)


def test_redis_down_delays_no_request(
    make_parts: MakeParts, client_id: UUID, rows: Rows, closed_port: int
) -> None:
    """If no limit needs Redis, a request is accepted without it, and quickly."""
    parts = make_parts(**NO_LIMITS, REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")
    start = time.monotonic()

    accepted = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    assert time.monotonic() - start < 2
    assert rows.request(accepted.id)["send_state"] == SendState.DUE


@pytest.mark.parametrize("setting", ["REDIS_URL", "OTPQUEUE_BROKER_URL"])
def test_hung_redis_delays_no_request(
    make_parts: MakeParts, client_id: UUID, rows: Rows, hung_port: int, setting: str
) -> None:
    """A Redis or broker that accepts the connection and never answers delays a request by at most 2 s."""
    parts = make_parts(**NO_LIMITS, **{setting: f"redis://127.0.0.1:{hung_port}/0"})
    start = time.monotonic()

    accepted = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    assert time.monotonic() - start < 2
    assert rows.request(accepted.id)["send_state"] == SendState.DUE


def test_dead_broker_delays_no_request(
    make_parts: MakeParts, client_id: UUID, rows: Rows, closed_port: int
) -> None:
    """With only the broker down a request is accepted quickly."""
    parts = make_parts(OTPQUEUE_BROKER_URL=f"redis://127.0.0.1:{closed_port}/0")
    start = time.monotonic()

    accepted = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    assert time.monotonic() - start < 2
    assert rows.request(accepted.id)["send_state"] == SendState.DUE


@pytest.mark.parametrize(("at_a_time", "rounds"), [(2, 20), (4, 8), (16, 6)])
def test_concurrent_requests_leave_one_live(
    make_parts: MakeParts, client_id: UUID, rows: Rows, at_a_time: int, rounds: int
) -> None:
    """Of concurrent requests for one number and session exactly one stays live. It replaces the others."""
    request = make_parts(**NO_LIMITS).request
    for number in numbers(rounds):
        wanted = RequestedCode(phone_number=number, session_id="s")
        ask = partial(request, wanted, client_id=client_id, now=clock.now())
        accepted = at_once([ask] * at_a_time)

        stored = [rows.request(request.id) for request in accepted]
        assert sorted(row["status"] for row in stored) == ["cancelled"] * (at_a_time - 1) + [Status.QUEUED]
        assert {row["reason"] for row in stored} == {None, "replaced"}
