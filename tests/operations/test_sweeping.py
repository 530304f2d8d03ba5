"""The sweep: expired leases, lost wake-ups, deadlines of unsent codes."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID

import pytest

from otpqueue import clock
from otpqueue.domain.errors import CheckInProgress, RequestLocked
from otpqueue.domain.request import Status
from otpqueue.domain.sending import Outcome, OutcomeKind, SendDecision
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store import attempts, claims
from otpqueue.store.attempts import AttemptResult
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, begin_check, numbers

TakeAndDie = Callable[..., list[Claim]]


@pytest.fixture
def take_and_die(parts: Parts) -> TakeAndDie:
    """Return a function that claims what is due as a worker that is then killed. Its leases expire."""

    def take_and_die(*, lease_s: float = 0.05) -> list[Claim]:
        with connection(parts.engine) as conn:
            taken = claims.claim(
                conn, slots=100, lease_s=lease_s, worker="killed", now=clock.now(), vault=parts.vault
            )
        time.sleep(lease_s + 0.01)
        return taken

    return take_and_die


def accepted(claim: Claim, *, pin_id: str = "LATE") -> AttemptResult:
    """Return the result of a slow worker with an expired lease."""
    now = clock.now()
    return AttemptResult(
        request_id=claim.request_id,
        attempt=claim.attempt,
        outcome=Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200, pin_id=pin_id),
        decision=SendDecision(status=Status.SENT),
        started_at=now,
        finished_at=now,
        latency_ms=1,
        first=claim.progress.first,
        expires_at=now + timedelta(minutes=5),
    )


def test_lease_that_ran_out_is_unknown_and_sent_again(
    parts: Parts, ask: Ask, rows: Rows, provider: Provider, take_and_die: TakeAndDie
) -> None:
    """A killed worker's request becomes due again, with an unknown attempt, and is sent."""
    request = ask()
    take_and_die()

    swept = parts.sweep(now=clock.now())
    row = rows.request(request.id)
    parts.pump.run()

    assert (swept.leases, swept.unsent, swept.checks) == (1, 0, 0)
    assert (row["status"], row["send_state"], row["lease_until"]) == ("queued", "due", None)
    first, second = rows.attempts(request.id)
    assert (first["worker"], first["outcome"], first["code"]) == ("killed", "unknown", "lease_ran_out")
    assert first["started_at"] is None
    assert second["outcome"] == "accepted"
    assert rows.request(request.id)["status"] == "sent"
    assert len(provider.messages()) == 1


def test_outcome_comes_before_the_next_claim(
    parts: Parts, ask: Ask, rows: Rows, take_and_die: TakeAndDie
) -> None:
    """A send with an expired lease is not claimed at once: its worker may still record the outcome."""
    request = ask()
    (claim,) = take_and_die()

    parts.sweep(now=clock.now())
    second = take_and_die()
    with connection(parts.engine) as conn:
        attempts.record(conn, [accepted(claim)])

    assert second == []
    assert rows.request(request.id)["status"] == "sent"


def test_lease_that_runs_is_respected(
    parts: Parts, ask: Ask, rows: Rows, provider: Provider, take_and_die: TakeAndDie
) -> None:
    """During a lease no other worker claims the request, however often it is woken."""
    request = ask()
    with connection(parts.engine) as conn:
        claims.claim(conn, slots=1, lease_s=30, worker="slow", now=clock.now(), vault=parts.vault)

    swept = parts.sweep(now=clock.now())
    parts.pump.run()

    assert (swept.leases, swept.woke) == (0, False)
    assert rows.request(request.id)["send_state"] == "claimed"
    assert rows.outcomes(request.id) == [None]
    assert provider.messages() == []


def test_lost_lease_fails_by_policy(
    make_parts: MakeParts, ask: Ask, rows: Rows, provider: Provider, take_and_die: TakeAndDie
) -> None:
    """If unknown outcomes may not be retried, an expired lease fails the request."""
    parts = make_parts(OTPQUEUE_UNKNOWN_RESENDS="0")
    request = ask()
    take_and_die()

    parts.sweep(now=clock.now())
    parts.pump.run()

    row = rows.request(request.id)
    assert (row["status"], row["reason"], row["send_state"]) == ("failed", "outcome_unknown", "idle")
    assert rows.outcomes(request.id) == ["unknown"]
    assert provider.messages() == []


def test_second_lost_lease_fails(parts: Parts, ask: Ask, rows: Rows, take_and_die: TakeAndDie) -> None:
    """A request is not sent again after repeated expired leases."""
    request = ask()

    while rows.request(request.id)["status"] == "queued":
        take_and_die()
        parts.sweep(now=clock.now())
        time.sleep(0.06)  # the maximum back-off

    assert rows.outcomes(request.id) == ["unknown", "unknown"]
    assert rows.request(request.id)["reason"] == "outcome_unknown"


def test_late_success_wins_over_the_sweep(
    parts: Parts, ask: Ask, rows: Rows, provider: Provider, take_and_die: TakeAndDie
) -> None:
    """A slow worker may still record that the code was sent. Then it is not sent again."""
    request = ask()
    (claim,) = take_and_die()
    parts.sweep(now=clock.now())

    with connection(parts.engine) as conn:
        moved = attempts.record(conn, [accepted(claim)])
    parts.pump.run()

    assert moved == {(request.id, 1)}
    row = rows.request(request.id)
    assert (row["status"], row["send_state"], row["pin_id"]) == ("sent", "idle", "LATE")
    assert rows.outcomes(request.id) == ["accepted"]
    assert provider.messages() == []


def test_late_success_loses_to_a_later_attempt(
    parts: Parts, ask: Ask, rows: Rows, provider: Provider, take_and_die: TakeAndDie
) -> None:
    """After another attempt, the newest code counts. The late outcome is only recorded."""
    request = ask()
    (claim,) = take_and_die()
    parts.sweep(now=clock.now())
    parts.pump.run()

    with connection(parts.engine) as conn:
        moved = attempts.record(conn, [accepted(claim)])

    assert moved == set()
    assert rows.outcomes(request.id) == ["accepted", "accepted"]
    assert rows.request(request.id)["pin_id"] == provider.messages()[0]["pinId"]


def test_late_success_does_not_disturb_a_later_attempt(
    parts: Parts, ask: Ask, rows: Rows, take_and_die: TakeAndDie
) -> None:
    """While another worker is sending, a late success is only recorded."""
    request = ask()
    (slow,) = take_and_die()
    parts.sweep(now=clock.now())
    assert rows.request(request.id)["next_attempt_at"] > clock.now()  # leaves time for a late outcome
    rows.change(request.id, next_attempt_at=clock.now())
    (current,) = take_and_die(lease_s=0.01)

    with connection(parts.engine) as conn:
        late = attempts.record(conn, [accepted(slow)])
        between = rows.request(request.id)
        moved = attempts.record(conn, [accepted(current, pin_id="NEWEST")])

    assert (late, moved) == (set(), {(request.id, 2)})
    assert (between["status"], between["send_state"], between["pin_id"]) == ("queued", "claimed", None)
    assert rows.request(request.id)["pin_id"] == "NEWEST"
    assert rows.outcomes(request.id) == ["accepted", "accepted"]


def test_lost_wake_up_is_made_good(parts: Parts, ask: Ask, rows: Rows) -> None:
    """The sweep finds a request with a lost wake-up, and wakes a worker once."""
    ask()
    parts.redis.flushall()

    swept = parts.sweep(now=clock.now())
    parts.sweep(now=clock.now())

    assert swept.woke
    assert parts.redis.llen("send") == 1


def test_idle_sweep_wakes_no_worker(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """Without due requests the sweep wakes no worker."""
    request = ask_sent()
    before = rows.request(request.id)
    parts.redis.flushall()

    swept = parts.sweep(now=clock.now())

    assert (swept.leases, swept.unsent, swept.checks, swept.woke) == (0, 0, 0, False)
    assert parts.redis.llen("send") == 0
    assert rows.request(request.id) == before


def test_unsent_code_expires_at_its_deadline(parts: Parts, client_id: UUID, ask: Ask, rows: Rows) -> None:
    """A first code that was not sent by `send_by` expires its request. Others are not affected."""
    then = clock.now() - timedelta(seconds=91)
    late = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=then)
    fresh = ask(numbers(1)[0])

    swept = parts.sweep(now=clock.now())

    assert swept.unsent == 1
    row = rows.request(late.id)
    assert (row["status"], row["reason"], row["send_state"]) == ("expired", "send_deadline", "idle")
    assert (row["next_attempt_at"], row["finished_at"] is None) == (None, False)
    assert rows.request(fresh.id)["status"] == "queued"


def test_held_request_does_not_expire_under_the_worker(
    parts: Parts, ask: Ask, rows: Rows, take_and_die: TakeAndDie
) -> None:
    """A claimed request does not expire at its deadline, because its code may be on its way."""
    request = ask()
    with connection(parts.engine) as conn:
        (claim,) = claims.claim(conn, slots=1, lease_s=30, worker="slow", now=clock.now(), vault=parts.vault)
    rows.change(request.id, send_by=clock.now())

    swept = parts.sweep(now=clock.now())
    with connection(parts.engine) as conn:
        attempts.record(conn, [accepted(claim)])

    assert swept.unsent == 0
    assert rows.request(request.id)["status"] == "sent"


def test_lost_lease_past_the_deadline_expires(
    parts: Parts, ask: Ask, rows: Rows, take_and_die: TakeAndDie
) -> None:
    """A request with an expired lease is not sent again after its deadline."""
    request = ask()
    take_and_die()
    rows.change(request.id, send_by=clock.now())

    parts.sweep(now=clock.now())

    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("expired", "send_deadline")
    assert rows.outcomes(request.id) == ["unknown"]


def test_two_sweeps_at_once_do_the_work_once(
    parts: Parts, make_parts: MakeParts, ask: Ask, rows: Rows, take_and_die: TakeAndDie
) -> None:
    """Concurrent sweeps share the work, and do nothing twice."""
    for number in numbers(40):
        ask(number)
    take_and_die()

    swept = at_once([lambda each=each: each.sweep(now=clock.now()) for each in (parts, make_parts())])

    assert sum(one.leases for one in swept) == 40
    assert {row["unknowns"] for row in rows.requests()} == {1}
    assert [row["outcome"] for row in rows.attempts()] == ["unknown"] * 40


def test_abandoned_check_is_closed(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A killed process's check is recorded as unknown and no longer in progress."""
    request = ask_sent()
    begin_and_die(parts, request.id, request.client_id)

    swept = parts.sweep(now=clock.now())

    assert swept.checks == 1
    row, (check,) = rows.request(request.id), rows.checks(request.id)
    assert (row["status"], row["checks_used"], row["check_lease_until"]) == ("sent", 1, None)
    assert (check["verdict"], check["code"], check["finished_at"] is None) == (
        "unknown",
        "lease_ran_out",
        False,
    )


def test_abandoned_last_check_locks(parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows) -> None:
    """An abandoned last check locks the request, because the guess may have been compared."""
    request = ask_sent()
    rows.change(request.id, checks_used=4)
    begin_and_die(parts, request.id, request.client_id)
    attempted = TypedCode(code=provider.code())

    with pytest.raises(CheckInProgress):
        parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())
    parts.sweep(now=clock.now())
    with pytest.raises(RequestLocked):
        parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    row = rows.request(request.id)
    assert (row["status"], row["reason"], row["checks_used"]) == ("locked", "checks_exhausted", 5)
    assert row["finished_at"] is not None
    assert [check["verdict"] for check in rows.checks(request.id)] == ["unknown"]


def test_check_in_flight_is_left_alone(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """The sweep neither closes a check in progress nor locks its request."""
    request = ask_sent()
    rows.change(request.id, checks_used=4)
    begin_and_die(parts, request.id, request.client_id, lease_s=30)

    swept = parts.sweep(now=clock.now())

    assert swept.checks == 0
    assert rows.request(request.id)["status"] == "sent"
    assert rows.checks(request.id)[0]["verdict"] is None


def test_sweep_after_a_late_judgement(
    parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """After an abandoned check was swept the code is still valid for the remaining checks."""
    request = ask_sent()
    begin_and_die(parts, request.id, request.client_id)
    parts.sweep(now=clock.now())

    attempted = TypedCode(code=provider.code())
    verified = parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    assert verified.status is Status.VERIFIED
    assert [check["verdict"] for check in rows.checks(request.id)] == ["unknown", "correct"]


def begin_and_die(parts: Parts, request_id: UUID, client_id: UUID, *, lease_s: float = 0.05) -> None:
    """Begin a check as a process that is then killed. If the lease is short, let it expire."""
    begin_check(parts, request_id, client_id, lease_s=lease_s)
    if lease_s < 1:
        time.sleep(lease_s + 0.01)
