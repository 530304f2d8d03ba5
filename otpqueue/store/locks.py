"""Advisory locks: the number of each in one table, so that no two subjects share one.

All are held until the end of a transaction. Postgres keeps one space of 64-bit numbers for a whole database.
`sql/accept_request.sql` locks a phone number in the same space while the look-up key is being replaced, by 64
bits of its hash. `sql/count_sends.sql` locks shards of the day's counts, and the counts themselves, by hashes
too.
"""

from __future__ import annotations

from enum import IntEnum, unique

from sqlalchemy import Connection, func, select


@unique
class Lock(IntEnum):
    """What one transaction at a time does. Versions that run beside each other must agree on the numbers."""

    MIGRATE = 0x6F7470_0001
    PURGE = 0x6F7470_0002
    ROLL_UP = 0x6F7470_0003
    """Adding events to the statistics."""
    DO_NOT_SEND = 0x6F7470_0004
    """Changing the do-not-send list or its hashes."""
    ERASE = 0x6F7470_0005
    """Shared by erasures; held alone by an evaluation that stores which number or requests an alert names."""
    PROVISION = 0x6F747000_00000002
    EVALUATE_RULES = 0x6F7470_0101
    EVALUATE_WORKERS = 0x6F7470_0102
    GUARD_CHANCES = int.from_bytes(b"guard", "big")
    """Deciding on a chance of a new block of numbers."""


def take(conn: Connection, lock: Lock) -> None:
    """Wait until no other transaction holds a lock, and hold it until this one ends."""
    conn.execute(select(func.pg_advisory_xact_lock(int(lock))))


def take_shared(conn: Connection, lock: Lock) -> None:
    """Wait until no transaction holds a lock alone, and keep it from that until this one ends."""
    conn.execute(select(func.pg_advisory_xact_lock_shared(int(lock))))


def try_take(conn: Connection, lock: Lock) -> bool:
    """Hold a lock until this transaction ends if no other holds it; return whether it is held."""
    return bool(conn.execute(select(func.pg_try_advisory_xact_lock(int(lock)))).scalar_one())
