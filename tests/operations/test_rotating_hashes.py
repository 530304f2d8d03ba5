"""Rotation of the hash key: a number is the same under both keys, and no count restarts."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
from sqlalchemy import Column, Integer, LargeBinary, MetaData, Table, select, text

from otpqueue import clock
from otpqueue.domain.errors import (
    CodeIncorrect,
    DestinationPaused,
    IdempotencyKeyReused,
    LimitExceeded,
    Unauthenticated,
)
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import Status
from otpqueue.operations.access.keys import prefix_of
from otpqueue.operations.admission import counted_limits
from otpqueue.operations.privacy.rotate_hash import OldKeyUse
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.settings import SettingsError
from otpqueue.store import idempotency, refusals
from otpqueue.store.engine import connection
from otpqueue.store.idempotency import HeldKey, IdempotencyKey, UsedKey
from otpqueue.store.privacy import rehashing
from otpqueue.store.privacy.holdings import HOLDINGS, Holding, OnErase
from otpqueue.store.schema import api_keys, idempotency_keys
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, numbers

OLD = base64.b64encode(b"h" * 32).decode()
NEW = base64.b64encode(b"i" * 32).decode()
DAY = timedelta(days=1)
CLEAN = {holding.table.name: 0 for holding in HOLDINGS if holding.number_hash is not None}


def silent(_key: str, _done: int, _of: int) -> None:
    """Ignore progress."""


@pytest.fixture
def prepared(make_parts: MakeParts) -> Parts:
    """Return parts with the new key as previous and the old one as primary."""
    return make_parts(OTPQUEUE_HASH_KEY=f"{OLD},{NEW}", **NO_LIMITS)


@pytest.fixture
def switched(make_parts: MakeParts) -> Parts:
    """Return parts with the new key as primary and the old one as previous."""
    return make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}", **NO_LIMITS)


@pytest.fixture
def after(make_parts: MakeParts) -> Parts:
    """Return parts with only the new key."""
    return make_parts(OTPQUEUE_HASH_KEY=NEW)


def wanted(number: str = NUMBER, **more: Any) -> RequestedCode:
    """Return a request for a code."""
    return RequestedCode(phone_number=number, **more)


def verify(parts: Parts, request_id: UUID, client_id: UUID, code: str, **more: Any) -> Status:
    """Verify a code and return the request's status."""
    attempted = TypedCode(code=code, **more)
    return parts.verify(request_id, attempted, client_id=client_id, now=clock.now()).status


def test_whole_procedure(
    ask_sent: AskSent,
    parts: Parts,
    prepared: Parts,
    switched: Parts,
    after: Parts,
    provider: Provider,
    rows: Rows,
) -> None:
    """A request survives the rotation: its number and session are recognised at each step."""
    key = parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now())
    request = ask_sent(session_id="one")
    context = {"session_id": "one", "phone_number": NUMBER}
    foreign = {"session_id": "two", "phone_number": NUMBER}

    for step in (prepared, switched):
        assert step.keys.authenticate(key, now=clock.now()).client_id == request.client_id
        with pytest.raises(CodeIncorrect):
            verify(step, request.id, request.client_id, "000000", **foreign)
    left = switched.rotate_hash(progress=silent)

    assert left.numbers == CLEAN
    assert (left.live_sessions, left.api_keys) == (1, ())
    assert left.needed
    assert verify(switched, request.id, request.client_id, provider.code(), **context) is Status.VERIFIED
    assert not switched.rotate_hash.report().needed
    assert after.keys.authenticate(key, now=clock.now()).prefix == prefix_of(key)
    with pytest.raises(Unauthenticated):
        parts.keys.authenticate(key, now=clock.now())
    (row,) = rows.requests()
    assert row["number_hash"] == after.vault.number_hash(NUMBER)


@pytest.mark.parametrize("session", [None, "one"])
def test_newest_wins_across_the_change(
    prepared: Parts, switched: Parts, client_id: UUID, rows: Rows, session: str | None
) -> None:
    """With either primary key a newer request replaces the live one."""
    for parts in (prepared, switched, prepared, switched):
        parts.request(wanted(session_id=session), client_id=client_id, now=clock.now())

    assert [row["status"] for row in rows.requests()] == ["cancelled"] * 3 + ["queued"]
    assert {row["reason"] for row in rows.requests()[:3]} == {"replaced"}
    hashes = prepared.vault.number_hashes(NUMBER)
    assert [row["number_hash"] for row in rows.requests()] == hashes * 2


def test_one_is_live_however_many_ask_at_once(
    prepared: Parts, switched: Parts, client_id: UUID, rows: Rows
) -> None:
    """Concurrent requests for a number from two generations of processes leave one live request."""
    calls = [
        lambda one=one: one.request(wanted(), client_id=client_id, now=clock.now())
        for one in (prepared, switched) * 6
    ]

    answers = at_once(calls)

    assert not [answer for answer in answers if isinstance(answer, Exception)]
    statuses = [row["status"] for row in rows.requests()]
    assert (statuses.count("queued"), statuses.count("cancelled")) == (1, 11)


def test_guides_calls_find_the_number_across_the_change(
    ask_sent: AskSent, switched: Parts, provider: Provider
) -> None:
    """A call with a number and no id works under both keys."""
    request = ask_sent()

    attempted = TypedCode(code=provider.code(), phone_number=NUMBER)
    verified = switched.verify.newest(attempted, client_id=request.client_id, now=clock.now())

    assert (verified.id, verified.status) == (request.id, Status.VERIFIED)


def test_number_is_erased_under_both_keys(prepared: Parts, switched: Parts, client_id: UUID) -> None:
    """An erasure during the rotation leaves nothing under either key."""
    for parts in (prepared, switched):
        parts.request(wanted(session_id=uuid4().hex), client_id=client_id, now=clock.now())

    counts = switched.erase(NUMBER, country=None, client_id=None, now=clock.now())

    assert counts["requests"] == 2


def test_steps_beside_traffic(
    ask: Ask, switched: Parts, client_id: UUID, rows: Rows, background: ThreadPoolExecutor
) -> None:
    """Rows are hashed again in batches while newer requests of the same numbers replace them."""
    many = numbers(40)
    for number in many:
        ask(number)

    steps: list[tuple[str, int, int]] = []
    work = background.submit(switched.rotate_hash, progress=lambda *step: steps.append(step), batch=7)
    newer = [
        background.submit(switched.request, wanted(number), client_id=client_id, now=clock.now())
        for number in many[:20]
    ]
    for future in newer:
        future.result()
    left = work.result()

    assert left.numbers == CLEAN
    assert sum(1 for _ in steps) >= 6
    live = [row["number_hash"] for row in rows.requests() if row["status"] == "queued"]
    assert sorted(live) == sorted(switched.vault.number_hash(number) for number in many)


def test_interrupted_and_run_again(ask: Ask, switched: Parts) -> None:
    """Batches before an interruption are kept. The next run does the rest."""
    for number in numbers(20):
        ask(number)

    def interrupt(_key: str, _done: int, _of: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        switched.rotate_hash(progress=interrupt, batch=5)

    assert switched.rotate_hash.report().numbers["otp_requests"] == 15
    assert switched.rotate_hash(progress=silent, batch=5).numbers == CLEAN


def refuse(parts: Parts, client_id: UUID, number: str) -> None:
    """Record a refused request."""
    with connection(parts.engine) as conn:
        refusals.add(
            conn,
            client_id=client_id,
            reason="limited",
            number_hash=parts.vault.number_hash(number),
            client_ip_hash=None,
            now=clock.now(),
        )


def test_tables_without_numbers(parts: Parts, ask: Ask, switched: Parts, client_id: UUID, rows: Rows) -> None:
    """A row with only a hash is hashed again if a request of the number is stored, else kept or dropped."""
    ask()
    refuse(parts, client_id, NUMBER)
    refuse(parts, client_id, "+447700900999")
    refuse(switched, client_id, "+447700900998")

    left = switched.rotate_hash(progress=silent)
    dropped = switched.rotate_hash(progress=silent, drop_unknown=True)

    assert left.numbers == CLEAN | {"refusals": 1}
    assert left.needed
    assert dropped.numbers == CLEAN
    assert [row["number_hash"] for row in rows.refusals()] == [
        switched.vault.number_hash(NUMBER),
        None,
        switched.vault.number_hash("+447700900998"),
    ]


def test_number_that_cannot_be_read_keeps_the_old_key(
    ask: Ask, switched: Parts, rows: Rows, parts: Parts
) -> None:
    """An unreadable number is skipped, and the old key stays needed."""
    request = ask()
    ask("+447700900124")
    rows.change(request.id, number_sealed=b"\0" * 40)

    left = switched.rotate_hash(progress=silent)

    assert left.numbers["otp_requests"] == 1
    assert left.needed


def test_api_keys_move_when_they_are_used(parts: Parts, switched: Parts, after: Parts) -> None:
    """A key is recognised by the old hash until its first call stores the new one."""
    used, unused = (
        parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now()) for _ in range(2)
    )
    revoked = parts.keys.create(client="test", scopes=frozenset({"send"}), now=clock.now())
    parts.keys.revoke(prefix_of(revoked), now=clock.now())

    known = [switched.keys.authenticate(used, now=clock.now()) for _ in range(2)]

    assert {key.id for key in known} == {after.keys.authenticate(used, now=clock.now()).id}
    assert switched.rotate_hash.report().api_keys == (prefix_of(unused),)
    for parts_ in (switched, after):
        with pytest.raises(Unauthenticated):
            parts_.keys.authenticate(revoked, now=clock.now())
    with connection(parts.engine) as conn:
        hashes = set(conn.execute(select(api_keys.c.key_hash)).scalars())
    assert hashes == {
        switched.vault.key_hash(used),
        parts.vault.key_hash(unused),
        parts.vault.key_hash(revoked),
    }


def uses(parts: Parts) -> dict[str, OldKeyUse]:
    """Return what the old key is needed for."""
    return {use.what: use for use in parts.rotate_hash.report().uses}


def test_expired_api_key_needs_no_look_up_key(parts: Parts, make_parts: MakeParts) -> None:
    """An expired API key needs no hash key. One that will expire needs the old hash key until then."""
    now = clock.now()
    old = parts.keys.create(client="shop", scopes=frozenset({"send"}), now=now)
    ending = parts.keys.create(client="bank", scopes=frozenset({"send"}), now=now, expires_in=DAY)
    new = parts.keys.rotate(old, overlap=timedelta(0), now=now).key
    both = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    both.keys.authenticate(new, now=clock.now())
    with pytest.raises(Unauthenticated):
        both.keys.authenticate(old, now=clock.now())

    left = both.rotate_hash(progress=silent)

    assert left.api_keys == (prefix_of(ending),)
    (use,) = left.uses
    assert (use.what, use.until) == (f"API key {prefix_of(ending)}", now + DAY)
    both.keys.authenticate(ending, now=clock.now())
    assert not both.rotate_hash.report().needed


def test_idempotency_keys_need_the_old_key_until_they_expire(
    parts: Parts, switched: Parts, client_id: UUID
) -> None:
    """A call made under the old key may be repeated for a day."""
    now = clock.now()
    parts.request.once(
        wanted(),
        call=IdempotentCall(name="POST /v1/otp-requests", key="k", body="{}"),
        answer=lambda made: StoredResponse(status=202, body=str(made.id)),
        client_id=client_id,
        now=now,
    )

    switched.rotate_hash(progress=silent)
    use = uses(switched)["idempotency keys"]
    with connection(parts.engine) as conn:
        conn.execute(text("UPDATE idempotency_keys SET expires_at = now()"))

    assert (use.rows, use.until) == (1, now + DAY)
    assert "idempotency keys" not in uses(switched)


def test_limit_windows_need_the_old_key_for_the_longest_window(
    parts: Parts, make_parts: MakeParts, client_id: UUID, redis_url: str
) -> None:
    """Counts with only the old key are needed for a day after the first run."""
    parts.request(wanted(client_ip="198.51.100.7"), client_id=client_id, now=clock.now())
    both = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")

    left = both.rotate_hash(progress=silent)
    first = {use.what: use for use in left.uses}["limit windows"]
    again = uses(both)["limit windows"]

    # Of the number: in 15 minutes, a day, and a day over all clients. Of the address: in 15 minutes.
    assert first.rows == again.rows == 4
    assert first.until == again.until
    assert first.until is not None
    assert timedelta(hours=23, minutes=59) < first.until - clock.now() <= DAY
    with redis.Redis.from_url(redis_url) as client:
        (noted,) = client.keys("otpqueue:limits:since/*")
        client.set(noted, clock.now().timestamp() - DAY.total_seconds() - 1)
    assert "limit windows" not in uses(both)


def test_longest_window_may_be_a_clients_own(parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """A client with a weekly quota needs the old key for a week."""
    parts.clients.set("test", "limits.number_day", "30/7d")
    parts.request(wanted(), client_id=client_id, now=clock.now())

    until = uses(make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}"))["limit windows"].until

    assert until is not None
    assert 6.9 * DAY < until - clock.now() <= 7 * DAY


def test_redis_that_is_away_is_not_taken_for_empty(
    parts: Parts, make_parts: MakeParts, closed_port: int
) -> None:
    """While windows cannot be counted the old key stays needed."""
    apart = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}", REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")

    left = apart.rotate_hash(progress=silent)

    assert [(use.what, use.rows) for use in left.uses] == [("limit windows", None)]
    assert left.needed


def test_addresses_need_the_old_key_while_they_count(
    parts: Parts, ask_sent: AskSent, switched: Parts, rows: Rows, client_id: UUID
) -> None:
    """Wrong codes from an address count for an hour, its attempts at new blocks for a day."""
    request = ask_sent(client_ip="198.51.100.7")
    with pytest.raises(CodeIncorrect):
        verify(parts, request.id, client_id, "000000")
    (check,) = rows.checks()

    use = uses(switched)["counts of addresses"]
    with connection(parts.engine) as conn:
        hour = conn.execute(text("SELECT max(hour) FROM guard_addresses")).scalar_one()

    expected = check["started_at"] + timedelta(hours=1)
    assert use.until == max(expected, hour + timedelta(hours=25)) if hour else use.until == expected


def test_tables_say_until_when_they_need_the_old_key(parts: Parts, switched: Parts, client_id: UUID) -> None:
    """Refusals are deleted by age. A locked number stays until an operator acts, which the report says."""
    refuse(parts, client_id, "+447700900999")
    with connection(parts.engine) as conn:
        locked = {"client": client_id, "hash": parts.vault.number_hash("+447700900998")}
        conn.execute(text("INSERT INTO number_guesses VALUES (:client, :hash, 99, NULL, now())"), locked)

    found = uses(switched)

    refused, guessed = found["refusals"], found["number_guesses"]
    assert refused.until is not None
    assert 6.9 * DAY < refused.until - clock.now() <= 7 * DAY
    assert "--drop-unknown" in refused.todo
    assert guessed.until is None
    assert "numbers unlock" in guessed.todo


@pytest.mark.parametrize(
    "keys", [f"{OLD},{OLD}", f"{OLD},{NEW},{base64.b64encode(b'j' * 32).decode()}", f"{OLD},", "x"]
)
def test_keys_that_make_no_sense_are_refused(make_parts: MakeParts, keys: str) -> None:
    """One key, or two different ones, are valid."""
    with pytest.raises(SettingsError, match="OTPQUEUE_HASH_KEY"):
        make_parts(OTPQUEUE_HASH_KEY=keys)


COUNTS = Table(
    "counts_of_a_test",
    MetaData(),
    Column("number_hash", LargeBinary, primary_key=True),
    Column("wrong", Integer, nullable=False),
)


@pytest.fixture
def counting(parts: Parts) -> Iterator[Holding]:
    """Yield a table with one row per number, as counts have."""
    COUNTS.create(parts.engine)
    yield Holding(
        table=COUNTS,
        on_erase=OnErase.KEPT,
        number_hash="number_hash",
        merge=lambda row, joining: {"wrong": row.wrong + joining.wrong},
    )
    COUNTS.drop(parts.engine)


def test_counts_of_one_number_become_one(parts: Parts, switched: Parts, counting: Holding) -> None:
    """The rows of a number under both keys are added up, so that no count restarts."""
    (one_new, one_old), (two_new, two_old) = map(switched.vault.number_hashes, numbers(2))
    with connection(parts.engine) as conn:
        conn.execute(
            COUNTS.insert(),
            [
                {"number_hash": one_old, "wrong": 90},
                {"number_hash": one_new, "wrong": 9},
                {"number_hash": two_old, "wrong": 5},
            ],
        )

        rehashing.replace(conn, counting, {one_old: one_new, two_old: two_new})

        rows = conn.execute(select(COUNTS)).all()
        assert {row.number_hash: row.wrong for row in rows} == {one_new: 99, two_new: 5}
        assert rehashing.count(conn, counting, switched.vault.marks[1:]) == 0
        assert rehashing.drop(conn, counting, switched.vault.marks[:1]) == 0


def test_hashes_are_found_by_their_mark(parts: Parts, switched: Parts) -> None:
    """The hashes of a key are contiguous in the index.

    Those of another key are not counted, whatever its mark.
    """
    marks = [b"\0\0", b"\0\1", b"\xfe\xff", b"\xff\xff"]
    with connection(parts.engine) as conn:
        client_id = parts.keys.client_id("test", now=clock.now())
        for mark in marks:
            for tail in (b"\0" * 30, b"\xff" * 30):
                refusals.add(
                    conn,
                    client_id=client_id,
                    reason="x",
                    number_hash=mark + tail,
                    client_ip_hash=None,
                    now=clock.now(),
                )
        conn.execute(text("ANALYZE refusals"))
        (holding,) = (one for one in rehashing.OTHERS if one.table.name == "refusals")

        assert [rehashing.count(conn, holding, [mark]) for mark in marks] == [2, 2, 2, 2]
        assert rehashing.count(conn, holding, marks) == 8
        assert rehashing.count(conn, holding, [b"\1\0"]) == 0


def test_fixed_code_stays_checkable(make_parts: MakeParts, parts: Parts, client_id: UUID) -> None:
    """The code of a test number that was requested under the old key verifies under both."""
    until = f"{clock.now() + timedelta(days=9):%Y-%m-%d}"
    fixed = {"OTPQUEUE_TEST_NUMBERS": json.dumps({NUMBER: {"code": "571839", "until": until}}), **NO_LIMITS}
    before = make_parts(**fixed)
    request = before.request(wanted(), client_id=client_id, now=clock.now())
    before.pump.run()

    switched = make_parts(**fixed, OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")

    with pytest.raises(CodeIncorrect):
        verify(switched, request.id, client_id, "571830")
    assert verify(switched, request.id, client_id, "571839") is Status.VERIFIED


def test_guard_knows_who_verified_under_the_old_key(
    make_parts: MakeParts, parts: Parts, client_id: UUID, provider: Provider
) -> None:
    """A verified number is sent to though its block's budget is used up, with either primary key."""
    enforced = {"OTPQUEUE_GUARD": "enforce", **NO_LIMITS}
    before = make_parts(**enforced)

    def ask(parts: Parts, number: str = NUMBER) -> UUID:
        return parts.request(wanted(number), client_id=client_id, now=clock.now()).id

    request_id = ask(before)
    before.pump.run()
    assert verify(before, request_id, client_id, provider.code()) is Status.VERIFIED
    with suppress(DestinationPaused):
        for number in numbers(10):
            ask(before, number)

    switched = make_parts(**enforced, OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")

    ask(switched)
    with pytest.raises(DestinationPaused):
        ask(switched, numbers(11)[-1])


def test_guard_knows_a_number_under_both_keys_after_the_claim(
    make_parts: MakeParts, parts: Parts, client_id: UUID, provider: Provider
) -> None:
    """In shadow mode too, a number verified under one key is recognised in claims under the other."""
    before = make_parts(**NO_LIMITS)
    request_id = before.request(wanted(), client_id=client_id, now=clock.now()).id
    before.pump.run()
    assert verify(before, request_id, client_id, provider.code()) is Status.VERIFIED
    with connection(before.engine) as conn:
        conn.execute(text("DELETE FROM guard_tallies"))

    switched = make_parts(**NO_LIMITS, OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    for number in (NUMBER, *numbers(2)):
        switched.request(wanted(number), client_id=client_id, now=clock.now())
    switched.pump.run()

    with connection(before.engine) as conn:
        rows = conn.execute(text("SELECT guard_as FROM otp_requests ORDER BY created_at")).scalars().all()
    # Other numbers of the block are refused: its probe is used.
    assert rows == ["new", "known", "refused", "refused"]


def test_guard_counts_an_address_under_both_keys(
    make_parts: MakeParts, parts: Parts, client_id: UUID
) -> None:
    """A rotation gives an address no additional probes of new blocks."""
    enforced = {"OTPQUEUE_GUARD": "enforce", **NO_LIMITS, "OTPQUEUE_TUNING_GUARD_COUNTRY_FLOOR_HOUR": "20"}

    def ask(parts: Parts, block: int) -> None:
        number = wanted(f"+4474001{block}0001", client_ip="198.51.100.7")
        parts.request(number, client_id=client_id, now=clock.now())

    before, switched = make_parts(**enforced), make_parts(**enforced, OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    for block in (1, 2):
        ask(before, block)

    for step, block in ((before, 3), (switched, 4)):
        with pytest.raises(DestinationPaused):
            ask(step, block)


def test_limits_go_on_across_the_change(make_parts: MakeParts, parts: Parts, client_id: UUID) -> None:
    """Three requests for a number count as three, in any process and with either primary key."""
    old_first, new_first, new = (
        make_parts(OTPQUEUE_HASH_KEY=keys) for keys in (f"{OLD},{NEW}", f"{NEW},{OLD}", NEW)
    )

    def ask(step: Parts, number: str = NUMBER) -> None:
        step.request(wanted(number), client_id=client_id, now=clock.now())

    ask(parts)
    for step in (old_first, new_first):
        ask(step)
    for step in (old_first, new_first):
        with pytest.raises(LimitExceeded):
            ask(step)
    # Earlier counts exist only under the old key.
    ask(new)
    with pytest.raises(LimitExceeded):
        ask(new)


def test_each_limit_is_returned_once(switched: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """A limit that is counted under two keys appears once in the headers."""
    parts = make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    counted_limits.clear_counted_limits()

    parts.request(wanted(client_ip="198.51.100.7"), client_id=client_id, now=clock.now())

    returned = [(one.limit.name, one.left) for one in counted_limits.counted_limits()]
    assert len(returned) == len({name for name, _ in returned}) == 3
    assert ("number_15m", 2) in returned


def test_repeated_call_is_known_across_the_change(
    parts: Parts, prepared: Parts, switched: Parts, client_id: UUID, rows: Rows
) -> None:
    """A repeated call under another key gets the first response. Another body is refused."""

    def make(step: Parts, key: str, body: str = "{}") -> StoredResponse:
        return step.request.once(
            wanted(),
            call=IdempotentCall(name="POST /v1/otp-requests", key=key, body=body),
            answer=lambda made: StoredResponse(status=202, body=str(made.id)),
            client_id=client_id,
            now=clock.now(),
        )

    for number, first in enumerate((parts, prepared, switched)):
        made = make(first, f"key-{number}")
        for step in (prepared, switched):
            again = make(step, f"key-{number}")
            assert (again.body, again.replayed) == (made.body, True)
            with pytest.raises(IdempotencyKeyReused):
                make(step, f"key-{number}", "{ }")
    assert len(rows.requests()) == 3


def test_lapsed_call_is_taken_over_across_the_change(
    prepared: Parts, switched: Parts, client_id: UUID
) -> None:
    """A killed call that held its key under the old hash key is taken over under the new one, once."""
    key = [
        IdempotencyKey(
            client_id=client_id,
            key_hashes=step.vault.idempotency_hashes("POST /x", "k"),
            fingerprints=step.vault.body_hashes("{}"),
        )
        for step in (prepared, switched)
    ]
    now = clock.now()

    with connection(switched.engine) as conn:
        take = partial(idempotency.take, conn, now=now, expires_at=now + timedelta(days=1))
        assert isinstance(take(key[0], lease_s=-1), HeldKey)
        assert isinstance(take(key[1], lease_s=60), HeldKey)
        assert isinstance(take(key[0], lease_s=60), UsedKey)
        assert isinstance(take(key[1], lease_s=60), UsedKey)
        stored = conn.execute(select(idempotency_keys.c.key_hash)).scalars().all()
    assert stored == [key[1].key_hashes[0]]
