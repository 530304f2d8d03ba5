"""Calls that are repeated: done once, answered alike, and refused where they are not the same call."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import pytest
from sqlalchemy import Connection, delete, select

from otpqueue import clock
from otpqueue.domain.errors import (
    AlreadyVerified,
    CodeIncorrect,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    InvalidPhoneNumber,
    RequestNotFound,
)
from otpqueue.domain.replay import Answer, Call
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.replay import Remember
from otpqueue.operations.request import CodeWanted
from otpqueue.operations.verify import Attempted
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.store.schema import idempotency_keys, otp_requests
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once

Repeat = Callable[..., Answer]
DAY_S = 86_400


def answer_of(request: OtpRequest) -> Answer:
    """Return an answer that tells requests and states apart."""
    return Answer(status=202, body=f"{request.id} {request.status.value}")


def a_call(key: str = "key", body: str = NUMBER, name: str = "POST /v1/otp-requests") -> Call:
    """Return a call."""
    return Call(name=name, key=key, body=body)


def asking(parts: Parts, client_id: UUID, number: str = NUMBER) -> Callable[[Remember | None], OtpRequest]:
    """Return the work of asking for a code."""

    def work(remember: Remember | None) -> OtpRequest:
        wanted = CodeWanted(phone_number=number)
        return parts.request(wanted, client_id=client_id, now=clock.now(), remember=remember)

    return work


@pytest.fixture
def ask_once(parts: Parts, client_id: UUID) -> Repeat:
    """Return a function that asks for a code by a call that may be repeated."""

    def ask_once(call: Call | None = None) -> Answer:
        return parts.once(
            call or a_call(),
            asking(parts, client_id),
            answer=answer_of,
            client_id=client_id,
            now=clock.now(),
        )

    return ask_once


def test_repetition_gets_the_first_answer(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """One request is made, and what has become of it meanwhile does not show."""
    first = ask_once()
    parts.pump.run()
    again = [ask_once() for _ in range(3)]

    (request,) = rows.requests()
    assert request["status"] == "sent"
    assert first == Answer(status=202, body=f"{request['id']} queued")
    assert again == [replace(first, replayed=True)] * 3


def test_two_hundred_calls_with_one_key(ask_once: Repeat, rows: Rows) -> None:
    """Of calls at the same moment one makes a request; the others get its answer, or are told to wait."""
    answers = at_once([ask_once] * 200)

    (request,) = rows.requests()
    given = [one for one in answers if isinstance(one, Answer)]
    refused = [one for one in answers if not isinstance(one, Answer)]
    assert {one.body for one in given} == {f"{request['id']} queued"}
    assert sum(not one.replayed for one in given) == 1
    assert {one.code for one in refused} <= {"idempotency_in_progress", "database_unavailable"}
    assert all(one.retry_after_s for one in refused)
    assert ask_once().body == f"{request['id']} queued"


def test_same_key_with_another_body(ask_once: Repeat, rows: Rows) -> None:
    """A key stands for one wish."""
    ask_once()

    with pytest.raises(IdempotencyKeyReused):
        ask_once(a_call(body="another"))
    assert len(rows.requests()) == 1


def test_keys_of_calls_clients_and_names_are_apart(
    parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows
) -> None:
    """Another key, path or client is another call, also with the same body."""
    with connection(parts.engine) as conn:
        stranger = clients.ensure_client(conn, "stranger", now=clock.now())
    ask_once()
    ask_once(a_call(key="Key"))
    ask_once(a_call(name="POST /elsewhere"))

    parts.once(a_call(), asking(parts, stranger), answer=answer_of, client_id=stranger, now=clock.now())

    assert [row["client_id"] for row in rows.requests()] == [client_id] * 3 + [stranger]


def test_key_is_good_for_a_day(parts: Parts, client_id: UUID, rows: Rows) -> None:
    """A day after the first call its key makes a new request."""
    start = clock.now()
    moments = [start, start + timedelta(seconds=DAY_S - 1), start + timedelta(seconds=DAY_S)]

    first, replayed, fresh = (
        parts.once(a_call(), asking(parts, client_id), answer=answer_of, client_id=client_id, now=moment)
        for moment in moments
    )

    assert replayed == replace(first, replayed=True)
    assert not fresh.replayed
    assert len(rows.requests()) == 2


def test_refused_call_lets_go_of_its_key(parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows) -> None:
    """Only what was accepted is remembered: a call that is mended may come with the same key."""
    with pytest.raises(InvalidPhoneNumber):
        parts.once(
            a_call(body="nonsense"),
            asking(parts, client_id, "+44"),
            answer=answer_of,
            client_id=client_id,
            now=clock.now(),
        )

    assert not ask_once().replayed
    assert len(rows.requests()) == 1


def test_running_call_keeps_others_away(parts: Parts, ask_once: Repeat, client_id: UUID) -> None:
    """While the first call runs, the second is told to try again, and its own work is not begun."""
    refused: list[Exception] = []

    def work(remember: Remember | None) -> OtpRequest:
        with pytest.raises(IdempotencyInProgress) as told:
            ask_once()
        refused.append(told.value)
        return asking(parts, client_id)(remember)

    first = parts.once(a_call(), work, answer=answer_of, client_id=client_id, now=clock.now())

    assert [getattr(one, "retry_after_s", None) for one in refused] == [1]
    assert ask_once() == replace(first, replayed=True)


def test_killed_call_may_be_repeated_after_its_lease(
    parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows
) -> None:
    """A process that dies in between leaves a lease, and no request."""

    class Killed(BaseException):
        """The end."""

    def work(_: Remember | None) -> OtpRequest:
        raise Killed

    once = replace(parts.once, lease_s=0.0)
    with pytest.raises(Killed):
        once(a_call(), work, answer=answer_of, client_id=client_id, now=clock.now())

    assert not ask_once().replayed
    assert len(rows.requests()) == 1


def test_late_call_is_undone_if_its_key_was_used(
    parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows
) -> None:
    """A call slower than its lease finds the request of its repetition, and makes none."""
    once = replace(parts.once, lease_s=0.0)
    second: list[Answer] = []

    def slow(remember: Remember | None) -> OtpRequest:
        second.append(ask_once())
        return asking(parts, client_id)(remember)

    with pytest.raises(IdempotencyInProgress):
        once(a_call(), slow, answer=answer_of, client_id=client_id, now=clock.now())

    (request,) = rows.requests()
    assert (request["status"], ask_once().body) == ("queued", second[0].body)


def test_failing_transaction_keeps_neither(
    parts: Parts, ask_once: Repeat, client_id: UUID, rows: Rows
) -> None:
    """Request and answer are committed together or not at all."""

    def work(remember: Remember | None) -> OtpRequest:
        def remember_and_fail(conn: Connection, request: OtpRequest) -> None:
            assert remember
            remember(conn, request)
            raise RuntimeError

        return asking(parts, client_id)(remember_and_fail)

    with pytest.raises(RuntimeError):
        parts.once(a_call(), work, answer=answer_of, client_id=client_id, now=clock.now())

    assert rows.requests() == []
    assert not ask_once().replayed


def test_erased_request_does_not_come_back(parts: Parts, ask_once: Repeat, rows: Rows) -> None:
    """A repetition after the request was erased shows nothing of it and makes no new one."""
    ask_once()
    with connection(parts.engine) as conn:
        conn.execute(delete(otp_requests))

    with pytest.raises(RequestNotFound):
        ask_once()
    assert rows.requests() == []


def test_replay_needs_no_redis(
    make_parts: MakeParts, ask_once: Repeat, client_id: UUID, closed_port: int, rows: Rows
) -> None:
    """While Redis is down an answer is replayed as ever."""
    first = ask_once()
    parts = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")

    again = parts.once(
        a_call(), asking(parts, client_id), answer=answer_of, client_id=client_id, now=clock.now()
    )

    assert again == replace(first, replayed=True)
    assert len(rows.requests()) == 1


def test_lost_answer_to_a_right_code(parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows) -> None:
    """The 200 that got lost is there again, and without its key the code stays used."""
    request = ask_sent()
    attempted = Attempted(code=provider.code())

    def check(remember: Remember | None = None) -> OtpRequest:
        return parts.verify(
            request.id, attempted, client_id=request.client_id, now=clock.now(), remember=remember
        )

    def check_once() -> Answer:
        return parts.once(
            a_call(name="verify"),
            check,
            answer=answer_of,
            client_id=request.client_id,
            now=clock.now(),
            undoable=False,
        )

    first, again = check_once(), check_once()

    assert first.body == f"{request.id} verified"
    assert again == replace(first, replayed=True)
    assert len(rows.checks(request.id)) == 1
    with pytest.raises(AlreadyVerified):
        check()


def test_wrong_code_is_not_remembered(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Each repetition of a wrong code costs a check: a refused call lets go of its key."""
    request = ask_sent()
    code = f"{(int(provider.code()) + 1) % 1_000_000:06}"

    def check(remember: Remember | None) -> OtpRequest:
        return parts.verify(
            request.id, Attempted(code=code), client_id=request.client_id, now=clock.now(), remember=remember
        )

    for _ in range(2):
        with pytest.raises(CodeIncorrect):
            parts.once(
                a_call(),
                check,
                answer=answer_of,
                client_id=request.client_id,
                now=clock.now(),
                undoable=False,
            )

    assert rows.request(request.id)["checks_used"] == 2


def test_right_code_stays_right_when_the_lease_ran_out(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A check that took longer than its lease is not undone, and its answer is kept."""
    request = ask_sent()
    once = replace(parts.once, lease_s=0.0)

    def slow(remember: Remember | None) -> OtpRequest:
        with pytest.raises(RequestNotFound):
            once(a_call(), _not_found, answer=answer_of, client_id=request.client_id, now=clock.now())
        attempted = Attempted(code=provider.code())
        return parts.verify(
            request.id, attempted, client_id=request.client_id, now=clock.now(), remember=remember
        )

    given = once(
        a_call(), slow, answer=answer_of, client_id=request.client_id, now=clock.now(), undoable=False
    )

    assert rows.request(request.id)["status"] == Status.VERIFIED
    assert once(
        a_call(), _not_found, answer=answer_of, client_id=request.client_id, now=clock.now()
    ) == replace(given, replayed=True)


def test_what_is_stored_of_a_call(parts: Parts, ask_once: Repeat) -> None:
    """Neither key nor body stand in the row, and of the number not more than its mask."""
    ask_once(a_call(key="a-secret-key", body=f'{{"phone_number": "{NUMBER}"}}'))

    with connection(parts.engine) as conn:
        stored = repr(conn.execute(select(idempotency_keys)).all())
    assert "a-secret-key" not in stored
    assert NUMBER.removeprefix("+") not in stored


def _not_found(_: Remember | None) -> OtpRequest:
    raise RequestNotFound
