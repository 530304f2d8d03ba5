"""Verifying a code: authorisation, costs, and each response of the provider."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from otpqueue import clock
from otpqueue.domain.errors import (
    AlreadyVerified,
    CheckInProgress,
    CodeExpired,
    CodeIncorrect,
    InvalidPhoneNumber,
    NotSentYet,
    OtpqueueError,
    ProviderUnavailable,
    RequestCancelled,
    RequestFailed,
    RequestLocked,
    RequestNotFound,
)
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.verify import TypedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, begin_check, numbers, until

CHECK = "/verify"
Verify = Callable[..., OtpRequest]


@pytest.fixture
def verify(parts: Parts) -> Verify:
    """Return a function that verifies a code as the request's own client."""

    def verify(request: OtpRequest, code: str, **says: Any) -> OtpRequest:
        attempted = TypedCode(code=code, **says)
        return parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    return verify


def refused(verify: Verify, request: OtpRequest, code: str, **says: Any) -> type[Exception] | None:
    """Verify a code and return the kind of error that refused it."""
    try:
        verify(request, code, **says)
    except OtpqueueError as error:
        return type(error)
    return None


def wrong(code: str) -> str:
    """Return a wrong code."""
    return f"{(int(code) + 1) % 1_000_000:06d}"


def test_right_code_is_accepted_once(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """The right code verifies its request once. A repetition is refused."""
    request = ask_sent()

    verified = verify(request, provider.code())
    with pytest.raises(AlreadyVerified):
        verify(request, provider.code())

    assert (verified.status, verified.checks_left) == (Status.VERIFIED, 0)
    row, (check,) = rows.request(request.id), rows.checks(request.id)
    assert (row["reason"], row["check_lease_until"]) == ("code_correct", None)
    assert row["verified_at"] == row["finished_at"] == check["finished_at"]
    assert (check["number"], check["verdict"], check["http_status"]) == (1, "correct", 200)


def test_wrong_codes_count_and_lock(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Each wrong code costs a check, the last one locks, and then even the right code is refused."""
    request = ask_sent()
    code = provider.code()

    left = []
    for _ in range(5):
        with pytest.raises(CodeIncorrect) as refused:
            verify(request, wrong(code))
        left.append(refused.value.checks_left)
    with pytest.raises(RequestLocked):
        verify(request, code)

    assert left == [4, 3, 2, 1, 0]
    row = rows.request(request.id)
    assert (row["status"], row["reason"], row["checks_used"]) == ("locked", "checks_exhausted", 5)
    assert [check["verdict"] for check in rows.checks(request.id)] == ["wrong"] * 5


def test_right_code_after_wrong_ones(verify: Verify, ask_sent: AskSent, provider: Provider) -> None:
    """Wrong codes before the last check do not affect the right code."""
    request = ask_sent()
    code = provider.code()
    for _ in range(4):
        with pytest.raises(CodeIncorrect):
            verify(request, wrong(code))

    assert verify(request, code).status is Status.VERIFIED


ENDS = [
    ("expired", "code_lifetime", CodeExpired),
    ("locked", "checks_exhausted", RequestLocked),
    ("cancelled", "replaced", RequestCancelled),
    ("cancelled", "cancelled_by_client", RequestCancelled),
    ("failed", "provider_refused", RequestFailed),
    ("verified", "code_correct", AlreadyVerified),
]


def test_ended_request_takes_no_code(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """The right code of an ended request is refused with the reason, without a call to the provider."""
    request = ask_sent()
    for status, reason, refusal in ENDS:
        rows.change(request.id, status=status, reason=reason)

        assert refused(verify, request, provider.code()) is refusal, reason

        assert rows.checks(request.id) == [], reason


def test_code_past_its_time_is_refused(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A code is refused from `expires_at` on, even before the request is marked as expired."""
    request = ask_sent()
    attempted = TypedCode(code=provider.code())
    assert request.expires_at is not None

    with pytest.raises(CodeExpired):
        parts.verify(request.id, attempted, client_id=request.client_id, now=request.expires_at)

    assert rows.checks(request.id) == []
    earlier = request.expires_at - timedelta(seconds=1)
    parts.verify(request.id, attempted, client_id=request.client_id, now=earlier)


def test_nothing_to_check_before_sending(verify: Verify, ask: Ask, rows: Rows) -> None:
    """A code cannot be verified before it was sent. The caller is asked to retry later."""
    request = ask()

    with pytest.raises(NotSentYet) as refused:
        verify(request, "123456")

    assert refused.value.retry_after_s == 1
    assert rows.checks(request.id) == []


def test_foreign_request_is_not_found(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Another client cannot verify a code, even the right one, nor learn that the request exists."""
    request = ask_sent()
    with connection(parts.engine) as conn:
        stranger = clients.ensure_client(conn, "stranger", now=clock.now())
    attempted = TypedCode(code=provider.code())

    for request_id, client_id in ((request.id, stranger), (uuid4(), request.client_id)):
        with pytest.raises(RequestNotFound):
            parts.verify(request_id, attempted, client_id=client_id, now=clock.now())

    assert rows.checks() == []
    assert rows.request(request.id)["checks_used"] == 0


OTHER = "+447700900899"
STRANGERS: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "wrong session": ({"session_id": "ann"}, {"session_id": "eve"}),
    "missing session": ({"session_id": "ann"}, {}),
    "session too much": ({}, {"session_id": "eve"}),
    "wrong number": ({}, {"phone_number": OTHER}),
    "right session wrong number": (
        {"session_id": "ann"},
        {"session_id": "ann", "phone_number": OTHER},
    ),
}


def test_wrong_person_learns_nothing_and_costs_nothing(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A right code from another session or for another number counts as wrong, but costs no check."""
    for number, (name, (asked, says)) in zip(numbers(len(STRANGERS)), STRANGERS.items(), strict=True):
        request = ask_sent(number, **asked)

        with pytest.raises(CodeIncorrect) as incorrect:
            verify(request, provider.code(number), **says)

        # The same state as after a wrong code.
        assert incorrect.value.checks_left == 4, name
        assert rows.checks(request.id) == [], name
        row = rows.request(request.id)
        assert (row["status"], row["checks_used"], row["check_lease_until"]) == ("sent", 0, None), name
        verified = verify(request, provider.code(number), phone_number=number, **asked)
        assert verified.status is Status.VERIFIED, name


def test_number_may_be_written_another_way(verify: Verify, ask_sent: AskSent, provider: Provider) -> None:
    """A number that is passed with the code is compared as a number, not as text."""
    request = ask_sent()

    assert verify(request, provider.code(), phone_number="+44 (0) 7700-900123").status is Status.VERIFIED


def test_impossible_number_is_refused(verify: Verify, ask_sent: AskSent, rows: Rows) -> None:
    """An invalid number is bad input, not a wrong code."""
    request = ask_sent()

    with pytest.raises(InvalidPhoneNumber):
        verify(request, "123456", phone_number="12")

    assert rows.checks(request.id) == []


def test_unjudged_check_is_given_back(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A check that the provider did not judge costs nothing, and the code stays valid."""
    for number, status in zip(numbers(5), [429, 500, 502, 503, 401], strict=True):
        request = ask_sent(number)
        provider.fault(match={"path": CHECK}, status=status, times=1)

        with pytest.raises(ProviderUnavailable) as unavailable:
            verify(request, provider.code(number))

        assert unavailable.value.retry_after_s == 2, status
        row, (check,) = rows.request(request.id), rows.checks(request.id)
        assert (row["checks_used"], row["checks_given_back"], row["check_lease_until"]) == (0, 1, None)
        assert (check["verdict"], check["http_status"]) == ("unjudged", status)
        assert verify(request, provider.code(number)).status is Status.VERIFIED, status


def test_checks_are_given_back_three_times(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """From the fourth unjudged check on each one counts, and the last one locks."""
    request = ask_sent()
    provider.fault(match={"path": CHECK}, status=503)

    used = []
    for _ in range(8):
        with pytest.raises(ProviderUnavailable):
            verify(request, provider.code())
        used.append(rows.request(request.id)["checks_used"])
    with pytest.raises(RequestLocked):
        verify(request, provider.code())

    assert used == [0, 0, 0, 1, 2, 3, 4, 5]
    assert rows.request(request.id)["reason"] == "checks_exhausted"


def test_unreachable_provider_gives_the_check_back(
    parts: Parts, make_parts: MakeParts, ask_sent: AskSent, provider: Provider, rows: Rows, closed_port: int
) -> None:
    """Without a connection no guess was spent."""
    request = ask_sent()
    cut_off = make_parts(INFOBIP_BASE_URL=f"http://127.0.0.1:{closed_port}")
    attempted = TypedCode(code=provider.code())

    with pytest.raises(ProviderUnavailable):
        cut_off.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    assert rows.request(request.id)["checks_used"] == 0
    assert rows.checks(request.id)[0]["code"] == "connection_failed"


LOST: dict[str, dict[str, Any]] = {
    "time-out": {"latency_ms": 1500},
    "cut": {"drop": "after"},
    "not JSON": {"status": 200, "body": "garbage"},
    "empty": {"status": 200, "body": {}},
    "text": {"status": 200, "body": {"verified": "true"}},
    "number": {"status": 200, "body": {"verified": 1}},
    "list": {"status": 200, "body": [True]},
}


def test_lost_judgement_counts_and_is_no_success(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """With an unknown outcome the guess is spent. Only `true` is a success."""
    for number, (name, fault) in zip(numbers(len(LOST)), LOST.items(), strict=True):
        request = ask_sent(number)
        provider.fault(match={"path": CHECK}, times=1, **fault)

        assert refused(verify, request, provider.code(number)) is ProviderUnavailable, name

        row, (check,) = rows.request(request.id), rows.checks(request.id)
        assert (row["status"], row["checks_used"], row["checks_given_back"]) == ("sent", 1, 0), name
        assert check["verdict"] == "unknown", name
        assert verify(request, provider.code(number)).status is Status.VERIFIED, name


def test_lost_judgement_of_the_last_check_locks(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """An unknown outcome of the last check locks, because another guess could exceed the limit."""
    request = ask_sent()
    rows.change(request.id, checks_used=4)
    provider.fault(match={"path": CHECK}, drop="after", times=1)

    with pytest.raises(ProviderUnavailable):
        verify(request, provider.code())

    assert rows.request(request.id)["status"] == "locked"
    with pytest.raises(RequestLocked):
        verify(request, provider.code())


def test_not_verified_is_never_a_success(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A 200 with `verified: false` is a wrong code, whatever else the response says."""
    for number, error in zip(numbers(5), ["WRONG_PIN", None, "", "NO_ERROR", "SOMETHING_NEW"], strict=True):
        request = ask_sent(number)
        body = {"pinId": "P", "verified": False, "attemptsRemaining": 3, "pinError": error}
        provider.fault(match={"path": CHECK}, status=200, body=body, times=1)

        assert refused(verify, request, provider.code(number)) is CodeIncorrect, error

        assert rows.checks(request.id)[0]["verdict"] == "wrong", error
        assert rows.request(request.id)["checks_used"] == 1, error


def test_code_that_expired_at_the_provider(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """If the provider says that a code has expired, the request ends, even if our clock differs."""
    request = ask_sent()
    assert provider.call("POST", "/_simulator/clock", json={"advance_s": 400}).ok

    with pytest.raises(CodeExpired):
        verify(request, provider.code())

    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("expired", "provider_expired")
    assert rows.checks(request.id)[0]["code"] == "TTL_EXPIRED"


def test_code_the_provider_does_not_know(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A 404 for the pinId means that the provider has deleted the code, so the request has expired."""
    request = ask_sent()
    provider.fault(match={"path": CHECK}, status=404, times=1)

    with pytest.raises(CodeExpired):
        verify(request, provider.code())

    assert rows.request(request.id)["reason"] == "provider_expired"


def test_code_the_provider_has_locked(
    verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """When the provider accepts no more checks the request is locked with that reason."""
    request = ask_sent()
    body = {"pinId": "P", "verified": False, "attemptsRemaining": 0, "pinError": "NO_MORE_PIN_ATTEMPTS"}
    provider.fault(match={"path": CHECK}, status=200, body=body, times=1)

    with pytest.raises(RequestLocked):
        verify(request, provider.code())

    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("locked", "provider_locked")


def test_process_killed_during_a_check(
    parts: Parts, verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """An unfinished check delays the next one only until its lease expires."""
    request = ask_sent()
    begin_check(parts, request.id, request.client_id, lease_s=2)

    with pytest.raises(CheckInProgress) as held_back:
        verify(request, provider.code())
    verified = until(lambda: _unless_refused(lambda: verify(request, provider.code())))

    assert held_back.value.retry_after_s == 1
    assert verified.status is Status.VERIFIED
    assert rows.request(request.id)["checks_used"] == 2
    first, second = rows.checks(request.id)
    assert (first["verdict"], first["code"]) == ("unknown", "lease_ran_out")
    assert second["verdict"] == "correct"


def test_check_waits_for_another_that_ends_soon(
    parts: Parts, verify: Verify, ask_sent: AskSent, provider: Provider
) -> None:
    """A check waits a moment for a concurrent one instead of failing at once."""
    request = ask_sent()
    begin_check(parts, request.id, request.client_id, lease_s=0.2)

    assert verify(request, provider.code()).status is Status.VERIFIED


def test_verifying_needs_no_redis(
    make_parts: MakeParts, ask_sent: AskSent, provider: Provider, closed_port: int
) -> None:
    """A code can be verified while Redis is down."""
    request = ask_sent()
    parts = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")

    attempted = TypedCode(code=provider.code())
    verified = parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    assert verified.status is Status.VERIFIED


def test_address_of_a_check_is_kept_as_a_hash(
    parts: Parts, verify: Verify, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A check stores the caller's address as a keyed hash."""
    request = ask_sent()

    verify(request, provider.code(), client_ip="203.0.113.77")

    assert rows.checks(request.id)[0]["client_ip_hash"] == parts.vault.address_hash("203.0.113.77")


def test_newest_request_of_number_and_session(
    parts: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID, rows: Rows
) -> None:
    """Without an id the newest request for the number and session is checked, and no other."""
    other = ask_sent(session_id="b")
    older = ask_sent(session_id="a")
    newer = ask_sent(session_id="a")
    attempted = TypedCode(code=provider.code(), session_id="a", phone_number=NUMBER)

    verified = parts.verify.newest(attempted, client_id=client_id, now=clock.now())

    assert verified.id == newer.id
    assert [row["request_id"] for row in rows.checks()] == [newer.id]
    assert rows.request(other.id)["status"] == "sent"
    assert rows.request(older.id)["status"] == "cancelled"


def test_newest_ended_request_says_how_it_ended(
    parts: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID
) -> None:
    """Without a live request the newest one determines the error, e.g. for a code that was already used."""
    ask_sent()
    attempted = TypedCode(code=provider.code(), phone_number=NUMBER)
    parts.verify.newest(attempted, client_id=client_id, now=clock.now())

    with pytest.raises(AlreadyVerified):
        parts.verify.newest(attempted, client_id=client_id, now=clock.now())


@pytest.mark.parametrize(
    "says",
    [
        {"phone_number": numbers(1)[0], "session_id": "a"},
        {"session_id": "a"},
    ],
    ids=["other number", "no number"],
)
def test_no_newest_request(
    parts: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID, says: dict[str, str]
) -> None:
    """Without a request for the number nothing is found."""
    ask_sent(session_id="a")
    attempted = TypedCode(code=provider.code(), **says)

    with pytest.raises(RequestNotFound):
        parts.verify.newest(attempted, client_id=client_id, now=clock.now())


@pytest.mark.parametrize("session", ["b", None])
def test_newest_request_of_another_session(
    parts: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID, rows: Rows, session: str | None
) -> None:
    """The right code from another session than the live request's counts as wrong, at no cost."""
    request = ask_sent(session_id="a")
    attempted = TypedCode(code=provider.code(), phone_number=NUMBER, session_id=session)

    with pytest.raises(CodeIncorrect):
        parts.verify.newest(attempted, client_id=client_id, now=clock.now())

    assert rows.checks(request.id) == []
    assert rows.request(request.id)["checks_used"] == 0


def test_newest_of_another_client_is_not_found(parts: Parts, ask_sent: AskSent, provider: Provider) -> None:
    """Number and session of another client's request are not found."""
    ask_sent(session_id="a")
    with connection(parts.engine) as conn:
        stranger = clients.ensure_client(conn, "stranger", now=clock.now())
    attempted = TypedCode(code=provider.code(), phone_number=NUMBER, session_id="a")

    with pytest.raises(RequestNotFound):
        parts.verify.newest(attempted, client_id=stranger, now=clock.now())


def _unless_refused(call: Callable[[], OtpRequest]) -> OtpRequest | None:
    try:
        return call()
    except CheckInProgress:
        return None
