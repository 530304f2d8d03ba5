"""The do-not-send list survives the rotation and the loss of its keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import RowMapping, select, text

from otpqueue import clock
from otpqueue.domain.errors import NumberNotAllowed
from otpqueue.operations.privacy.rotate_seal import refusal_to_start
from otpqueue.store.accepting import NumberLookup, read_facts
from otpqueue.store.engine import connection
from otpqueue.store.privacy import rehashing
from otpqueue.store.schema import do_not_send
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts
from tests.operations.looking import at_once, numbers, until
from tests.operations.test_rotating_hashes import NEW, OLD, refuse
from tests.operations.test_rotating_seals import K1, K2, silent

DAY = timedelta(days=1)


def block(parts: Parts, number: str = NUMBER, **given: Any) -> None:
    """Put a number on the list, by default permanently."""
    parts.blocklist.block(number, **({"reason": None, "until": None, "now": clock.now()} | given))


def listed(parts: Parts) -> list[RowMapping]:
    """Return the rows of the list."""
    with connection(parts.engine) as conn:
        return list(conn.execute(select(do_not_send).order_by(do_not_send.c.created_at)).mappings())


def is_blocked(parts: Parts, number: str = NUMBER) -> bool:
    """Return whether parts with these keys find a number blocked."""
    lookup = NumberLookup(
        client_id=uuid4(),
        number_hashes=parts.vault.number_hashes(number),
        client_ip_hashes=None,
        guesses=parts.guess_policy,
        now=clock.now(),
    )
    return read_facts(parts.engine, lookup).blocked


@pytest.fixture
def rotated(parts: Parts, make_parts: MakeParts) -> Parts:
    """Return parts that seal with a new key and open what the old one sealed."""
    return make_parts(OTPQUEUE_SEAL_KEYS=f"{K2},{K1}")


@pytest.fixture
def prepared(make_parts: MakeParts) -> Parts:
    """Return parts with the new hash key as previous and the old one as primary."""
    return make_parts(OTPQUEUE_HASH_KEY=f"{OLD},{NEW}")


@pytest.fixture
def switched(make_parts: MakeParts) -> Parts:
    """Return parts with the new hash key as primary and the old one as previous."""
    return make_parts(OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")


@pytest.fixture
def after(make_parts: MakeParts) -> Parts:
    """Return parts with only the new hash key."""
    return make_parts(OTPQUEUE_HASH_KEY=NEW)


def test_list_is_sealed_again(parts: Parts, ask: Ask, rotated: Parts, make_parts: MakeParts) -> None:
    """Its numbers are counted with those of requests, sealed again in batches, and stay readable."""
    ask()
    for number in numbers(5):
        block(parts, number)
    before = listed(parts)
    steps: list[tuple[str, int, int]] = []

    sealed = rotated.rotate_seal(progress=lambda *step: steps.append(step), batch=2)

    assert (sealed.counts, sealed.unopened, sealed.removable) == ({"k2": 6}, {}, ("k1",))
    assert [done for _, done, _ in steps] == [1, 3, 5, 6]
    alone = make_parts(OTPQUEUE_SEAL_KEYS=K2)
    for old, new in zip(before, listed(parts), strict=True):
        assert {name for name in old if old[name] != new[name]} == {"number_sealed", "seal_key_id"}
    assert {one.phone_number for one in alone.blocklist.list(now=clock.now())} == {"+44********00"} | {
        f"+44********0{last}" for last in range(1, 5)
    }


def test_start_is_refused_while_the_list_alone_needs_a_key(
    parts: Parts, rotated: Parts, make_parts: MakeParts
) -> None:
    """A missing key that only seals an entry of the list is reported."""
    block(parts)
    bereft = make_parts(OTPQUEUE_SEAL_KEYS=K2)

    why = refusal_to_start(bereft.rotate_seal)

    assert why is not None
    assert "k1 (1 numbers)" in why
    assert rotated.rotate_seal.report().removable == ()
    assert rotated.rotate_seal(progress=silent).removable == ("k1",)
    assert refusal_to_start(bereft.rotate_seal) is None


def test_list_stays_in_force_without_its_sealing_key(parts: Parts, ask: Ask, make_parts: MakeParts) -> None:
    """After the loss of a key its requests are deleted. The list still blocks by hash."""
    ask("+447700900124")
    block(parts)
    bereft = make_parts(OTPQUEUE_SEAL_KEYS=K2)

    assert bereft.rotate_seal.drop("k1") == 1

    assert refusal_to_start(bereft.rotate_seal) is None
    assert bereft.rotate_seal.report().counts == {}
    assert [one.phone_number for one in bereft.blocklist.list(now=clock.now())] == [None]
    with pytest.raises(NumberNotAllowed):
        ask()


def test_list_is_hashed_again(parts: Parts, switched: Parts, after: Parts) -> None:
    """Numbers without a stored request are hashed with the new key, with their entries unchanged."""
    for days, number in enumerate(numbers(5)):
        block(parts, number, reason=f"{days}", until=clock.now() + (days + 1) * DAY)
    before = listed(parts)
    steps: list[tuple[str, int, int]] = []
    assert not is_blocked(after, numbers(1)[0])

    left = switched.rotate_hash(progress=lambda *step: steps.append(step), batch=2)

    assert not left.needed
    assert steps == [("old", 2, 5), ("old", 4, 5), ("old", 5, 5)]
    for old, new in zip(before, listed(parts), strict=True):
        assert {name for name in old if old[name] != new[name]} == {"number_hash"}
    assert all(is_blocked(after, number) for number in numbers(5))
    assert all(one.phone_number for one in after.blocklist.list(now=clock.now()))


def test_list_helps_tables_that_know_a_hash_alone(parts: Parts, switched: Parts, client_id: Any) -> None:
    """Other rows of a listed number are hashed again with its help."""
    block(parts)
    refuse(parts, client_id, NUMBER)

    left = switched.rotate_hash(progress=silent)

    assert not any(left.numbers.values())


SOON, LATER = clock.now() + DAY, clock.now() + 9 * DAY


@pytest.mark.parametrize(
    ("under_old", "under_new", "stays"),
    [
        (None, SOON, "old"),
        (SOON, None, "new"),
        (LATER, SOON, "old"),
        (SOON, LATER, "new"),
        (None, None, "new"),
        (SOON, SOON, "new"),
    ],
)
def test_two_entries_become_one(
    parts: Parts, after: Parts, switched: Parts, under_old: datetime, under_new: datetime, stays: str
) -> None:
    """Of two entries of one number the one without an end stays, or the one with the later end."""
    now = clock.now()
    block(parts, reason="old", until=under_old, now=now - DAY)
    block(after, reason="new", until=under_new, now=now)
    assert len(listed(parts)) == 2

    left = switched.rotate_hash(progress=silent)

    assert not left.needed
    (row,) = listed(parts)
    until = {"old": under_old, "new": under_new}[stays]
    created = {"old": now - DAY, "new": now}[stays]
    assert (row["reason"], row["until"], row["created_at"]) == (stays, until, created)
    assert row["number_hash"] == after.vault.number_hash(NUMBER)
    assert after.blocklist.list(now=now)[0].phone_number == "+44********23"


def test_number_has_one_entry_while_two_keys_are_in_force(prepared: Parts, switched: Parts) -> None:
    """Any process can replace the entry with the newest reason and end. One unblock removes it."""
    for reason, parts in enumerate((prepared, switched, prepared)):
        block(parts, reason=f"{reason}")
        assert [row["reason"] for row in listed(parts)] == [f"{reason}"]
        assert is_blocked(prepared)
        assert is_blocked(switched)

    assert switched.blocklist.unblock(NUMBER)[1]
    assert listed(prepared) == []


def test_blocking_at_once_leaves_one_entry(prepared: Parts, switched: Parts) -> None:
    """Processes of both generations that block a number concurrently leave one row."""
    answers = at_once([partial(block, parts) for parts in (prepared, switched) * 4])

    assert answers == [None] * 8
    assert len(listed(prepared)) == 1


def test_unblocked_while_it_is_hashed_again(
    parts: Parts, switched: Parts, background: ThreadPoolExecutor
) -> None:
    """Unblocking finds the number while its row is being hashed again."""
    block(parts)

    (mark,) = switched.vault.marks[1:]
    (holding,) = (one for one in rehashing.SEALED if one.table is do_not_send)

    with switched.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn, conn.begin():
        step = rehashing.rehash(conn, holding, mark=mark, after=None, limit=9, vault=switched.vault)
        unblocking = background.submit(switched.blocklist.unblock, NUMBER)
        until(lambda: waiting(parts))
    _, removed = unblocking.result()

    assert step.rehashed == 1
    assert removed
    assert listed(parts) == []


def waiting(parts: Parts) -> int:
    """Return how many sessions wait for the lock of the list."""
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with connection(parts.engine) as conn:
        return int(conn.execute(text(held)).scalar_one())


def test_entry_that_cannot_be_read_keeps_the_old_key(parts: Parts, ask: Ask, make_parts: MakeParts) -> None:
    """Only a request of the number allows its hash to be replaced. Until then the old key is needed."""
    block(parts)
    bereft = make_parts(OTPQUEUE_SEAL_KEYS=K2, OTPQUEUE_HASH_KEY=f"{NEW},{OLD}")
    bereft.rotate_seal.drop("k1")

    left = bereft.rotate_hash(progress=silent, drop_unknown=True)

    assert left.numbers["do_not_send"] == 1
    assert left.needed
    assert is_blocked(bereft)
