"""Concurrent checks of one request."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest

from otpqueue import clock
from otpqueue.domain.errors import (
    AlreadyVerified,
    CheckInProgress,
    CodeIncorrect,
    RequestCancelled,
    RequestLocked,
)
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.check_waiters import CheckWaiters
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, numbers, until
from tests.operations.test_verifying import CHECK, wrong


@pytest.fixture
def processes(parts: Parts, make_parts: MakeParts) -> list[Parts]:
    """Return the parts of two processes."""
    return [parts, make_parts()]


def check(parts: Parts, request: OtpRequest, code: str) -> OtpRequest:
    """Verify a code once."""
    return parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


def check_patiently(parts: Parts, request: OtpRequest, code: str) -> OtpRequest:
    """Verify a code, and retry while another check is in progress."""
    give_up = time.monotonic() + 20
    while True:
        try:
            return check(parts, request, code)
        except CheckInProgress:
            assert time.monotonic() < give_up
            time.sleep(0.02)


def test_fifty_right_codes_succeed_once(
    processes: list[Parts], ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Of fifty concurrent checks of one right code exactly one succeeds, and only that one counts."""
    request = ask_sent()
    code = provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=100)

    answers = at_once([partial(check, processes[n % 2], request, code) for n in range(50)])

    verified = [answer for answer in answers if isinstance(answer, OtpRequest)]
    others = [answer for answer in answers if not isinstance(answer, OtpRequest)]
    assert [one.status for one in verified] == [Status.VERIFIED]
    assert {type(one) for one in others} <= {AlreadyVerified, CheckInProgress}
    assert [row["verdict"] for row in rows.checks(request.id)] == ["correct"]


def test_right_code_is_not_refused_for_wrong_ones_in_flight(
    processes: list[Parts], ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Among fewer concurrent wrong codes than allowed the right one succeeds, in any order."""
    request = ask_sent()
    code = provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=200)
    calls: list[Callable[[], OtpRequest]] = [
        partial(check, processes[n % 2], request, wrong(code)) for n in range(4)
    ]

    *refused, right = at_once([*calls, partial(check_patiently, processes[0], request, code)])

    assert isinstance(right, OtpRequest), right
    assert right.status is Status.VERIFIED
    assert {type(one) for one in refused} <= {CodeIncorrect, CheckInProgress, AlreadyVerified}
    verdicts = [row["verdict"] for row in rows.checks(request.id)]
    assert verdicts[-1] == "correct"
    assert set(verdicts[:-1]) <= {"wrong"}
    assert len(verdicts) == rows.request(request.id)["checks_used"] <= 5


def test_one_call_waits_for_a_check(parts: Parts, ask_sent: AskSent, provider: Provider) -> None:
    """While a request is being checked one more call of this process waits. Others fail at once."""
    request, code = ask_sent(), provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=700)
    patient = replace(parts.verify, patience_s=5.0, waiters=CheckWaiters())
    took_s: list[float] = []

    def timed() -> OtpRequest:
        began = time.monotonic()
        try:
            return patient(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())
        except CheckInProgress:
            took_s.append(time.monotonic() - began)
            raise

    answers = at_once([timed] * 12)

    counts = Counter(type(answer) for answer in answers)
    assert counts[OtpRequest] == 1
    # One was checked and one waited for it. A later call gets the error of a used code.
    assert counts[CheckInProgress] + counts[AlreadyVerified] == 11
    assert counts[CheckInProgress] >= 8
    assert max(took_s) < 4.0


def test_few_calls_of_a_client_wait() -> None:
    """A client has at most four waiting calls. Those of other clients are counted separately."""
    waiters = CheckWaiters()
    client, other, requests = uuid4(), uuid4(), [uuid4() for _ in range(6)]

    assert [waiters.enter(request, client) for request in requests] == [True] * 4 + [False] * 2
    assert waiters.enter(requests[5], other)
    assert not waiters.enter(requests[0], other)
    waiters.leave(requests[0], client)
    assert waiters.enter(requests[0], client)


def test_guessing_at_once_gets_no_extra_checks(
    processes: list[Parts], ask: Ask, provider: Provider, rows: Rows
) -> None:
    """No more codes are compared than allowed. The right one is refused only when they were used up."""
    requests = [ask(number) for number in numbers(3)]
    processes[0].pump.run()
    provider.fault(match={"path": CHECK}, latency_ms=50)
    calls: list[Callable[[], OtpRequest]] = []
    for number, request in zip(numbers(3), requests, strict=True):
        code = provider.code(number)
        calls += [partial(check_patiently, processes[n % 2], request, wrong(code)) for n in range(8)]
        calls.append(partial(check_patiently, processes[0], request, code))

    answers = at_once(calls)

    for request, right in zip(requests, answers[8::9], strict=True):
        verdicts = [row["verdict"] for row in rows.checks(request.id)]
        row = rows.request(request.id)
        assert len(verdicts) == row["checks_used"] <= 5
        if isinstance(right, OtpRequest):
            assert (row["status"], verdicts[-1]) == ("verified", "correct")
        else:
            assert isinstance(right, RequestLocked)
            assert (row["status"], verdicts) == ("locked", ["wrong"] * 5)


def test_cancelled_during_a_check_stays_cancelled(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A right code of a request that is cancelled during the check is refused, and only recorded."""
    request = ask_sent()
    code = provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=500)

    def cancel() -> OtpRequest:
        until(lambda: rows.checks(request.id))
        return parts.cancel(request.id, client_id=request.client_id, now=clock.now())

    refusal, cancelled = at_once([partial(check, parts, request, code), cancel])

    assert isinstance(refusal, RequestCancelled)
    assert cancelled.status is Status.CANCELLED
    assert rows.request(request.id)["status"] == "cancelled"
    assert rows.checks(request.id)[0]["verdict"] == "correct"


def test_replaced_during_a_check(
    parts: Parts, ask: Ask, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A right code that meets a newer request is refused. The newer request stays due."""
    older = ask_sent()
    code = provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=500)

    def ask_again() -> OtpRequest:
        until(lambda: rows.checks(older.id))
        return ask()

    refusal, newer = at_once([partial(check, parts, older, code), ask_again])

    assert isinstance(refusal, RequestCancelled)
    assert rows.request(older.id)["reason"] == "replaced"
    assert rows.request(newer.id)["status"] == "queued"


def test_expiring_during_a_check(parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows) -> None:
    """A right code that was submitted in time verifies, even if it expires during the check."""
    request = ask_sent()
    code = provider.code()
    provider.fault(match={"path": CHECK}, latency_ms=500)
    assert request.expires_at is not None
    late = request.expires_at

    def expire() -> int:
        until(lambda: rows.checks(request.id))
        return parts.expire(now=late)

    verified, expired = at_once([partial(check, parts, request, code), expire])

    assert isinstance(verified, OtpRequest)
    assert expired == 0
    assert rows.request(request.id)["status"] == "verified"
