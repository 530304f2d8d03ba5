"""Checks: one at a time, counted before the comparison, returned if not judged, locked at the limit."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest

from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.request import CHECKABLE, OtpRequest, Reason, Status
from otpqueue.domain.sending import LEASE_RAN_OUT
from otpqueue.store import checks, requests
from otpqueue.store.checks import GIVEN_BACK_AT_MOST, OpenCheck
from tests.store.conftest import NOW, NUMBER, RUN_OUT_S, SENT, Store, accepted, again, later

WRONG = Judgement(verdict=CheckVerdict.WRONG, code="WRONG_PIN", http_status=200)


def begun(store: Store, request: OtpRequest, **differing: Any) -> OpenCheck:
    """Begin a check that must be possible."""
    check = store.begin(request, **differing)
    assert check
    return check


def test_check_is_counted_before_it_is_asked(store: Store) -> None:
    """When `begin` returns, the guess is counted, whatever happens to the process."""
    request = store.insert_sent(checks_allowed=5)

    check = begun(store, request, client_ip_hash=b"ip")

    assert check == OpenCheck(request_id=request.id, number=1, pin_id="pin-1")
    found = store.find(request.id)
    assert (found.checks_used, found.checks_left, found.check_in_flight) == (1, 4, True)
    (row,) = store.checks(request.id)
    assert (row["number"], row["started_at"], row["client_ip_hash"]) == (1, NOW, b"ip")
    assert row["verdict"] is row["finished_at"] is None


def test_one_check_at_a_time(store: Store) -> None:
    """During one check a second one is refused and not counted; afterwards it may begin."""
    request = store.insert_sent()
    first = begun(store, request)

    assert store.begin(request) is None
    assert store.find(request.id).checks_used == 1
    store.judge(first, CheckVerdict.WRONG)
    assert begun(store, request).number == 2


def test_of_many_at_once_one_begins(store: Store) -> None:
    """Concurrent guesses cannot exceed the limit."""
    request = store.insert_sent()
    start = Barrier(8)

    def work(_: int) -> OpenCheck | None:
        start.wait()
        return store.begin(request)

    with ThreadPoolExecutor(8) as threads:
        begun = [check for check in threads.map(work, range(8)) if check]

    assert len(begun) == 1
    assert store.find(request.id).checks_used == len(store.checks(request.id)) == 1


def test_guesses_at_once_never_exceed_what_is_allowed(store: Store) -> None:
    """In any mix and timing, no more checks begin than are allowed."""
    request = store.insert_sent(checks_allowed=3)

    def work(_: int) -> int:
        begun = 0
        for _ in range(20):
            if check := store.begin(request):
                begun += 1
                checks.record(store.engine, check, WRONG, latency_ms=1, now=NOW, vault=store.vault)
        return begun

    with ThreadPoolExecutor(6) as threads:
        total = sum(threads.map(work, range(6)))

    assert total == len(store.checks(request.id)) == 3
    assert store.find(request.id).status is Status.LOCKED


@pytest.mark.parametrize(
    "differing",
    [
        {"request_id": UUID(int=1)},
        {"client_id": UUID(int=1)},
        {"session_hashes": None},
        {"session_hashes": [b"other"]},
        {"number_hashes": [b"other"]},
    ],
    ids=str,
)
def test_foreign_check_does_not_begin(store: Store, differing: dict[str, Any]) -> None:
    """Another client's, session's or number's check does not count against the request."""
    request = store.insert_sent(session_id="one")
    session_hashes = store.vault.session_hashes("one")
    number_hashes = store.vault.number_hashes(NUMBER)

    assert store.begin(request, **({"session_hashes": session_hashes} | differing)) is None

    assert store.find(request.id).checks_used == 0
    assert begun(store, request, session_hashes=session_hashes, number_hashes=number_hashes)


def test_session_where_none_was_asked_for_does_not_match(store: Store) -> None:
    """A request without a session is not checked from within one."""
    request = store.insert_sent()

    assert store.begin(request, session_hashes=store.vault.session_hashes("one")) is None


@pytest.mark.parametrize("status", list(Status))
def test_only_a_sent_code_is_checked(store: Store, status: Status) -> None:
    """A check begins only after the code was sent."""
    request = store.insert_sent()
    store.change(request.id, status=status.value)

    assert (store.begin(request) is not None) == (status in CHECKABLE)


def test_unsent_code_is_not_checked(store: Store) -> None:
    """Before a code is out there is nothing to check."""
    request = store.insert()

    assert store.begin(request) is None


@pytest.mark.parametrize(("at_s", "possible"), [(299.9, True), (300, False), (301, False)])
def test_expired_code_is_not_checked(store: Store, at_s: float, possible: bool) -> None:
    """From `expires_at` on no check begins, whether or not a sweep has ended the request."""
    request = store.insert_sent()

    assert (store.begin(request, now=later(at_s)) is not None) == possible


@pytest.mark.parametrize(
    ("verdict", "status", "reason"),
    [
        (CheckVerdict.CORRECT, Status.VERIFIED, Reason.CODE_CORRECT),
        (CheckVerdict.WRONG, Status.SENT, None),
        (CheckVerdict.UNKNOWN, Status.SENT, None),
        (CheckVerdict.UNJUDGED, Status.SENT, None),
        (CheckVerdict.EXPIRED, Status.EXPIRED, Reason.PROVIDER_EXPIRED),
        (CheckVerdict.EXHAUSTED, Status.LOCKED, Reason.PROVIDER_LOCKED),
    ],
)
def test_verdict_moves_the_request(
    store: Store, verdict: CheckVerdict, status: Status, reason: Reason | None
) -> None:
    """Each verdict has one effect; the check's row stores the verdict and the duration."""
    request = store.insert_sent()
    check = begun(store, request)

    assert store.judge(check, verdict, now=later(2)) is status

    found = store.find(request.id)
    assert (found.status, found.reason, found.check_in_flight) == (status, reason, False)
    assert found.updated_at == later(2)
    assert found.verified_at == (later(2) if verdict is CheckVerdict.CORRECT else None)
    assert store.row(request.id)["finished_at"] == (later(2) if found.is_final else None)
    (row,) = store.checks(request.id)
    assert (row["verdict"], row["code"], row["http_status"]) == (verdict, verdict.upper(), 200)
    assert (row["latency_ms"], row["finished_at"]) == (12, later(2))


def test_code_is_accepted_once(store: Store) -> None:
    """The same correct answer, recorded again, moves nothing."""
    request = store.insert_sent()
    check = begun(store, request)

    assert store.judge(check, CheckVerdict.CORRECT) is Status.VERIFIED
    assert store.judge(check, CheckVerdict.CORRECT, now=later(5)) is None
    assert store.find(request.id).verified_at == NOW
    assert store.begin(request) is None


def test_no_check_begins_when_none_is_left(store: Store) -> None:
    """Also before the request is locked: a sweep may have died between its two steps."""
    request = store.insert_sent(checks_allowed=3)
    store.change(request.id, checks_used=3)

    assert store.begin(request) is None
    assert store.find(request.id).checks_left == 0


def test_last_wrong_code_locks(store: Store) -> None:
    """The request locks when the last wrong result is recorded, not before."""
    request = store.insert_sent(checks_allowed=3)
    for _ in range(2):
        assert store.check(request, CheckVerdict.WRONG) is Status.SENT
    last = begun(store, request)
    assert store.find(request.id).status is Status.SENT

    assert store.judge(last, CheckVerdict.WRONG, now=later(3)) is Status.LOCKED

    found = store.find(request.id)
    assert (found.reason, found.checks_left, found.check_in_flight) == (Reason.CHECKS_EXHAUSTED, 0, False)
    assert store.row(request.id)["finished_at"] == later(3)


def test_last_check_can_be_the_right_one(store: Store) -> None:
    """The last allowed check works like any other."""
    request = store.insert_sent(checks_allowed=1)

    assert store.check(request, CheckVerdict.CORRECT) is Status.VERIFIED


def test_last_check_of_unknown_outcome_locks(store: Store) -> None:
    """A guess that may have been judged counts."""
    request = store.insert_sent(checks_allowed=1)

    assert store.check(request, CheckVerdict.UNKNOWN) is Status.LOCKED


def test_unjudged_check_is_given_back_up_to_a_limit(store: Store) -> None:
    """A guess that was not judged is returned, at most three times per request; then it counts."""
    request = store.insert_sent(checks_allowed=2)

    left = []
    for _ in range(GIVEN_BACK_AT_MOST + 1):
        store.check(request, CheckVerdict.UNJUDGED)
        left.append(store.find(request.id).checks_left)

    assert GIVEN_BACK_AT_MOST == 3
    assert left == [2, 2, 2, 1]
    assert store.check(request, CheckVerdict.UNJUDGED) is Status.LOCKED
    assert [one["number"] for one in store.checks(request.id)] == [1, 2, 3, 4, 5]


def test_last_check_that_is_given_back_does_not_lock(store: Store) -> None:
    """The provider's outage does not end the request."""
    request = store.insert_sent(checks_allowed=1)

    assert store.check(request, CheckVerdict.UNJUDGED) is Status.SENT
    assert store.check(request, CheckVerdict.CORRECT) is Status.VERIFIED


def test_abandoned_check_is_taken_over(store: Store) -> None:
    """A check of a killed process delays the next one for its lease only; its guess counts."""
    request = store.insert_sent()
    begun(store, request, lease_s=RUN_OUT_S)

    second = begun(store, request, now=later(1))

    assert second.number == 2
    first_row, second_row = store.checks(request.id)
    assert (first_row["verdict"], first_row["code"], first_row["finished_at"]) == (
        "unknown",
        "lease_ran_out",
        later(1),
    )
    assert second_row["verdict"] is None
    assert store.find(request.id).checks_used == 2


def test_late_correct_answer_still_verifies(store: Store) -> None:
    """The code was correct and in time: neither its expired lease nor a later check changes that."""
    request = store.insert_sent()
    slow = begun(store, request, lease_s=RUN_OUT_S)
    other = begun(store, request)

    assert store.judge(slow, CheckVerdict.CORRECT) is Status.VERIFIED

    assert [row["verdict"] for row in store.checks(request.id)] == ["correct", None]
    assert store.judge(other, CheckVerdict.WRONG) is None
    assert store.find(request.id).status is Status.VERIFIED
    assert [row["verdict"] for row in store.checks(request.id)] == ["correct", "wrong"]


@pytest.mark.parametrize(
    "verdict", [CheckVerdict.WRONG, CheckVerdict.EXPIRED, CheckVerdict.EXHAUSTED, CheckVerdict.UNJUDGED]
)
def test_any_other_late_answer_is_only_noted(store: Store, verdict: CheckVerdict) -> None:
    """It neither allows a third concurrent check, nor ends the request, nor returns a guess."""
    request = store.insert_sent()
    slow = begun(store, request, lease_s=RUN_OUT_S)
    begun(store, request)
    before = store.row(request.id)

    assert store.judge(slow, verdict) is None

    assert store.row(request.id) == before
    assert store.checks(request.id)[0]["verdict"] == verdict
    assert store.begin(request) is None


def test_repeated_answer_changes_nothing(store: Store) -> None:
    """A second result does not overwrite the first."""
    request = store.insert_sent()
    check = begun(store, request)
    store.judge(check, CheckVerdict.WRONG)
    trail = store.checks(request.id)

    store.judge(check, CheckVerdict.UNKNOWN, now=later(9))

    assert store.checks(request.id) == trail
    assert store.find(request.id).checks_used == 1


@pytest.mark.parametrize("status", ["verified", "failed", "expired", "locked", "cancelled"])
@pytest.mark.parametrize("verdict", [CheckVerdict.CORRECT, CheckVerdict.WRONG, CheckVerdict.EXHAUSTED])
def test_answer_after_the_end_changes_nothing(store: Store, status: str, verdict: CheckVerdict) -> None:
    """A request that ended during its check stays ended; the verdict is stored."""
    request = store.insert_sent()
    check = begun(store, request)
    store.change(request.id, status=status)

    assert store.judge(check, verdict) is None

    assert store.find(request.id).status == status
    assert store.checks(request.id)[0]["verdict"] == verdict


def test_replaced_request_cannot_be_verified(store: Store) -> None:
    """A newer request for the same person ends the older one, also under a correct answer in flight."""
    old = store.insert_sent()
    check = begun(store, old)
    store.insert()

    assert store.judge(check, CheckVerdict.CORRECT) is None
    assert store.find(old.id).reason is Reason.REPLACED


def test_sweep_frees_abandoned_checks(store: Store) -> None:
    """An expired lease is cleared and its check closed; an active one does not change."""
    abandoned, living = store.insert_sent(), store.insert_sent("+447700900124")
    begun(store, abandoned, lease_s=RUN_OUT_S)
    begun(store, living)

    assert checks.sweep(store.conn, now=later(1), limit=10) == 1

    assert not store.find(abandoned.id).check_in_flight
    assert store.find(abandoned.id).status is Status.SENT
    assert [row["code"] for row in store.checks(abandoned.id)] == ["lease_ran_out"]
    assert store.find(living.id).check_in_flight
    assert store.checks(living.id)[0]["verdict"] is None
    assert checks.sweep(store.conn, now=later(1), limit=10) == 0


def test_sweep_locks_when_the_abandoned_check_was_the_last(store: Store) -> None:
    """A guess with an unknown outcome counts; if it was the last one the request locks."""
    request = store.insert_sent(checks_allowed=2)
    store.check(request, CheckVerdict.WRONG)
    begun(store, request, lease_s=RUN_OUT_S)

    checks.sweep(store.conn, now=later(1), limit=10)

    found = store.find(request.id)
    assert (found.status, found.reason) == (Status.LOCKED, Reason.CHECKS_EXHAUSTED)
    assert store.row(request.id)["finished_at"] == later(1)


def test_late_correct_answer_after_the_sweep_verifies(store: Store) -> None:
    """A sweep that released the lease does not make a correct code wrong, unless it was the last check."""
    first, last = store.insert_sent(), store.insert_sent("+447700900124", checks_allowed=1)
    slow = [begun(store, request, lease_s=RUN_OUT_S) for request in (first, last)]
    checks.sweep(store.conn, now=later(1), limit=10)

    assert store.judge(slow[0], CheckVerdict.CORRECT) is Status.VERIFIED
    assert store.judge(slow[1], CheckVerdict.CORRECT) is None

    assert store.checks(first.id)[0]["verdict"] == "correct"
    assert store.find(last.id).status is Status.LOCKED


def test_sweep_leaves_ended_requests_ended(store: Store) -> None:
    """The lease of a request that ended meanwhile is cleared, and nothing else changes."""
    request = store.insert_sent(checks_allowed=1)
    begun(store, request, lease_s=RUN_OUT_S)
    requests.cancel(store.conn, request.id, client_id=store.client_id, now=NOW)

    assert checks.sweep(store.conn, now=later(1), limit=10) == 1

    found = store.find(request.id)
    assert (found.status, found.check_in_flight) == (Status.CANCELLED, False)


def test_sweep_takes_at_most_its_limit(store: Store) -> None:
    """A sweep is bounded; the next one takes the rest."""
    for i in range(3):
        begun(store, store.insert_sent(f"+44770090012{i}"), lease_s=RUN_OUT_S)

    assert [checks.sweep(store.conn, now=NOW, limit=2) for _ in range(3)] == [2, 1, 0]


def test_newest_pin_is_the_one_that_is_checked(store: Store) -> None:
    """If a code was sent twice, the newest one is checked."""
    request = store.insert()
    (first,) = store.claim(lease_s=RUN_OUT_S)
    store.record(first, LEASE_RAN_OUT, again())
    (second,) = store.claim()
    store.record(first, accepted("pin-1"), SENT)
    store.record(second, accepted("pin-2"), SENT)

    assert begun(store, request).pin_id == "pin-2"
