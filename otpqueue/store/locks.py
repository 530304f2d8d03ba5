"""Advisory locks: all their numbers in one table, so that no two subjects share one.

All are held until the end of a transaction. Postgres has one space of 64-bit lock numbers per database.
`sql/accept_request.sql` locks a phone number in the same space during a look-up key rotation, by 64 bits of
its hash. `sql/count_sends.sql` locks the shards of the day's counts, and the counts, by hashes too.
"""

from __future__ import annotations

from enum import IntEnum, unique

from sqlalchemy import Connection, func, select


@unique
class Lock(IntEnum):
    """The tasks that one transaction at a time may do. Concurrent versions must agree on the numbers."""

    MIGRATE = 0x6F7470_0001
    PURGE = 0x6F7470_0002
    ROLL_UP = 0x6F7470_0003
    """Adding events to the statistics."""
    DO_NOT_SEND = 0x6F7470_0004
    """Changing the do-not-send list or its hashes."""
    ERASE = 0x6F7470_0005
    """Shared by erasures; exclusive for an evaluation that stores which number or requests an alert names."""
    PROVISION = 0x6F747000_00000002
    EVALUATE_RULES = 0x6F7470_0101
    EVALUATE_WORKERS = 0x6F7470_0102
    GUARD_CHANCES = int.from_bytes(b"guard", "big")
    """Deciding on a chance of a new block of numbers."""


def take(conn: Connection, lock: Lock) -> None:
    """Lock exclusively until this transaction ends; wait for other holders."""
    conn.execute(select(func.pg_advisory_xact_lock(int(lock))))


def take_shared(conn: Connection, lock: Lock) -> None:
    """Lock in shared mode until this transaction ends; wait for an exclusive holder."""
    conn.execute(select(func.pg_advisory_xact_lock_shared(int(lock))))


def try_take(conn: Connection, lock: Lock) -> bool:
    """Lock until this transaction ends if the lock is free; return whether it is held."""
    return bool(conn.execute(select(func.pg_try_advisory_xact_lock(int(lock)))).scalar_one())
