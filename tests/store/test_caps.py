"""Daily caps at the claim: exact under concurrency, subtracted after failed sends, and new each day."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError

from otpqueue.domain.caps import Caps, CapScope, get_cap_day
from otpqueue.domain.phone import PhoneNumber
from otpqueue.domain.request import Status
from otpqueue.domain.sending import LEASE_RAN_OUT, RETURNED, Outcome, OutcomeKind, SendDecision
from otpqueue.store import attempts, clients, send_counts
from otpqueue.store.claims import Claim
from otpqueue.store.engine import connection, run
from otpqueue.store.functions import create_statements
from otpqueue.store.schema import clients as client_rows
from otpqueue.store.schema import otp_requests, send_attempts
from otpqueue.store.send_counts import ALL
from tests.store.conftest import NOW, REFUSED, RUN_OUT_S, SENT, Store, a_result, accepted, again

UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")


def counts(store: Store, day: datetime = NOW) -> dict[tuple[str, str], int]:
    """Return a day's counts by scope and subject, those of clients by `client`."""
    found = send_counts.read_counts(store.conn, get_cap_day(day))
    return {
        (one.scope.value, "" if one.scope is CapScope.CLIENT else one.subject): one.taken
        for one in found
        if one.scope is not CapScope.CLIENT or one.subject == str(store.client_id)
    }


def fill(store: Store, rows: list[tuple[UUID, str | None]], *, due: datetime = NOW) -> list[UUID]:
    """Store a due request of each client and country, oldest first, and return their ids."""
    made = [
        store.insert(
            phone=PhoneNumber(f"+4474{place:08}", country, "mobile"),
            client_id=client,
            created_at=due - timedelta(seconds=60) + timedelta(milliseconds=place),
            send_by=due + timedelta(seconds=90),
        )
        for place, (client, country) in enumerate(rows)
    ]
    return [request.id for request in made]


def statuses(store: Store) -> Counter[tuple[str, str, str | None]]:
    """Return the number of requests by status."""
    found = store.conn.execute(
        select(otp_requests.c.status, otp_requests.c.send_state, otp_requests.c.reason)
    )
    return Counter(tuple(row) for row in found)


@pytest.fixture
def change_counting(store: Store) -> Iterator[Callable[[str, str], None]]:
    """Yield a function that replaces a part of `count_sends`, until the test ends."""
    (function,) = (one for one in create_statements() if "FUNCTION count_sends(" in one)

    def change(part: str, by: str) -> None:
        assert part in function
        store.conn.exec_driver_sql(function.replace(part, by))

    yield change
    store.conn.exec_driver_sql(function)


def test_claims_are_counted(store: Store) -> None:
    """Each attempt counts in total, for its client and for its country; 001 if it has none."""
    fill(store, [(store.client_id, "GB"), (store.client_id, "GB"), (store.client_id, None)])

    assert len(store.claim()) == 3

    assert counts(store) == {("all", ""): 3, ("client", ""): 3, ("country", "GB"): 2, ("country", "001"): 1}


@pytest.mark.parametrize(
    "caps", [Caps(overall=3), Caps(per_client=3), Caps(by_country={"GB": 3}), Caps(by_country={"*": 3})]
)
def test_over_the_cap_ends_at_once(store: Store, caps: Caps) -> None:
    """The oldest are sent up to the cap; the others fail at the next claim, with the reason."""
    ids = fill(store, [(store.client_id, "GB")] * 5)

    claimed = store.claim(caps=caps)
    left = store.claim(caps=caps)

    assert {one.request_id for one in claimed} == set(ids[:3])
    assert left == []
    assert statuses(store) == {("queued", "claimed", None): 3, ("failed", "idle", "daily_cap"): 2}
    row = store.row(ids[4])
    assert (row["finished_at"], row["next_attempt_at"], row["attempt"]) == (NOW, None, 0)
    assert counts(store)["all", ""] == 3


def test_client_has_a_cap_of_its_own(store: Store) -> None:
    """A client's own cap overrides the deployment's, up or down."""
    other = clients.ensure_client(store.conn, "other", now=NOW)
    store.conn.execute(update(client_rows).where(client_rows.c.id == other).values(settings={"daily_cap": 1}))
    fill(store, [(other, "GB"), (store.client_id, "GB")] * 3)

    caps = Caps(per_client=2)
    claimed = store.claim(caps=caps)
    store.claim(caps=caps)

    assert len(claimed) == 3
    assert statuses(store) == {("queued", "claimed", None): 3, ("failed", "idle", "daily_cap"): 3}
    assert counts(store)["client", ""] == 2


def test_other_countries_do_not_wait_behind_a_capped_one(store: Store) -> None:
    """Requests over their country's cap end, and those behind them are sent."""
    fill(store, [(store.client_id, "ID")] * 30 + [(store.client_id, "GB")] * 5)
    caps = Caps(by_country={"ID": 0})

    claimed: list[Claim] = []
    for _ in range(4):
        claimed += store.claim(10, caps=caps)

    assert [claim.country for claim in claimed] == ["GB"] * 5
    assert statuses(store) == {("queued", "claimed", None): 5, ("failed", "idle", "daily_cap"): 30}


def test_each_claim_brings_something_forward(store: Store) -> None:
    """With several caps, claiming continues until nothing is due, and uses all that the caps allow."""
    chance = random.Random(7)
    others = [clients.ensure_client(store.conn, f"c{i}", now=NOW) for i in range(3)]
    fill(store, [(chance.choice(others), chance.choice(["GB", "DE", "ID", None])) for _ in range(120)])
    caps = Caps(overall=60, per_client=25, by_country={"GB": 20, "ID": 5, "*": 30})

    for _ in range(60):
        store.claim(16, caps=caps)

    states = statuses(store)
    sent = states["queued", "claimed", None]
    assert sent + states["failed", "idle", "daily_cap"] == 120
    assert sent == counts(store)["all", ""] <= 60
    taken = {(one.scope, one.subject): one.taken for one in send_counts.read_counts(store.conn, NOW.date())}
    # Full: each request that failed was over a cap of its own.
    over = store.conn.execute(
        select(otp_requests.c.client_id, otp_requests.c.country).where(otp_requests.c.status == "failed")
    ).all()
    for client, country in over:
        assert (
            taken[ALL] == 60
            or taken[CapScope.CLIENT, str(client)] == 25
            or taken[CapScope.COUNTRY, country or "001"] == caps.get_country_cap(country)
        )


def test_resend_over_the_cap_fails_beside_its_request(store: Store) -> None:
    """The sent code stays valid: only the resend fails, with the reason."""
    request = store.insert_sent()
    store.change(request.id, send_state="due", next_attempt_at=NOW, resend="pending", send_kind="resend")

    assert store.claim(caps=Caps(overall=1)) == []

    after = store.find(request.id)
    assert (after.status, after.send_state, after.reason) == (Status.SENT, "idle", None)
    assert (after.resend, after.resend_reason) == ("failed", "daily_cap")


@pytest.mark.parametrize(
    ("outcome", "decision", "taken"),
    [
        (accepted(), SENT, 1),
        (UNKNOWN, again(), 1),
        (LEASE_RAN_OUT, again(), 1),
        (REFUSED, again(), 0),
        (Outcome(kind=OutcomeKind.REFUSED, code="BAD_REQUEST", http_status=400), SENT, 0),
        (RETURNED, again(), 0),
    ],
)
def test_what_did_not_leave_is_given_back(
    store: Store, outcome: Outcome, decision: SendDecision, taken: int
) -> None:
    """Refused and returned attempts do not count; attempts with unknown outcome do."""
    store.insert()
    (claim,) = store.claim()

    store.record(claim, outcome, decision)

    assert counts(store) == {("all", ""): taken, ("client", ""): taken, ("country", "GB"): taken}


def test_an_attempt_is_given_back_once(store: Store) -> None:
    """A result that is recorded twice, or after its lease expired, is subtracted once."""
    first, second = store.insert_many(2)
    claims = {claim.request_id: claim for claim in store.claim(lease_s=RUN_OUT_S)}
    store.record(claims[first.id], LEASE_RAN_OUT, again(50))

    for _ in range(3):
        store.record(claims[first.id], REFUSED, again(50))
        store.record(claims[first.id], RETURNED, again(50))

    assert counts(store)["all", ""] == 1
    assert store.attempts(second.id)[0]["outcome"] is None


def test_midnight_begins_a_new_count(store: Store) -> None:
    """A cap applies to a UTC day; a claim before midnight is subtracted from its day."""
    caps = Caps(overall=1)
    before = datetime(2026, 3, 1, 23, 59, 59, 900_000, tzinfo=NOW.tzinfo)
    after = before + timedelta(seconds=0.2)
    fill(store, [(store.client_id, "GB")] * 2, due=before)

    (first,) = store.claim(1, caps=caps, now=before)
    (second,) = store.claim(1, caps=caps, now=after)
    assert (counts(store, before)["all", ""], counts(store, after)["all", ""]) == (1, 1)
    store.record(first, REFUSED, SendDecision(status=Status.FAILED), now=after)

    assert (counts(store, before)["all", ""], counts(store, after)["all", ""]) == (0, 1)
    assert second.request_id != first.request_id


def test_claims_do_not_wait_for_each_other(store: Store) -> None:
    """Far from its cap a count is shared: a claim does not wait for uncommitted claims."""
    caps = Caps(overall=10**6, per_client=10**6, by_country={"*": 10**6})
    store.insert_many(6)
    engine = store.engine.execution_options(isolation_level="READ COMMITTED")

    with engine.connect() as first, engine.connect() as second, first.begin(), second.begin():
        for conn in (first, second):
            conn.execute(text("SET LOCAL lock_timeout = '2s'"))
            assert len(store.claim(2, conn=conn, caps=caps)) == 2
        assert len(store.claim(2, caps=caps)) == 2

    assert counts(store) == {("all", ""): 6, ("client", ""): 6, ("country", "GB"): 6}


def test_claims_near_a_cap_wait_for_each_other(store: Store) -> None:
    """Near its cap a count is locked: uncommitted claims may use all that is left."""
    store.insert_many(4)
    engine = store.engine.execution_options(isolation_level="READ COMMITTED")

    with engine.connect() as first, engine.connect() as second, first.begin(), second.begin():
        second.execute(text("SET LOCAL lock_timeout = '200ms'"))
        assert len(store.claim(2, conn=first, caps=Caps(overall=3))) == 2
        with pytest.raises(DBAPIError, match="lock timeout"):
            store.claim(2, conn=second, caps=Caps(overall=3))


def test_room_that_shrinks_while_locks_are_taken(
    store: Store, change_counting: Callable[[str, str], None]
) -> None:
    """A claim that shares a count and finds too little room leaves all its requests due."""
    # As if other claims had taken much between the two queries.
    change_counting("w.cap - w.number - 2 * unseen <", "w.cap < 0 AND 0 <")
    store.insert_many(3)

    assert store.claim(caps=Caps(overall=4000)) == []

    assert counts(store)["all", ""] == 0
    assert statuses(store) == {("queued", "due", None): 3}


def test_test_number_does_not_count(store: Store) -> None:
    """Test numbers are claimed whatever the caps, and not counted."""
    store.insert(is_test=True)

    (claim,) = store.claim(caps=Caps(overall=0, per_client=0, by_country={"*": 0}))
    store.record(claim, REFUSED, again())

    assert claim.is_test
    assert counts(store) == {}


@pytest.mark.parametrize("most", [512, 2], ids=["alone", "shared"])
def test_caps_are_exact_under_concurrency(
    store: Store, change_counting: Callable[[str, str], None], most: int
) -> None:
    """Two hundred claims at once, with results coming in, never exceed a cap and never deadlock.

    Near a cap claims lock its count alone. Where a claim has two requests at most, that begins near enough to
    these caps that claims share the counts at first.
    """
    change_counting("most CONSTANT bigint := 512;", f"most CONSTANT bigint := {most};")
    chance = random.Random(3)
    others = [clients.ensure_client(store.conn, f"c{i}", now=NOW) for i in range(3)]
    caps = Caps(overall=90, per_client=40, by_country={"GB": 50, "DE": 30, "*": 20})
    _fill_quickly(
        store, [(chance.choice(others), chance.choice(["GB", "DE", "ID", None])) for _ in range(900)]
    )
    start = Barrier(8)

    def work(seed: int) -> None:
        chance = random.Random(seed)
        start.wait()
        for _ in range(25):
            claims = run(
                store.engine, lambda conn: store.claim(chance.randint(1, min(most, 12)), conn=conn, caps=caps)
            )
            results = [
                a_result(claim, *chance.choice([(accepted(), SENT), (UNKNOWN, SENT), (REFUSED, again())]))
                for claim in claims
            ]
            if results:
                run(store.engine, partial(attempts.record, results=results))

    with ThreadPoolExecutor(8) as threads:
        for done in [threads.submit(work, seed) for seed in range(8)]:
            done.result()
    while store.claim(caps=caps) or statuses(store)["queued", "due", None]:
        pass

    left = store.conn.execute(
        select(otp_requests.c.client_id, otp_requests.c.country)
        .join(send_attempts)
        .where(send_attempts.c.outcome.is_(None) | send_attempts.c.outcome.in_(["accepted", "unknown"]))
    ).all()
    by_client, by_country = (
        Counter(str(one.client_id) for one in left),
        Counter(one.country or "001" for one in left),
    )
    taken = {(one.scope, one.subject): one.taken for one in send_counts.read_counts(store.conn, NOW.date())}
    assert len(left) == taken[ALL] == 90
    assert {name: taken[CapScope.CLIENT, name] for name in by_client} == by_client
    assert {name: taken[CapScope.COUNTRY, name] for name in by_country} == by_country
    assert max(by_client.values()) <= 40
    assert by_country["GB"] <= 50
    assert by_country["DE"] <= 30
    assert max(by_country["ID"], by_country["001"]) <= 20


def _fill_quickly(store: Store, rows: list[tuple[UUID, str | None]]) -> None:
    """Store many due requests by copying one."""
    columns = dict(store.row(store.insert().id))
    values: list[dict[str, Any]] = []
    for place, (client, country) in enumerate(rows):
        own = {"id": UUID(int=place + 1), "client_id": client, "country": country}
        key_id, sealed = store.vault.seal("+447700900123", row_id=own["id"])  # type: ignore[arg-type]
        hashed = store.vault.number_hash(f"+{place}")
        values.append(columns | own | {"number_sealed": sealed, "seal_key_id": key_id, "number_hash": hashed})
    with connection(store.engine) as conn:
        conn.execute(otp_requests.delete())
        conn.execute(insert(otp_requests), values)
