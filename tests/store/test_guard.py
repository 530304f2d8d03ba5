"""The pumping guard's SQL: it reads the tallies, allows what the rule allows, and loses no count."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, insert, text

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.guard import (
    EMPTY,
    TOTAL,
    BlockTally,
    CountedAs,
    CountedSend,
    GuardFacts,
    GuardPolicy,
    NumberFacts,
    SendWindow,
    decide_send,
    get_block,
    truncate_to_hour,
)
from otpqueue.domain.request import Reason, Status
from otpqueue.domain.sending import RETURNED, SendDecision
from otpqueue.operations.guard.pumping_guard import GuardClaims
from otpqueue.store import expiring, requests
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection, fetch
from otpqueue.store.guard import tallies as store_guard
from otpqueue.store.guard.tallies import GuardSubject, format_policy
from otpqueue.store.schema import guard_addresses, guard_exceptions, guard_tallies
from tests.store.conftest import NOW, NUMBER, REFUSED, SENT, Store, accepted, again, later
from tests.store.lives import Life, ask_again

POLICY = GuardPolicy()
BLOCK = get_block(NUMBER.removeprefix("+"))
GUARDED: dict[str, Any] = {"guard": CountedSend(block=BLOCK)}

Counts = dict[tuple[str, datetime], tuple[int, ...]]
"""By subject and hour: sent, verified, shadowed, shadowed and verified."""


def make_guard(store: Store, policy: GuardPolicy = POLICY) -> GuardClaims:
    """Return what decides on claims."""
    return GuardClaims(engine=store.engine, vault=store.vault, policy=policy)


def tallies(conn: Connection) -> Counts:
    """Return what is counted and not given back."""
    rows = conn.execute(
        text("SELECT subject, hour, sent, verified, shadowed, shadowed_verified FROM guard_tallies")
    )
    found = {(row.subject, row.hour): tuple(row[2:]) for row in rows}
    return {key: counts for key, counts in found.items() if any(counts)}


def counted(store: Store, subject: str = BLOCK) -> tuple[int, ...]:
    """Return what is counted of a subject in this hour."""
    return tallies(store.conn).get((subject, truncate_to_hour(NOW)), (0, 0, 0, 0))


def learn(store: Store, block: str, *, verified: int) -> None:
    """Store that many verifications in a block the day before."""
    row = {"subject": block, "hour": truncate_to_hour(NOW) - timedelta(days=1), "country": "GB"}
    store.conn.execute(insert(guard_tallies).values(**row, sent=verified, verified=verified))


def as_json(facts: GuardFacts) -> str:
    """Return facts as SQL has them."""

    def tally(one: BlockTally) -> dict[str, int] | None:
        windows = {"now": one.now, "hour": one.hour, "day": one.day}
        found = {f"{name}_sent": window.sent for name, window in windows.items()}
        found |= {f"{name}_verified": window.verified for name, window in windows.items()}
        found |= {"best_hour": one.best_hour, "best_day": one.best_day, "refused": one.refused}
        return None if one == EMPTY else found

    address = facts.address
    return json.dumps(
        {
            "verified": facts.number.verified,
            "own": facts.number.own,
            "excepted": facts.excepted,
            "block": tally(facts.block),
            "country": tally(facts.country),
            "total": tally(facts.total),
            "address": {"sent": address.sent, "verified": address.verified} if address else None,
        }
    )


few = st.integers(0, 12)
windows = st.builds(lambda verified, more: SendWindow(sent=verified + more, verified=verified), few, few)
some_tallies = st.one_of(
    st.just(EMPTY),
    st.builds(BlockTally, hour=windows, day=windows, best_hour=few, best_day=few, refused=st.integers(0, 2)),
)
some_facts = st.builds(
    GuardFacts,
    number=st.builds(NumberFacts, verified=st.sampled_from([False] * 9 + [True]), own=st.integers(0, 4)),
    block=st.one_of(
        st.just(EMPTY), st.builds(BlockTally, day=windows, refused=st.integers(0, 1)), some_tallies
    ),
    excepted=st.sampled_from([False] * 9 + [True]),
    country=some_tallies,
    total=some_tallies,
    address=st.none() | windows,
)
some_policies = st.builds(
    GuardPolicy,
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    **{name: few for name in vars(POLICY) if name != "share"},
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(facts=some_facts, policy=some_policies)
def test_sql_allows_what_the_rule_allows(store: Store, facts: GuardFacts, policy: GuardPolicy) -> None:
    """SQL's "allowed" is exactly the rule's, whatever the facts and budgets."""
    (row,) = fetch(
        store.engine,
        "SELECT guard_allows(%(facts)s::jsonb, %(policy)s::jsonb) AS allowed",
        {"facts": as_json(facts), "policy": format_policy(policy)},
    )

    assert row.allowed is decide_send(policy, facts).allowed


def test_facts_are_what_was_counted(store: Store) -> None:
    """Each window, the best hour and day, addresses and exceptions are read as a recount has them."""
    random, now = Random(7), NOW + timedelta(minutes=59, seconds=59)
    hours = [truncate_to_hour(now) - timedelta(hours=n) for n in [*range(28), *range(300, 342)]]
    rows = []
    for subject in (BLOCK, "GB", TOTAL, "44770091"):
        for hour in hours:
            verified = random.randrange(4)
            row = {"subject": subject, "hour": hour, "country": "GB", "verified": verified}
            rows.append(row | {"sent": verified + random.randrange(3), "refused": random.randrange(3)})
    store.conn.execute(insert(guard_tallies), [one for one in rows if random.random() < 0.8])
    store.conn.execute(
        insert(guard_addresses),
        [
            {
                "address_hash": address,
                "hour": truncate_to_hour(now) - timedelta(hours=ago),
                "tries": 3,
                "verified": 1,
            }
            for address, ago in [(b"a", 0), (b"a", 23), (b"a", 24), (b"b", 1), (b"c", 1)]
        ],
    )
    found = store.conn.execute(text("SELECT * FROM guard_tallies")).all()

    def tally(subject: str) -> BlockTally:
        ours = [
            row
            for row in found
            if row.subject == subject and row.hour > truncate_to_hour(now) - timedelta(days=14)
        ]

        def window(hours: int) -> SendWindow:
            since = truncate_to_hour(now) - timedelta(hours=hours - 1)
            these = [row for row in ours if row.hour >= since]
            return SendWindow(
                sent=sum(row.sent for row in these), verified=sum(row.verified for row in these)
            )

        days: Counter[Any] = Counter()
        for row in ours:
            days[row.hour.date()] += row.verified
        return BlockTally(
            now=window(1),
            hour=window(2),
            day=window(24),
            best_hour=max(row.verified for row in ours),
            best_day=max(days.values()),
            refused=sum(row.refused for row in ours if row.hour > truncate_to_hour(now) - timedelta(days=1)),
        )

    def facts(block: str, *, exception: str | None = None) -> GuardFacts:
        with connection(store.engine) as conn:
            conn.execute(guard_exceptions.delete())
            if exception:
                row = {"subject": exception, "until": now + timedelta(hours=1), "created_at": now}
                conn.execute(insert(guard_exceptions).values(row))
        subject = GuardSubject(
            block=block,
            country="GB",
            digits=f"{block}0001",
            number_hashes=[b"n"],
            address_hashes=[b"a", b"b"],
        )
        return store_guard.take(
            store.engine, subject, policy=format_policy(POLICY), resend=False, chances=False, now=now
        ).facts

    assert facts(BLOCK).block == tally(BLOCK)
    # All that is asked of a new block, and no more is read of a known one.
    new = facts("44740010")
    assert (new.block, new.country, new.total) == (EMPTY, tally("GB"), tally(TOTAL))
    assert new.address == SendWindow(sent=9, verified=3)
    assert facts(BLOCK).country == EMPTY
    assert [facts(BLOCK, exception=one).excepted for one in ("GB", "4477", "FR", "4478")] == [
        *(True, True, False, False)
    ]


def test_number_is_verified_for_14_days(store: Store) -> None:
    """A verified number is known for 14 days, in whole hours, and not longer."""
    request = store.insert(**GUARDED)
    for age, verified in ((timedelta(days=13, hours=23), True), (timedelta(days=14, hours=1), False)):
        store.change(request.id, verified_at=NOW, created_at=NOW - age)
        (row,) = fetch(
            store.engine,
            "SELECT verified FROM guard_number(%(hashes)s, %(now)s)",
            {"hashes": store.vault.number_hashes(NUMBER), "now": NOW},
        )
        assert row.verified is verified


class GuardedLife(Life):
    """A request with random events, and decisions on its claims at once, late, or twice."""

    def __init__(self, store: Store, random: Random, number: int, guard: GuardClaims) -> None:
        self.guard = guard
        self.undecided: list[Claim] = []
        super().__init__(store, random, number)

    def ask(self) -> None:
        """Ask for a code for a number of one of three blocks, within few hours."""
        if not self.ids:
            # Few hours and blocks, so that many are counted in the same rows.
            self.now = NOW + timedelta(minutes=self.random.randrange(200))
            block = self.random.choice(["+44740000", "+44740001", "+33612000"])
            self.phone_number = f"{block}{self.random.randrange(1000):04}"[: 12 if "+33" in block else 13]
        super().ask()

    def wanted(self) -> dict[str, Any]:
        """Return what is stored in shadow mode."""
        return {"guard": CountedSend(block=get_block(self.phone_number.removeprefix("+")))}

    def claim(self) -> None:
        """Claim, and decide now or later."""
        before = len(self.claims)
        super().claim()
        self.undecided += [one for one in self.claims[before:] if isinstance(one, Claim)]
        self.decide()

    def answer(self) -> None:
        """Record an outcome; the decision may come after it."""
        super().answer()
        self.decide()

    def judge(self) -> None:
        """Judge a check; the decision may come after it."""
        super().judge()
        self.decide()

    def decide(self, *, whole: bool = False) -> None:
        """Decide on what is left, sometimes, and now and then a second time."""
        if whole or self.random.random() < 0.4:
            self.guard.decide(self.undecided, self.now)
            if self.random.random() < 0.8:
                self.undecided.clear()


def recounted(rows: list[Any], blocks: dict[UUID, str]) -> Counts:
    """Return what should be counted, by what the rows of the requests say of themselves."""
    found: dict[tuple[str, datetime], list[int]] = {}
    for row in rows:
        at_risk, verified = row.guard_known + row.guard_new, int(row.verified_at is not None)
        good, refused = verified * row.guard_refused, row.guard_refused
        chances = (row.guard_new, verified * row.guard_new, 0, 0)
        for subject, counts in (
            (blocks[row.id], (at_risk + good, verified * at_risk + good, refused, good)),
            (TOTAL, chances),
            (row.country, chances),
        ):
            were = found.setdefault((subject, truncate_to_hour(row.created_at)), [0, 0, 0, 0])
            were[:] = [was + more for was, more in zip(were, counts, strict=True)]
    return {key: tuple(counts) for key, counts in found.items() if any(counts)}


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.full) for seed in (1, 2))])
def test_counts_are_exact_whatever_happens(store: Store, seed: int) -> None:
    """Whenever decisions come, and whatever becomes of requests, tallies are what their rows add up to."""
    random = Random(seed)
    guard = make_guard(store, GuardPolicy(share=0.1, block_floor=1, country_floor_hour=4))
    learn(store, "44740001", verified=4)
    lives = [GuardedLife(store, random, number, guard) for number in range(60)]
    for life in lives:
        life.live()
        life.decide(whole=True)

    rows = store.conn.execute(text("SELECT * FROM otp_requests")).all()
    blocks = {one: get_block(life.phone_number.removeprefix("+")) for life in lives for one in life.ids}
    learnt = ("44740001", truncate_to_hour(NOW) - timedelta(days=1))
    assert tallies(store.conn) == recounted(rows, blocks) | {learnt: (4, 4, 0, 0)}
    assert {row.guard_as for row in rows} == {None, *CountedAs}
    for row in rows:
        held = row.guard_known + row.guard_new + row.guard_refused
        outcomes = {one["outcome"] for one in store.attempts(row.id)}
        assert 0 <= held <= row.guard_counted <= row.sends
        if not outcomes:
            assert row.guard_counted == 0
        if "accepted" in outcomes:
            assert held
        if row.status in {"failed", "expired"} and not (row.sent_at or row.unknowns):
            assert outcomes <= {"refused", "returned"}
            assert held == 0


def claimed(store: Store, count: int = 1, *, number: str = "+4474000{:05}", **fields: Any) -> list[Claim]:
    """Store requests for as many numbers of a block, and claim them."""
    for index in range(count):
        each = number.format(index)
        store.insert(each, **{"guard": CountedSend(block=get_block(each.removeprefix("+"))), **fields})
    found = sorted(store.claim(), key=lambda claim: claim.digits)
    assert len(found) == count
    return found


def test_retry_is_not_counted_again(store: Store) -> None:
    """A send is counted once, however often it is claimed and decided on; a resend is another send."""
    guard = make_guard(store)
    store.insert(**GUARDED)
    (claim,) = store.claim()
    guard.decide([claim], NOW)
    guard.decide([claim], NOW)
    store.record(claim, REFUSED, again())
    (retry,) = store.claim()
    guard.decide([retry], NOW)
    assert counted(store) == counted(store, "GB") == counted(store, TOTAL) == (1, 0, 0, 0)

    store.record(retry, accepted(), SENT)
    store.change(retry.request_id, resend_after=NOW)
    assert ask_again(store, store.find(retry.request_id), now=NOW)
    guard.decide(store.claim(), NOW)

    assert counted(store) == counted(store, "GB") == (2, 0, 0, 0)


def test_batch_counts_itself(store: Store) -> None:
    """Of a batch for one new block one is the chance; of one for many blocks, as many as the country has."""
    guard = make_guard(store)

    guard.decide(claimed(store, 10), NOW)
    assert counted(store, "44740000") == (1, 0, 9, 0)

    guard.decide(claimed(store, 10, number="+44741{:03}0001"), NOW)
    assert counted(store, "GB") == counted(store, TOTAL) == (POLICY.country_floor_hour, 0, 0, 0)


def test_batch_costs_two_statements(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many claims there are, the guard reads once and writes once; for none it does nothing."""
    calls: list[str] = []

    def noted(engine: Any, statement: str, parameters: Any) -> list[Any]:
        calls.append(statement)
        return fetch(engine, statement, parameters)

    monkeypatch.setattr(store_guard, "fetch", noted)
    guard = make_guard(store)
    for count in (1, 40):
        batch = claimed(store, count, number=f"+4474{count:03}{{:05}}")
        guard.decide(batch, NOW)
        assert len(calls) == 2
        calls.clear()

    guard.decide([], NOW)
    guard.decide([replace(one, is_test=True) for one in batch], NOW)
    guard.decide([replace(one, guard_block=None) for one in batch], NOW)
    guard.decide([replace(one, guard_counted=1) for one in batch], NOW)
    assert calls == []


@pytest.mark.parametrize("known", [True, False])
def test_workers_lose_no_count(store: Store, known: bool) -> None:
    """Of workers that decide at the same moment none overwrites another's counts, whatever they decide."""
    if known:
        learn(store, "44740000", verified=40)
    batch = claimed(store, 96)
    parts = [batch[index::12] for index in range(12)]

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(lambda part: make_guard(store).decide(part, NOW), parts))

    sent, verified, shadowed, lost = counted(store, "44740000")
    assert (sent + shadowed, verified, lost) == (96, 0, 0)
    # Concurrent workers may each use the remaining budget; at least one uses all of it.
    assert sent >= (POLICY.block_floor + 20 if known else 1)
    rows = store.conn.execute(text("SELECT guard_as, guard_counted FROM otp_requests")).all()
    assert Counter(row.guard_as for row in rows)["refused"] == shadowed
    assert {row.guard_counted for row in rows} == {1}
    decided = store.conn.execute(text("SELECT sum(tries) FROM guard_decisions")).scalar_one()
    assert decided == shadowed


def test_send_that_never_was_claimed_is_not_counted(store: Store) -> None:
    """What ends before its claim takes nothing from others of its block, and gives nothing back."""
    guard = make_guard(store)
    guard.decide(claimed(store), NOW)
    cancelled = store.insert("+447400009001", guard=CountedSend(block="44740000"))
    requests.cancel(store.conn, cancelled.id, client_id=store.client_id, now=NOW)
    store.insert("+447400009002", guard=CountedSend(block="44740000"))
    expiring.expire_unsent(store.conn, now=later(100), limit=10)

    assert counted(store, "44740000") == counted(store, "GB") == (1, 0, 0, 0)


def test_resend_that_is_not_claimed_gives_nothing_back(store: Store) -> None:
    """A resend is not counted if its deadline passes before the claim; a refused one is subtracted."""
    guard = make_guard(store)
    request = store.insert(**GUARDED)
    guard.decide([claim := store.claim()[0]], NOW)
    store.record(claim, accepted(), SENT)
    store.change(request.id, resend_after=NOW)
    assert ask_again(store, request, now=NOW)
    expiring.give_up_resends(store.conn, now=later(100), limit=10)
    assert counted(store) == counted(store, "GB") == (1, 0, 0, 0)

    store.change(request.id, resend_after=NOW, expires_at=later(300))
    assert ask_again(store, request, now=NOW)
    guard.decide([second := store.claim()[0]], NOW)
    assert counted(store) == (2, 0, 0, 0)
    store.record(second, REFUSED, SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED))

    assert counted(store) == counted(store, "GB") == (1, 0, 0, 0)
    assert store.check(request, CheckVerdict.CORRECT) is Status.VERIFIED
    assert counted(store) == counted(store, "GB") == (1, 1, 0, 0)


def test_sends_of_a_request_may_be_counted_apart(store: Store) -> None:
    """First the chance of a new block, then a send that a budget refused: each is credited as what it was."""
    request = store.insert(**GUARDED)
    (claim,) = store.claim()
    make_guard(store).decide([claim], NOW)
    store.record(claim, accepted(), SENT)
    store.change(request.id, resend_after=NOW)
    assert ask_again(store, request, now=NOW)
    make_guard(store, GuardPolicy(country_floor_hour=1)).decide(store.claim(), NOW)
    assert counted(store) == (1, 0, 1, 0)
    assert counted(store, "GB") == (1, 0, 0, 0)

    store.check(request, CheckVerdict.CORRECT)

    assert counted(store) == (2, 2, 1, 1)
    assert counted(store, "GB") == counted(store, TOTAL) == (1, 1, 0, 0)


def test_decision_may_come_after_the_end(store: Store) -> None:
    """In a late decision, a verified send counts as verified, and one that failed does not count."""
    guard = make_guard(store)
    verified, failed, cancelled, resent = claimed(store, 4, number="+447400{}00001")
    store.record(verified, accepted(), SENT)
    assert store.check(store.find(verified.request_id), CheckVerdict.CORRECT) is Status.VERIFIED
    store.record(failed, REFUSED, SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED))
    requests.cancel(store.conn, cancelled.request_id, client_id=store.client_id, now=NOW)
    store.record(resent, RETURNED, again())

    guard.decide([verified, failed, cancelled, resent], NOW)

    assert [counted(store, f"447400{last}0") for last in range(4)] == [
        *((1, 1, 0, 0), (0, 0, 0, 0)),
        # It may have left when it was cancelled; the other one is due again.
        *((1, 0, 0, 0), (1, 0, 0, 0)),
    ]
    # The number that is verified already was no chance.
    assert counted(store, "GB") == counted(store, TOTAL) == (2, 0, 0, 0)


def test_cancelled_send_that_was_given_back_never_left(store: Store) -> None:
    """A request is cancelled while it is claimed, and the worker gives the send back before it is counted."""
    (claim,) = claimed(store)
    requests.cancel(store.conn, claim.request_id, client_id=store.client_id, now=NOW)
    store.record(claim, RETURNED, again())

    make_guard(store).decide([claim], NOW)

    assert tallies(store.conn) == {}


def test_request_that_is_gone_is_not_counted(store: Store) -> None:
    """Of a request that was erased since its claim nothing is counted."""
    batch = claimed(store, 2, number="+447400{}00001")
    store.conn.execute(text("DELETE FROM otp_requests WHERE id = :id"), {"id": batch[0].request_id})

    make_guard(store).decide(batch, NOW)

    assert counted(store, "44740000") == (0, 0, 0, 0)
    assert counted(store, "44740010") == (1, 0, 0, 0)


def test_address_is_counted_for_first_tries_of_new_blocks(store: Store) -> None:
    """An address's tries at new blocks count once a request, and are credited where they are verified."""
    guard = make_guard(store)
    batch = claimed(store, 3, number="+447400{}00001", client_ip="203.0.113.7")
    guard.decide(batch, NOW)
    store.record(batch[0], accepted(), SENT)
    store.check(store.find(batch[0].request_id), CheckVerdict.CORRECT)

    address = store.conn.execute(text("SELECT tries, verified FROM guard_addresses")).one()
    assert tuple(address) == (3, 1)
    reasons = store.conn.execute(text("SELECT reason, tries FROM guard_decisions")).all()
    assert [tuple(row) for row in reasons] == [("address_budget", 1)]


def test_rows_of_the_version_before_are_counted_already(store: Store) -> None:
    """What a process of the version before has counted at acceptance is not counted again, but credited."""
    guard = make_guard(store)
    for index, counted_as in enumerate(CountedAs):
        number = f"+447400{index}00001"
        request = store.insert(number, guard=CountedSend(block=get_block(number[1:])))
        store.change(request.id, guard_as=counted_as.value)
        subjects = [f"447400{index}0", *(["GB", TOTAL] if counted_as is CountedAs.NEW else [])]
        counts = {"shadowed": 1} if counted_as is CountedAs.REFUSED else {"sent": 1}
        rows = [
            {"subject": one, "hour": truncate_to_hour(NOW), "country": "GB", **counts} for one in subjects
        ]
        store.conn.execute(insert(guard_tallies), rows)
    before = tallies(store.conn)
    batch = sorted(store.claim(), key=lambda claim: claim.digits)
    guard.decide(batch, NOW)
    assert tallies(store.conn) == before

    # One's own sends are those that counted.
    for claim, own in zip(batch, (1, 1, 0), strict=True):
        (row,) = fetch(
            store.engine,
            "SELECT own FROM guard_number(%(hashes)s, %(now)s)",
            {"hashes": [claim.number_hash], "now": NOW},
        )
        assert row.own == own
        store.record(claim, accepted(), SENT)
        store.check(store.find(claim.request_id), CheckVerdict.CORRECT)

    assert [counted(store, f"447400{index}0") for index in range(3)] == [
        *((1, 1, 0, 0), (1, 1, 0, 0), (1, 1, 1, 1))
    ]
    assert counted(store, "GB") == counted(store, TOTAL) == (1, 1, 0, 0)
