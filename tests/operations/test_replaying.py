"""Idempotency: repeated calls run once and get the same response; calls that differ are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import delete, select, text

from otpqueue import clock
from otpqueue.domain.errors import (
    AlreadyVerified,
    CodeIncorrect,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidPhoneNumber,
    LimitExceeded,
    RequestNotFound,
)
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.replay import HeldCall
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.store.schema import idempotency_keys, otp_requests
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once

Repeat = Callable[..., StoredResponse]
DAY_S = 86_400


def answer_of(request: OtpRequest) -> StoredResponse:
    """Return a response that identifies the request and its state."""
    return StoredResponse(status=202, body=f"{request.id} {request.status.value}")


def a_call(key: str = "key", body: str = NUMBER, name: str = "POST /v1/otp-requests") -> IdempotentCall:
    """Return a call."""
    return IdempotentCall(name=name, key=key, body=body)


@pytest.fixture
def ask_once(parts: Parts, client_id: UUID) -> Repeat:
    """Return a function that requests a code with an Idempotency-Key."""

    def ask_once(
        call: IdempotentCall | None = None, *, number: str = NUMBER, by: UUID | None = None, **more: Any
    ) -> StoredResponse:
        request = more.pop("parts", parts).request
        given = {"call": call or a_call(), "client_id": by or client_id, "now": clock.now()} | more
        return request.once(RequestedCode(phone_number=number), answer=answer_of, **given)

    return ask_once


Hold = Callable[..., HeldCall]


@pytest.fixture
def hold(parts: Parts, client_id: UUID) -> Hold:
    """Return a function that holds the key of a call, for `lease_s` if given."""

    def hold(call: IdempotentCall | None = None, **leased: float) -> HeldCall:
        replays = replace(parts.idempotent_responses, **leased)  # type: ignore[arg-type]
        return replays.hold(call or a_call(), make=answer_of, client_id=client_id, now=clock.now())

    return hold


def test_repetition_gets_the_first_answer(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """One request is made, and later changes of it do not affect the replayed response."""
    first = ask_once()
    parts.pump.run()
    again = [ask_once() for _ in range(3)]

    (request,) = rows.requests()
    assert request["status"] == "sent"
    assert first == StoredResponse(status=202, body=f"{request['id']} queued")
    assert again == [replace(first, replayed=True)] * 3


def test_two_hundred_calls_with_one_key(ask_once: Repeat, rows: Rows) -> None:
    """Of concurrent calls one makes a request. The others get its response or a conflict."""
    answers = at_once([ask_once] * 200)

    (request,) = rows.requests()
    given = [one for one in answers if isinstance(one, StoredResponse)]
    refused = [one for one in answers if not isinstance(one, StoredResponse)]
    assert {one.body for one in given} == {f"{request['id']} queued"}
    assert sum(not one.replayed for one in given) == 1
    assert {one.code for one in refused} <= {"idempotency_in_progress", "database_unavailable"}
    assert all(one.retry_after_s for one in refused)
    assert ask_once().body == f"{request['id']} queued"


def test_same_key_with_another_body(ask_once: Repeat, rows: Rows) -> None:
    """A key with another body is refused."""
    ask_once()

    with pytest.raises(IdempotencyKeyReused):
        ask_once(a_call(body="another"))
    assert len(rows.requests()) == 1


def test_keys_of_calls_clients_and_names_are_apart(
    parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows
) -> None:
    """Another key, path or client is another call, even with the same body."""
    with connection(parts.engine) as conn:
        stranger = clients.ensure_client(conn, "stranger", now=clock.now())
    ask_once()
    ask_once(a_call(key="Key"))
    ask_once(a_call(name="POST /elsewhere"))

    ask_once(by=stranger)

    assert [row["client_id"] for row in rows.requests()] == [client_id] * 3 + [stranger]


def test_key_is_good_for_a_day(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """A day after the first call its key makes a new request."""
    start = clock.now()
    moments = [start, start + timedelta(seconds=DAY_S - 1), start + timedelta(seconds=DAY_S)]

    first, replayed = (ask_once(now=moment) for moment in moments[:2])
    # By then the mark of the running call has expired.
    parts.redis.delete(*parts.redis.keys("otpqueue:running:*"))
    fresh = ask_once(now=moments[2])

    assert replayed == replace(first, replayed=True)
    assert not fresh.replayed
    assert len(rows.requests()) == 2


def test_refused_call_does_not_use_its_key(ask_once: Repeat, rows: Rows) -> None:
    """Only accepted calls are stored, so a corrected call may use the same key."""
    with pytest.raises(InvalidPhoneNumber):
        ask_once(a_call(body="nonsense"), number="+44")

    assert not ask_once().replayed
    assert len(rows.requests()) == 1


def test_running_call_keeps_others_away(ask_once: Repeat, hold: Hold, rows: Rows) -> None:
    """While a call holds its key, others with the same key get a conflict."""
    with hold():
        for other in (ask_once, hold):
            with pytest.raises(IdempotencyInProgress) as refused:
                other()
            assert refused.value.retry_after_s == 1

    assert rows.requests() == []


def test_failed_call_releases_its_key(ask_once: Repeat, hold: Hold) -> None:
    """A call that is refused while it holds its key releases it."""
    with pytest.raises(RequestNotFound), hold():
        raise RequestNotFound

    assert not ask_once().replayed


def test_twin_calls_are_counted_once(ask_once: Repeat, rows: Rows) -> None:
    """Five concurrent calls with one key count as one of the three allowed attempts."""
    at_once([ask_once] * 5)

    for key in ("b", "c"):
        assert not ask_once(a_call(key=key)).replayed
    with pytest.raises(LimitExceeded):
        ask_once(a_call(key="d"))
    assert len(rows.requests()) == 3


def test_call_that_is_refused_leaves_its_key_free(ask_once: Repeat) -> None:
    """A rate-limited call may be repeated with the same key, and is then refused by the limit again."""
    for key in ("a", "b", "c"):
        ask_once(a_call(key=key))

    for _ in range(2):
        with pytest.raises(LimitExceeded):
            ask_once(a_call(key="d"))


def test_killed_call_may_be_repeated_after_its_lease(ask_once: Repeat, hold: Hold, rows: Rows) -> None:
    """A killed process leaves a lease and no request. The key is free when the lease expires."""
    hold(lease_s=0.0)

    assert not ask_once().replayed
    assert ask_once().replayed
    assert len(rows.requests()) == 1


def test_late_call_finds_that_its_key_was_used(
    parts: Parts, ask_once: Repeat, hold: Hold, rows: Rows
) -> None:
    """A call slower than its lease cannot store its response once a repetition was answered."""
    late = hold(lease_s=0.0)
    second = ask_once()

    with connection(parts.engine) as conn:
        assert not late.keep(conn, parts.status(rows.requests()[0]["id"], client_id=late.held.key.client_id))

    assert ask_once() == replace(second, replayed=True)


def test_request_and_answer_are_stored_together(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """If the response cannot be stored, no request is, and the counts are reverted."""
    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE idempotency_keys ADD CONSTRAINT broken CHECK (false) NOT VALID"))
    try:
        for _ in range(4):
            with pytest.raises(psycopg.errors.CheckViolation):
                ask_once()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE idempotency_keys DROP CONSTRAINT broken"))

    assert rows.requests() == []
    assert not ask_once().replayed


def test_repetition_costs_none_of_the_limits(ask_once: Repeat, rows: Rows) -> None:
    """Ten repetitions do not count against the limit of three."""
    for _ in range(11):
        ask_once()

    for key in ("b", "c"):
        assert not ask_once(a_call(key=key)).replayed
    with pytest.raises(LimitExceeded):
        ask_once(a_call(key="d"))
    assert ask_once().replayed


def test_erased_request_does_not_come_back(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """A repetition after an erasure returns nothing of the request and makes no new one."""
    ask_once()
    with connection(parts.engine) as conn:
        conn.execute(delete(otp_requests))

    with pytest.raises(RequestNotFound):
        ask_once()
    assert rows.requests() == []


def test_replay_needs_no_redis(
    make_parts: MakeParts, ask_once: Repeat, client_id: UUID, closed_port: int, rows: Rows
) -> None:
    """Responses are replayed while Redis is down."""
    first = ask_once()
    parts = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")

    again = ask_once(parts=parts)

    assert again == replace(first, replayed=True)
    assert len(rows.requests()) == 1


def test_lost_answer_to_a_right_code(
    parts: Parts, ask_sent: AskSent, hold: Hold, provider: Provider, rows: Rows
) -> None:
    """A lost 200 is replayed. Without its key the code counts as used."""
    request = ask_sent()
    attempted = TypedCode(code=provider.code())

    def check(held: HeldCall | None = None) -> OtpRequest:
        return parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now(), held=held)

    with hold(a_call(name="verify")) as held:
        check(held)
    again = hold(a_call(name="verify"))

    assert held.answer == StoredResponse(status=202, body=f"{request.id} verified")
    assert again.answer == replace(held.answer, replayed=True)
    assert len(rows.checks(request.id)) == 1
    with pytest.raises(AlreadyVerified):
        check()


def test_wrong_code_is_not_remembered(
    parts: Parts, ask_sent: AskSent, hold: Hold, provider: Provider, rows: Rows
) -> None:
    """Each repetition of a wrong code costs a check, because a refused call releases its key."""
    request = ask_sent()
    wrong = TypedCode(code=f"{(int(provider.code()) + 1) % 1_000_000:06}")

    for _ in range(2):
        with pytest.raises(CodeIncorrect), hold() as held:
            parts.verify(request.id, wrong, client_id=request.client_id, now=clock.now(), held=held)

    assert rows.request(request.id)["checks_used"] == 2


def test_right_code_stays_right_when_the_lease_expired(
    parts: Parts, ask_sent: AskSent, hold: Hold, provider: Provider, rows: Rows
) -> None:
    """A check that took longer than its lease is not undone, and its response is stored."""
    request = ask_sent()
    with hold(lease_s=0.0) as held:
        with pytest.raises(RequestNotFound), hold(lease_s=0.0):
            raise RequestNotFound
        attempted = TypedCode(code=provider.code())
        parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now(), held=held)

    assert rows.request(request.id)["status"] == Status.VERIFIED
    assert held.answer is not None
    assert hold().answer == replace(held.answer, replayed=True)


def test_what_is_stored_of_a_call(parts: Parts, ask_once: Repeat) -> None:
    """The row has neither key nor body in clear, and the number only masked."""
    ask_once(a_call(key="a-secret-key", body=f'{{"phone_number": "{NUMBER}"}}'))

    with connection(parts.engine) as conn:
        stored = repr(conn.execute(select(idempotency_keys)).all())
    assert "a-secret-key" not in stored
    assert NUMBER.removeprefix("+") not in stored
