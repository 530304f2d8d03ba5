"""Clients take turns at the claim: no backlog, stop, cap or locked row of one delays the codes of others."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, insert, select, text, update

from otpqueue.domain.caps import Caps, CapScope
from otpqueue.settings import Settings
from otpqueue.store import attempts, clients, send_counts, stops
from otpqueue.store.claims import PumpTurn, take_turn
from otpqueue.store.engine import transaction
from otpqueue.store.schema import clients as client_rows
from otpqueue.store.schema import otp_requests
from otpqueue.store.stops import Stop
from tests.store.conftest import NOW, SENT, Store, a_result, accepted, later


def add_clients(store: Store, count: int) -> list[UUID]:
    """Store that many clients and return their ids, in turn order."""
    return sorted(clients.ensure_client(store.conn, f"client-{n}", now=NOW) for n in range(count))


def fill(
    store: Store, client: UUID, count: int, *, since: float = -60, step: float = 0.001, **columns: Any
) -> list[UUID]:
    """Store that many due requests of a client, from `since` seconds after NOW on; return their ids."""
    template = dict(store.row(store.insert().id))
    store.conn.execute(otp_requests.delete().where(otp_requests.c.id == template["id"]))
    rows = []
    for place in range(count):
        own: dict[str, Any] = {"id": UUID(int=random.getrandbits(128)), "client_id": client, **columns}
        key_id, sealed = store.vault.seal("+447700900123", row_id=own["id"])
        own |= {"number_sealed": sealed, "seal_key_id": key_id, "number_hash": own["id"].bytes}
        rows.append(template | {"next_attempt_at": later(since + place * step), "send_by": later(90)} | own)
    store.conn.execute(insert(otp_requests), rows)
    return [row["id"] for row in rows]


def take(
    store: Store,
    slots: int,
    *,
    after: UUID | None = None,
    caps: Caps | None = None,
    now: datetime = NOW,
) -> PumpTurn:
    """Claim as a worker process with a last claim that ended with the client `after`."""
    return take_turn(
        store.conn, slots=slots, lease_s=30, worker="w", now=now, vault=store.vault, caps=caps, after=after
    )


def of_clients(turn: PumpTurn) -> Counter[UUID]:
    """Return how many requests of each client were claimed."""
    return Counter(claim.client_id for claim in turn.claims)


def read_rows(store: Store) -> int:
    """Return how many entries of indexes on requests were read so far."""
    store.conn.execute(text("SELECT pg_stat_force_next_flush()"))
    return int(
        store.conn.execute(
            text("SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'otp_requests'")
        ).scalar_one()
    )


@contextmanager
def locking(store: Store) -> Iterator[Connection]:
    """Yield another session, which keeps its locks until the block ends."""
    with store.engine.connect() as other:
        other.execution_options(isolation_level="READ COMMITTED")
        with other.begin():
            yield other


def test_a_backlog_does_not_delay_newer_codes_of_others(store: Store) -> None:
    """All requests of a client with few are claimed; the backlog gets the remaining slots, oldest first."""
    flood, *others = add_clients(store, 4)
    backlog = fill(store, flood, 200)
    few = [fill(store, other, 3, since=-1) for other in others]

    turn = take(store, 32)

    assert of_clients(turn) == {flood: 23, **dict.fromkeys(others, 3)}
    claimed = {claim.request_id for claim in turn.claims}
    assert claimed == {*backlog[:23], *(one for ids in few for one in ids)}


def test_equal_backlogs_get_equal_shares(store: Store) -> None:
    """The remainder rotates: over several claims no client is ahead by more than one."""
    ids = add_clients(store, 3)
    for one in ids:
        fill(store, one, 40)

    total: Counter[UUID] = Counter()
    after = None
    for _ in range(9):
        turn = take(store, 8, after=after)
        after = turn.last_served
        assert len(turn.claims) == 8
        total += of_clients(turn)
        assert max(total.values()) - min(total.values()) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_no_client_waits_longer_than_a_round(store: Store, seed: int) -> None:
    """With any backlogs, each client with work is served once in as many claims as a round has."""
    chance = random.Random(seed)
    ids = add_clients(store, chance.randint(2, 30))
    slots = chance.randint(1, 8)
    waiting = {one: fill(store, one, chance.choice([1, 2, 5, 60])) for one in ids}
    last = dict.fromkeys(ids, 0)
    after = chance.choice([None, *ids])

    for number in range(1, 1000):
        busy = [one for one in ids if waiting[one]]
        if not busy:
            break
        turn = take(store, slots, after=after)
        after = turn.last_served
        assert len(turn.claims) == min(slots, sum(map(len, waiting.values())))
        for client, count in of_clients(turn).items():
            mine = {claim.request_id for claim in turn.claims if claim.client_id == client}
            assert mine == set(waiting[client][:count]), "not its oldest"
            waiting[client] = waiting[client][count:]
            last[client] = number
        assert all(number - last[one] < math.ceil(len(ids) / slots) + 1 for one in busy if waiting[one])
    assert not any(waiting.values())


def test_each_worker_goes_round_by_itself(store: Store) -> None:
    """A claim without a memory begins with the first client, and passes on after the last one."""
    ids = add_clients(store, 3)
    for one in ids:
        fill(store, one, 5)

    first, last = take(store, 2), take(store, 2, after=ids[2])
    wrapped = take(store, 2, after=ids[1])

    assert set(of_clients(first)) == set(of_clients(last)) == {ids[0], ids[1]}
    assert set(of_clients(wrapped)) == {ids[2], ids[0]}
    assert (first.last_served, wrapped.last_served) == (ids[1], ids[0])


def test_nothing_due_keeps_the_turn(store: Store) -> None:
    """A claim that finds nothing returns when the next request falls due, and does not change the turn."""
    ids = add_clients(store, 2)
    fill(store, ids[0], 1, since=5)

    turn = take(store, 4, after=ids[0])

    assert (turn.claims, turn.next_due, turn.last_served) == ([], later(5), ids[0])


def test_rows_that_others_hold_do_not_stop_the_turns(store: Store) -> None:
    """A client with only locked requests is skipped; the next turn continues after it."""
    held, free = add_clients(store, 2)
    fill(store, held, 5)
    mine = fill(store, free, 2)

    with locking(store) as other:
        other.execute(select(otp_requests.c.id).where(otp_requests.c.client_id == held).with_for_update())
        nothing = take(store, 1)
        found = take(store, 1, after=nothing.last_served)

    assert (nothing.claims, nothing.last_served) == ([], held)
    assert [claim.request_id for claim in found.claims] == mine[:1]


def test_two_claims_at_once_take_different_requests_of_one_client(store: Store) -> None:
    """A claim that is not committed yet costs the next one nothing: it takes the requests behind."""
    (one,) = add_clients(store, 1)
    ids = fill(store, one, 20)

    with locking(store) as other:
        other.execute(
            select(otp_requests.c.id).where(otp_requests.c.id.in_(ids[:8])).with_for_update(key_share=True)
        )
        turn = take(store, 8)

    assert {claim.request_id for claim in turn.claims} == set(ids[8:16])


def test_retries_take_their_place_by_when_they_are_due(store: Store) -> None:
    """What is due again by back-off comes in the order of its new time, and not before."""
    (one,) = add_clients(store, 1)
    ids = fill(store, one, 4, since=-4, step=1)
    store.change(ids[0], next_attempt_at=later(-2.5), tries=2, attempt=2)
    store.change(ids[1], next_attempt_at=later(3), tries=1, attempt=1)

    turns = [take(store, 1).claims[0] for _ in range(3)]

    assert [claim.request_id for claim in turns] == [ids[0], ids[2], ids[3]]
    assert [claim.attempt for claim in turns] == [3, 1, 1]
    assert take(store, 1, now=later(4)).claims[0].attempt == 2


@pytest.mark.parametrize("scope", [CapScope.CLIENT, CapScope.COUNTRY])
def test_stopped_ones_are_neither_claimed_nor_in_the_way(store: Store, scope: CapScope) -> None:
    """Held requests of a stopped client or country stay due; the other requests go out, in their order."""
    flood, other = add_clients(store, 2)
    fill(store, flood, 300, country="ID")
    behind = fill(store, flood, 6, since=-2, step=0.3, country="GB")
    store.change(behind[1], country=None)
    mine = fill(store, other, 2, country="DE")
    stop(store, scope, str(flood) if scope is CapScope.CLIENT else "ID")

    turn = take(store, 6)

    expected = set(mine) if scope is CapScope.CLIENT else {*mine, *behind[:4]}
    assert {claim.request_id for claim in turn.claims} == expected
    rest = take(store, 6)
    assert {claim.request_id for claim in rest.claims} == (
        set() if scope is CapScope.CLIENT else {*behind[4:]}
    )
    assert attempts.read_next_due(store.conn, now=NOW) is None


def stop(store: Store, scope: CapScope, subject: str) -> None:
    """Stop sending for a client or a country."""
    new = Stop(scope=scope, subject=subject, reason=None, stopped_by="me", stopped_at=NOW)
    transaction(store.engine, lambda conn: stops.stop(conn, new))


def test_what_is_left_of_a_shared_cap_goes_round(store: Store) -> None:
    """The last codes of the day are not all the backlog's because it is older."""
    flood, *others = add_clients(store, 4)
    fill(store, flood, 100)
    for other in others:
        fill(store, other, 5, since=-1)

    turn = take(store, 60, caps=Caps(overall=8))

    assert of_clients(turn) == dict.fromkeys([flood, *others], 2)


def test_requests_over_a_cap_end_without_delaying_others(store: Store) -> None:
    """A backlog over its client's cap is ended claim by claim, and takes no more than its turns."""
    flood, other = add_clients(store, 2)
    store.conn.execute(update(client_rows).where(client_rows.c.id == flood).values(settings={"daily_cap": 0}))
    fill(store, flood, 100)
    fill(store, other, 30, since=-1)

    served = [of_clients(take(store, 10)) for _ in range(6)]

    assert served == [{other: 5}] * 6


@pytest.mark.parametrize(
    ("clients_in_all", "own", "claimed"),
    [(1, None, 10), (2, None, 5), (2, 8, 8), (2, "8/d", 5), (3, None, 5)],
)
def test_share_of_the_overall_cap_is_exact(
    store: Store, clients_in_all: int, own: int | str | None, claimed: int
) -> None:
    """Once there are several clients, one without a cap of its own gets its share, and not a code more."""
    first = store.client_id
    if clients_in_all > 1:
        add_clients(store, clients_in_all - 1)
    if own is not None:
        store.conn.execute(
            update(client_rows).where(client_rows.c.id == first).values(settings={"daily_cap": own})
        )
    fill(store, first, 20)
    caps = Caps(overall=10, client_share=0.5)

    found = sum(len(take(store, 4, caps=caps).claims) for _ in range(12))

    assert found == claimed
    taken = {(one.scope, one.subject): one.taken for one in send_counts.read_counts(store.conn, NOW.date())}
    assert taken[CapScope.CLIENT, str(first)] == claimed
    assert take(store, 4, caps=caps).claims == []
    assert (
        store.conn.execute(select(otp_requests.c.reason).distinct()).scalars().all().count("daily_cap") == 1
    )


UNREADABLE = ['"5000/d"', '{"daily_cap": "5000/d"}', '{"daily_cap": {"soft": 3}}', '{"daily_cap": -1}']
UNREADABLE += [
    '{"daily_cap": 1.5}',
    '{"daily_cap": 99999999999}',
    '{"daily_cap": [1]}',
    '{"daily_cap": true}',
]
UNREADABLE += ['{"daily_cap": null}', '{"daily_cap": "5\\n"}', '["daily_cap"]', "null", "7"]


@pytest.mark.parametrize("settings", UNREADABLE)
def test_cap_that_cannot_be_read_counts_as_not_set(store: Store, settings: str) -> None:
    """The claim goes on for all clients, and the deployment's cap holds for that one."""
    (odd,) = add_clients(store, 1)
    store.conn.execute(
        text("UPDATE clients SET settings = CAST(:settings AS jsonb) WHERE id = :id"),
        {"settings": settings, "id": odd},
    )
    fill(store, odd, 3)
    fill(store, store.client_id, 1)

    assert of_clients(take(store, 10, caps=Caps(per_client=2))) == {odd: 2, store.client_id: 1}


def test_stop_of_an_unknown_client_stops_no_claim(store: Store) -> None:
    """A row that is no client's id does not break the claim of all."""
    fill(store, store.client_id, 1)
    stop(store, CapScope.CLIENT, "shop")

    assert len(take(store, 1).claims) == 1


@pytest.mark.parametrize(
    "obstacle", ["backlog", "stopped client", "stopped country", "expired", "backing off"]
)
def test_cost_of_a_claim_does_not_grow_with_a_backlog(store: Store, obstacle: str) -> None:
    """A claim reads its own rows, whatever waits beside them."""
    flood, *others = add_clients(store, 6)
    held: dict[str, Any] = {"send_by": later(-400), "since": -900} if obstacle == "expired" else {}
    fill(store, flood, 3000, country="ID", **{"since": 30 if obstacle == "backing off" else -60, **held})
    for other in others:
        fill(store, other, 40, since=-1, country="GB")
    if obstacle == "stopped client":
        stop(store, CapScope.CLIENT, str(flood))
    if obstacle == "stopped country":
        stop(store, CapScope.COUNTRY, "ID")
    take(store, 10)
    before = read_rows(store)

    claims = take(store, 20).claims

    assert len(claims) == 20
    assert {claim.client_id for claim in claims} >= set(others)
    assert read_rows(store) - before < 800
    results = [a_result(claim, accepted(f"pin-{n}"), SENT) for n, claim in enumerate(claims)]
    assert len(attempts.record(store.conn, results)) == 20


def test_older_than_any_deadline_is_the_longest_that_can_be_set() -> None:
    """The claim skips what is due for longer than any request may wait."""
    (longest,) = [
        one.le
        for one in Settings.model_fields["send_within_s"].metadata
        if getattr(one, "le", None) is not None
    ]
    folder = Path(attempts.__file__).parent / "sql"

    bounded = [path.name for path in sorted(folder.glob("*.sql")) if "interval '" in path.read_text()]

    for name in ("due_clients.sql", "due_countries.sql", "lock_due.sql", "next_due.sql"):
        assert name in bounded
        assert f"at - interval '{longest:.0f} s'" in (folder / name).read_text()
