"""Claims and their outcomes: one holder per request, and no late outcome overrides a later one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from uuid import UUID

import pytest
from sqlalchemy import Engine, select

from otpqueue.domain.request import FINAL, Channel, Reason, SendState, Status
from otpqueue.domain.sending import (
    LEASE_RAN_OUT,
    RETURNED,
    Outcome,
    OutcomeKind,
    SendDecision,
    SendProgress,
)
from otpqueue.store import attempts, requests
from otpqueue.store.attempts import AttemptResult
from otpqueue.store.claims import Claim, PumpTurn, take_turn
from otpqueue.store.engine import connection
from otpqueue.store.schema import otp_requests, send_attempts
from tests.store.conftest import (
    NOW,
    NUMBER,
    REFUSED,
    RUN_OUT_S,
    SENT,
    MakeEngine,
    Store,
    a_result,
    accepted,
    again,
    later,
)

UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")
PERMANENT = Outcome(kind=OutcomeKind.REFUSED, code="BAD_REQUEST", http_status=400)


def ids(claims: list[Claim]) -> set[UUID]:
    """Return the requests that were claimed."""
    return {claim.request_id for claim in claims}


def test_claim_says_what_to_send(store: Store) -> None:
    """A claim has all that a sender needs, and its repr hides the number."""
    request = store.insert(language="pt-BR", channel=Channel.VOICE)

    (claim,) = store.claim()

    assert claim == Claim(
        request_id=request.id,
        client_id=request.client_id,
        attempt=1,
        progress=SendProgress(tries=1, unknowns=0, send_by=later(90)),
        sends=1,
        country="GB",
        language="pt-BR",
        channel=Channel.VOICE,
        digits=NUMBER.removeprefix("+"),
        pin_id=None,
        created_at=NOW,
        number_hash=store.vault.number_hash(NUMBER),
        client_ip_hash=None,
    )
    assert claim.digits not in repr(claim)


def test_claim_takes_the_request_and_opens_an_attempt(store: Store) -> None:
    """A claimed request has a lease by Postgres's clock, and its attempt is stored before the send."""
    request = store.insert()

    store.claim(lease_s=30)

    row = store.row(request.id)
    assert (row["status"], row["send_state"], row["attempt"], row["tries"]) == ("queued", "claimed", 1, 1)
    assert row["next_attempt_at"] is None
    assert abs(row["lease_until"] - datetime.now(UTC) - timedelta(seconds=30)) < timedelta(seconds=20)
    assert store.find(request.id).shown_status == "sending"
    (attempt,) = store.attempts(request.id)
    assert (attempt["number"], attempt["worker"], attempt["claimed_at"]) == (1, "w", NOW)
    assert attempt["outcome"] is attempt["finished_at"] is None


def test_claimed_request_is_not_claimed_again(store: Store) -> None:
    """No other worker gets a claimed request, even after its lease has expired: the sweep must release it."""
    store.insert()
    store.claim(lease_s=RUN_OUT_S)

    assert store.claim() == []


def test_oldest_are_claimed_first_up_to_the_slots(store: Store) -> None:
    """The oldest due requests are claimed, up to the number of slots."""
    made = store.insert_many(5)

    claimed = [ids(store.claim(2)), ids(store.claim(2)), ids(store.claim(2)), ids(store.claim(2))]

    assert claimed == [{made[0].id, made[1].id}, {made[2].id, made[3].id}, {made[4].id}, set()]


@pytest.mark.parametrize(
    ("due_at_s", "send_by_s", "claimed"),
    [(0, 90, True), (-60, 0.001, True), (0.001, 90, False), (0, 0, False), (-60, -1, False)],
)
def test_only_what_is_due_and_of_use_is_claimed(
    store: Store,
    due_at_s: float,
    send_by_s: float,
    claimed: bool,
) -> None:
    """A request can be claimed from its due time until its deadline."""
    request = store.insert()
    store.change(request.id, next_attempt_at=later(due_at_s), send_by=later(send_by_s))

    assert bool(store.claim()) == claimed


@pytest.mark.parametrize("status", sorted(FINAL))
def test_ended_request_is_not_claimed(store: Store, status: Status) -> None:
    """A request that ended is idle; nothing is sent for it."""
    request = store.insert()
    requests.cancel(store.conn, request.id, client_id=store.client_id, now=NOW)
    store.change(request.id, status=status.value)

    assert store.claim() == []


def test_no_slots_claim_nothing(store: Store) -> None:
    """A pump without free slots claims nothing."""
    store.insert()

    assert store.claim(0) == []


def test_locked_request_is_passed_over(store: Store) -> None:
    """A claim skips rows that another session has locked."""
    first, second = store.insert_many(2)

    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(select(otp_requests.c.id).where(otp_requests.c.id == first.id).with_for_update())
        claimed = ids(store.claim())
        other.rollback()

    assert claimed == {second.id}
    assert ids(store.claim()) == {first.id}


def test_claimers_at_once_never_share(store: Store) -> None:
    """Concurrent workers claim each request exactly once."""
    made = store.insert_many(60)
    start = Barrier(8)

    def work(_: int) -> list[UUID]:
        taken: list[UUID] = []
        with connection(store.engine) as conn:
            start.wait()
            while claims := store.claim(4, conn=conn):
                taken += [claim.request_id for claim in claims]
        return taken

    with ThreadPoolExecutor(8) as threads:
        taken = [request_id for one in threads.map(work, range(8)) for request_id in one]
    taken += [claim.request_id for claim in store.claim()]

    assert len(taken) == len(set(taken)) == 60
    assert set(taken) == {request.id for request in made}
    rows = store.conn.execute(select(send_attempts.c.number)).scalars().all()
    assert rows == [1] * 60


def test_accepted_is_sent(store: Store) -> None:
    """The request is sent, can be checked until its code expires, and is not claimed any more."""
    request = store.insert()
    (claim,) = store.claim()

    moved = store.record(claim, accepted(), SENT, now=later(1), expires_at=later(301))

    assert moved
    row = store.row(request.id)
    assert (row["status"], row["send_state"], row["pin_id"]) == ("sent", "idle", "pin-1")
    assert (row["sent_at"], row["expires_at"], row["updated_at"]) == (later(1), later(301), later(1))
    assert row["lease_until"] is row["next_attempt_at"] is row["reason"] is row["finished_at"] is None
    (attempt,) = store.attempts(request.id)
    assert (attempt["outcome"], attempt["code"], attempt["http_status"]) == ("accepted", "MESSAGE_SENT", 200)
    assert (attempt["pin_id"], attempt["latency_ms"]) == ("pin-1", 34)
    assert (attempt["started_at"], attempt["finished_at"]) == (NOW, later(1))
    assert attempt["retryable"] is None


def test_retryable_is_due_again(store: Store) -> None:
    """The request waits for its next attempt, which has a new number."""
    request = store.insert()
    (claim,) = store.claim()

    assert store.record(claim, REFUSED, again(5))

    row = store.row(request.id)
    assert (row["status"], row["send_state"], row["next_attempt_at"]) == ("queued", "due", later(5))
    assert (row["tries"], row["unknowns"], row["provider_code"]) == (1, 0, "SERVICE_UNAVAILABLE")
    assert row["pin_id"] is row["lease_until"] is row["finished_at"] is None
    assert store.attempts(request.id)[0]["retryable"] is True
    assert store.claim(now=later(4)) == []
    (second,) = store.claim(now=later(5))
    assert (second.attempt, second.progress.tries) == (2, 2)


@pytest.mark.parametrize(
    ("outcome", "status", "reason"),
    [
        (PERMANENT, Status.FAILED, Reason.PROVIDER_REFUSED),
        (REFUSED, Status.FAILED, Reason.ATTEMPTS_EXHAUSTED),
        (UNKNOWN, Status.FAILED, Reason.OUTCOME_UNKNOWN),
        (REFUSED, Status.EXPIRED, Reason.SEND_DEADLINE),
        (RETURNED, Status.EXPIRED, Reason.SEND_DEADLINE),
    ],
)
def test_last_attempt_ends_the_request(
    store: Store, outcome: Outcome, status: Status, reason: Reason
) -> None:
    """A request that is given up ends with its reason, and the provider's code unless it was not asked."""
    request = store.insert()
    (claim,) = store.claim()

    assert store.record(claim, outcome, SendDecision(status=status, reason=reason), now=later(2))

    found = store.find(request.id)
    assert (found.status, found.reason, found.provider_code) == (
        status,
        reason,
        outcome.code if outcome.asked else None,
    )
    row = store.row(request.id)
    assert (row["send_state"], row["finished_at"], row["updated_at"]) == ("idle", later(2), later(2))
    assert row["pin_id"] is row["expires_at"] is row["sent_at"] is None


def test_unknown_is_counted(store: Store) -> None:
    """The next claim knows how many outcomes before it are unknown."""
    store.insert()
    for unknowns in range(3):
        (claim,) = store.claim()
        assert claim.progress.unknowns == unknowns
        assert store.record(claim, UNKNOWN, again())


def test_returned_gives_the_try_back_but_not_the_number(store: Store) -> None:
    """A claim that was returned unsent is no try, but its number is never reused."""
    request = store.insert()
    (first,) = store.claim()
    assert store.record(first, RETURNED, again())

    (second,) = store.claim()

    assert store.row(request.id)["tries"] == second.progress.tries == 1
    assert second.attempt == 2
    assert [one["outcome"] for one in store.attempts(request.id)] == ["returned", None]


def test_earlier_attempt_does_not_move_a_later_one(store: Store) -> None:
    """After a later claim, the outcome of an earlier attempt is only stored on that attempt."""
    request = store.insert()
    (first,) = store.claim(lease_s=RUN_OUT_S)
    store.record(first, LEASE_RAN_OUT, again())
    (second,) = store.claim()

    moved = store.record(first, accepted("pin-1"), SENT)

    assert not moved
    row = store.row(request.id)
    assert (row["status"], row["send_state"], row["attempt"], row["pin_id"]) == ("queued", "claimed", 2, None)
    noted = store.attempts(request.id)[0]
    assert (noted["outcome"], noted["pin_id"]) == ("accepted", "pin-1")
    assert store.record(second, accepted("pin-2"), SENT)
    assert store.row(request.id)["pin_id"] == "pin-2"


def test_late_accepted_wins_over_a_lease_that_ran_out(store: Store) -> None:
    """A late acceptance from a slow worker counts if no other worker has claimed: no second send."""
    request = store.insert()
    (claim,) = store.claim(lease_s=RUN_OUT_S)
    assert store.record(claim, LEASE_RAN_OUT, again())
    assert store.row(request.id)["send_state"] == "due"

    assert store.record(claim, accepted(), SENT)

    row = store.row(request.id)
    assert (row["status"], row["send_state"], row["pin_id"]) == ("sent", "idle", "pin-1")
    assert row["next_attempt_at"] is row["provider_code"] is None
    assert [one["outcome"] for one in store.attempts(request.id)] == ["accepted"]
    assert store.claim() == []


@pytest.mark.parametrize("outcome", [REFUSED, PERMANENT, UNKNOWN, RETURNED])
def test_any_other_late_word_is_only_noted(store: Store, outcome: Outcome) -> None:
    """After its lease expired only an acceptance moves the request; other outcomes stay on the attempt."""
    request = store.insert()
    (claim,) = store.claim(lease_s=RUN_OUT_S)
    store.record(claim, LEASE_RAN_OUT, again(7))
    before = store.row(request.id)

    moved = store.record(claim, outcome, SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED))

    assert not moved
    assert store.row(request.id) == before
    assert store.attempts(request.id)[0]["code"] == outcome.code


def test_late_accepted_does_not_raise_the_dead(store: Store) -> None:
    """A request that ended when its lease expired stays ended; the send is stored on the attempt."""
    request = store.insert()
    (claim,) = store.claim(lease_s=RUN_OUT_S)
    store.record(claim, LEASE_RAN_OUT, SendDecision(status=Status.FAILED, reason=Reason.OUTCOME_UNKNOWN))

    assert not store.record(claim, accepted(), SENT)

    assert store.find(request.id).status is Status.FAILED
    assert store.row(request.id)["pin_id"] is None
    assert store.attempts(request.id)[0]["pin_id"] == "pin-1"


@pytest.mark.parametrize("outcome", [accepted(), REFUSED, PERMANENT, UNKNOWN, RETURNED])
def test_request_cancelled_in_a_workers_hand_stays_cancelled(store: Store, outcome: Outcome) -> None:
    """Its late outcome is stored on the attempt, releases the claim, and changes nothing else."""
    request = store.insert()
    (claim,) = store.claim()
    requests.cancel(store.conn, request.id, client_id=store.client_id, now=later(1))
    assert store.row(request.id)["send_state"] == "claimed"

    decision = SENT if outcome.kind is OutcomeKind.ACCEPTED else again(1)
    store.record(claim, outcome, decision, now=later(2))

    row = store.row(request.id)
    assert (row["status"], row["reason"]) == ("cancelled", "cancelled_by_client")
    assert (row["send_state"], row["lease_until"], row["next_attempt_at"]) == ("idle", None, None)
    assert row["pin_id"] is row["expires_at"] is row["sent_at"] is row["provider_code"] is None
    assert row["finished_at"] == later(1)
    assert store.attempts(request.id)[0]["outcome"] == outcome.kind
    assert store.claim(now=later(3)) == []


def test_replaced_request_frees_its_claim(store: Store) -> None:
    """A request replaced during its send ends, and the new one is sent independently."""
    old = store.insert()
    (claim,) = store.claim()
    new = store.insert()

    store.record(claim, accepted(), SENT)

    assert store.find(old.id).reason is Reason.REPLACED
    assert store.find(old.id).send_state is SendState.IDLE
    assert ids(store.claim()) == {new.id}


def test_repeated_record_changes_nothing(store: Store) -> None:
    """A repeated or second outcome changes neither request nor attempt."""
    request = store.insert()
    (claim,) = store.claim()
    assert store.record(claim, accepted(), SENT)
    row, trail = store.row(request.id), store.attempts(request.id)

    for outcome, decision in (
        (accepted(), SENT),
        (accepted("pin-9"), SENT),
        (REFUSED, again()),
        (UNKNOWN, again()),
        (LEASE_RAN_OUT, again()),
    ):
        assert not store.record(claim, outcome, decision, now=later(9))

    assert store.row(request.id) == row
    assert store.attempts(request.id) == trail


def test_lease_that_ran_out_twice_counts_once(store: Store) -> None:
    """Two concurrent sweeps do no harm."""
    request = store.insert()
    (claim,) = store.claim(lease_s=RUN_OUT_S)

    assert store.record(claim, LEASE_RAN_OUT, again())
    assert not store.record(claim, LEASE_RAN_OUT, again())

    assert store.row(request.id)["unknowns"] == 1


def test_several_are_recorded_in_one_statement(store: Store) -> None:
    """Each request gets its own result; the pairs that moved are returned."""
    made = [request.id for request in store.insert_many(4)]
    claims = sorted(store.claim(), key=lambda claim: made.index(claim.request_id))
    store.record(claims[3], accepted(), SENT)

    moved = attempts.record(
        store.conn,
        [
            a_result(claims[2], UNKNOWN, again(1)),
            a_result(claims[0], accepted("pin-a"), SENT),
            a_result(claims[3], REFUSED, again()),
            a_result(
                claims[1], PERMANENT, SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED)
            ),
        ],
    )

    assert moved == {(claim.request_id, 1) for claim in claims[:3]}
    assert [store.find(claim.request_id).status for claim in claims] == ["sent", "failed", "queued", "sent"]
    assert store.row(claims[0].request_id)["pin_id"] == "pin-a"
    assert store.row(claims[3].request_id)["pin_id"] == "pin-1"


def test_recording_nothing_moves_nothing(store: Store) -> None:
    """An empty list of results is valid."""
    assert attempts.record(store.conn, []) == set()


def test_result_of_an_unknown_request_moves_nothing(store: Store) -> None:
    """A request that was deleted meanwhile is no error."""
    store.insert()
    (claim,) = store.claim()
    store.conn.execute(otp_requests.delete())

    assert not store.record(claim, accepted(), SENT)


def test_records_at_once_do_not_deadlock(store: Store, store_url: str, other_engine: MakeEngine) -> None:
    """Workers and sweeps record the same rows in any order; each result is recorded in the end."""
    store.insert_many(150)
    claims = store.claim(150, lease_s=RUN_OUT_S)
    engine = other_engine(store_url, pool_size=4)
    start = Barrier(4)

    def work(number: int) -> int:
        mine = claims if number % 2 else claims[::-1]
        outcome, decision = (accepted(f"pin-{number}"), SENT) if number < 2 else (LEASE_RAN_OUT, again())
        left = {(claim.request_id, claim.attempt): a_result(claim, outcome, decision) for claim in mine}
        start.wait()
        moved = 0
        while left:
            turn = turn_of(store, list(left.values()), on=engine)
            moved += len(turn.moved)
            left = {key: result for key, result in left.items() if key in turn.locked}
        return moved

    with ThreadPoolExecutor(4) as threads:
        moved = sum(threads.map(work, range(4)))

    assert 150 <= moved <= 300
    assert [row.status for row in store.conn.execute(select(otp_requests.c.status))] == ["sent"] * 150


def turn_of(store: Store, results: Sequence[AttemptResult], *, on: Engine, slots: int = 0) -> PumpTurn:
    """Record results and claim, as one turn."""
    return take_turn(on, results, slots=slots, lease_s=30, worker="w", now=NOW, vault=store.vault)


def test_turn_records_and_claims(store: Store) -> None:
    """Results and claims share one call; a refused request may be claimed again in it."""
    refused, sent, waiting = store.insert_many(3)
    first = {claim.request_id: claim for claim in store.claim(2)}
    results = [
        a_result(first[refused.id], REFUSED, again()),
        a_result(first[sent.id], accepted(), SENT),
    ]

    turn = turn_of(store, results, on=store.engine, slots=5)

    assert turn.moved == {(refused.id, 1), (sent.id, 1)}
    assert {(claim.request_id, claim.attempt) for claim in turn.claims} == {(refused.id, 2), (waiting.id, 1)}
    assert (turn.locked, turn.next_due) == (set(), None)


def test_turn_without_work_returns_the_next_due_time(store: Store) -> None:
    """If nothing is due, the turn returns when the next request falls due."""
    request = store.insert()
    store.change(request.id, next_attempt_at=later(7))
    assert turn_of(store, [], on=store.engine, slots=5).next_due == later(7)

    store.claim(now=later(8))

    assert turn_of(store, [], on=store.engine, slots=5) == PumpTurn(claims=[], moved=set(), locked=set())


def test_locked_request_holds_up_no_other(store: Store) -> None:
    """All results of a batch but those locked by another session are recorded at once; the rest later."""
    held, free = store.insert_many(2)
    claims = {claim.request_id: claim for claim in store.claim()}
    results = [a_result(claims[one.id], accepted(), SENT) for one in (held, free)]
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(select(otp_requests.c.id).where(otp_requests.c.id == held.id).with_for_update())
        begun = time.monotonic()
        turn = turn_of(store, results, on=store.engine)
        took_s = time.monotonic() - begun
        other.rollback()

    assert (turn.moved, turn.locked) == ({(free.id, 1)}, {(held.id, 1)})
    assert took_s < 1  # and the lock's time-out is two seconds
    assert store.attempts(held.id)[0]["outcome"] is None
    assert turn_of(store, results, on=store.engine).moved == {(held.id, 1)}
    assert store.find(held.id).status is Status.SENT


def test_overdue_are_claims_with_an_expired_lease(store: Store) -> None:
    """Only a claim with an expired lease, by Postgres's clock, is found; longest first, up to the limit."""
    made = store.insert_many(4)
    (living,) = store.claim(1, lease_s=60)
    dead = [store.claim(1, lease_s=RUN_OUT_S)[0] for _ in range(3)]

    found = attempts.find_expired_leases(store.conn, limit=2)

    assert living.request_id == made[0].id
    assert [one.request_id for one in found] == [claim.request_id for claim in dead[:2]]
    assert found[0].attempt == 1
    assert found[0].progress == dead[0].progress
    assert len(attempts.find_expired_leases(store.conn, limit=10)) == 3
    store.record(found[0], LEASE_RAN_OUT, again())
    assert len(attempts.find_expired_leases(store.conn, limit=10)) == 2


def test_cancelled_claim_can_be_overdue(store: Store) -> None:
    """A request cancelled while a killed worker held it is released, and stays cancelled."""
    request = store.insert()
    store.claim(lease_s=RUN_OUT_S)
    requests.cancel(store.conn, request.id, client_id=store.client_id, now=NOW)

    (lost,) = attempts.find_expired_leases(store.conn, limit=10)
    store.record(lost, LEASE_RAN_OUT, again())

    found = store.find(request.id)
    assert (found.status, found.send_state) == (Status.CANCELLED, SendState.IDLE)


def test_next_due_is_the_earliest_that_can_still_be_sent(store: Store) -> None:
    """A pump learns how long to sleep; claimed, ended and expired requests do not count."""
    assert attempts.read_next_due(store.conn, now=NOW) is None
    first, second, third = store.insert_many(3)
    store.change(first.id, next_attempt_at=later(5), send_by=later(6))
    store.change(second.id, next_attempt_at=later(7))
    store.change(third.id, next_attempt_at=later(9))

    assert attempts.read_next_due(store.conn, now=NOW) == later(5)
    assert attempts.read_next_due(store.conn, now=later(6)) == later(7)
    store.claim(now=later(8))
    assert attempts.read_next_due(store.conn, now=later(8)) == later(9)
    requests.cancel(store.conn, third.id, client_id=store.client_id, now=NOW)
    assert attempts.read_next_due(store.conn, now=later(8)) is None
