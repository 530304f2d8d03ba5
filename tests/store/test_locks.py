"""Advisory locks: every lock of the tree is in one table, and no two subjects wait for each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import permutations
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine

from otpqueue.store import locks
from otpqueue.store.locks import Lock

_CALL = re.compile(r"pg_(?:try_)?advisory_(?:xact_)?(?:un)?lock(?:_shared|_all)?\(([^)]*)\)")


def test_numbers_differ() -> None:
    """Two subjects with one number would wait for each other."""
    numbers = [member.value for member in Lock.__members__.values()]

    assert len(set(numbers)) == len(numbers)
    assert all(0 < number < 2**63 for number in numbers)


def test_no_lock_is_taken_but_those_of_the_table(project: Path) -> None:
    """Python code locks by the functions of this module; SQL functions by the table's numbers."""
    python = {
        path.relative_to(project).as_posix()
        for folder in ("otpqueue", "migrations")
        for path in (project / folder).rglob("*.py")
        if _CALL.search(path.read_text(encoding="utf-8"))
    }
    numbers = {
        path.stem: {found[1].strip() for found in _CALL.finditer(path.read_text(encoding="utf-8"))}
        for path in (project / "otpqueue" / "store" / "sql").glob("*.sql")
    }

    assert python == {"otpqueue/store/locks.py"}
    # Of a phone number's hash, and no constant.
    assert any("numbers[1]" in one or "encode" in one for one in numbers.pop("accept_request"))
    # Of what is counted, and of its shards: hashes too.
    assert numbers.pop("count_sends") == {"hashtextextended('send_counts shard', shard", "one.key"}
    for name, found in numbers.items():
        assert found <= {str(lock.value) for lock in Lock}, name


@pytest.fixture
def transactions(engine: Engine) -> Iterator[tuple[Connection, Connection]]:
    """Yield two connections in transactions of their own."""
    isolated = engine.execution_options(isolation_level="READ COMMITTED")
    with isolated.connect() as one, isolated.connect() as other, one.begin(), other.begin():
        yield one, other


@pytest.mark.parametrize(("held", "wanted"), list(permutations(Lock, 2)))
def test_no_subject_waits_for_another(
    transactions: tuple[Connection, Connection], held: Lock, wanted: Lock
) -> None:
    """While one subject is locked every other one can be, and itself cannot."""
    one, other = transactions
    locks.take(one, held)

    assert locks.try_take(other, wanted)
    assert not locks.try_take(other, held)


def test_shared_holders_keep_out_only_who_wants_a_lock_alone(
    engine: Engine, transactions: tuple[Connection, Connection]
) -> None:
    """Any number of transactions may share a lock; it is free when the last of them has ended."""
    one, other = transactions
    locks.take_shared(one, Lock.ERASE)
    locks.take_shared(other, Lock.ERASE)
    tries = []

    for ending in (None, one, other):
        if ending is not None:
            ending.rollback()
        with engine.connect() as third:
            tries.append(locks.try_take(third, Lock.ERASE))

    assert tries == [False, False, True]
