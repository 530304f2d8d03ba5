"""Rotate the hash key, and report what still needs the previous one."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Engine

from otpqueue import clock
from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import GuessPolicy, Quotas
from otpqueue.operations.admission.limits import RequestLimits
from otpqueue.operations.auditing import recorded_run
from otpqueue.operations.privacy.rotate_seal import Progress
from otpqueue.store import clients
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.privacy import rehashing
from otpqueue.store.privacy.holdings import HOLDINGS, Holding, OnErase
from otpqueue.store.privacy.rehashing import RehashStep
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

Result = TypeVar("Result")

log = get_logger(__name__)

_HASHED = tuple(holding for holding in HOLDINGS if holding.number_hash is not None)

BATCH = 500
_ALLOWED_S = 300.0
_PASSES = 20
_PAUSE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class OldKeyUse:
    """A use of the previous hash key."""

    what: str
    rows: int | None
    """How many; None if unknown."""
    until: datetime | None
    """When the use ends without action; None if unknown, or never."""
    todo: str
    """What ends the use."""


@dataclass(frozen=True, kw_only=True)
class HashKeyReport:
    """The remaining uses of the previous hash key."""

    numbers: Mapping[str, int]
    """Rows of each table that have a number only as a hash of the previous key."""
    live_sessions: int
    """Live requests bound to a session by such a hash. They end within minutes."""
    api_keys: tuple[str, ...]
    """Prefixes of active API keys that have not been used since the rotation began."""
    uses: tuple[OldKeyUse, ...]
    """All uses, with their end and how to end them."""

    @property
    def needed(self) -> bool:
        """Whether there is any use."""
        return bool(self.uses)


_TODO_SEALED = "`otpqueue keys rotate-hash`; what cannot be opened needs `otpqueue keys drop-sealed`"
_TODO_HASH_ALONE = "the number's next request and another `rotate-hash`"
_TODO_KEPT = f"{_TODO_HASH_ALONE}; a locked number: `otpqueue numbers unlock`"
_TODO_OTHERS = f"{_TODO_HASH_ALONE}; or `rotate-hash --drop-unknown` at once"
_WAIT = "wait"


@dataclass(frozen=True, kw_only=True)
class RotateHash:
    """Rotates the hash key. May be interrupted at any time, repeated, or run concurrently."""

    engine: Engine
    vault: Vault
    limits: RequestLimits
    guesses: GuessPolicy
    retention: timedelta

    @property
    def replacing(self) -> bool:
        """Whether a previous key is configured beside the primary one."""
        return len(self.vault.marks) > 1

    def __call__(
        self, *, progress: Progress, batch: int = BATCH, drop_unknown: bool = False
    ) -> HashKeyReport:
        """Hash every number of the previous key again, in every table. Returns what still needs that key.

        Runs in batches of `batch` rows, one transaction each, beside the traffic. A number is unknown if it
        is neither in a request nor on the do-not-send list. Rows of unknown numbers are kept, or deleted with
        `drop_unknown`, except for rows that are kept even when a number is erased. Raises
        DatabaseUnavailable.
        """
        old = self.vault.marks[1:]
        with recorded_run(self.engine, OperatorAction.HASH_KEY_ROTATED) as details:
            for mark in old:
                self._rehash(mark, batch, progress)
            if drop_unknown:
                for holding in rehashing.OTHERS:
                    self._long(partial(rehashing.drop, holding=holding, marks=old))
            left = self._report(note=True)
            details |= {"still_needed": left.needed, "drop_unknown": drop_unknown}
        log.info("numbers_rehashed", left=dict(left.numbers), needed=left.needed)
        return left

    def report(self) -> HashKeyReport:
        """Return the remaining uses of the previous key. Changes nothing. Raises DatabaseUnavailable."""
        return self._report(note=False)

    def _report(self, *, note: bool) -> HashKeyReport:
        def work(conn: Connection) -> tuple[HashKeyReport, dict[UUID, Quotas]]:
            return self._stored(conn), clients.read_own_quotas(conn)

        stored, own = self._long(work)
        return replace(stored, uses=(*stored.uses, *self._in_redis(own, note=note)))

    def _stored(self, conn: Connection) -> HashKeyReport:
        old = self.vault.marks[1:]
        if not old:
            return HashKeyReport(numbers=self._count(conn), live_sessions=0, api_keys=(), uses=())
        numbers, sessions = self._count(conn), rehashing.count_live_sessions(conn, old)
        keys = rehashing.list_unused_keys(conn, old)
        repeated = rehashing.count_idempotency_keys(conn, old)
        pages = rehashing.count_pages(conn, old)
        addresses = rehashing.count_addresses(conn, old, guesses=self.guesses)
        uses = [
            *(self._of_table(conn, holding) for holding in _HASHED if numbers[holding.table.name]),
            OldKeyUse(what="sessions of live requests", rows=sessions, until=None, todo="wait a few minutes"),
            OldKeyUse(what="idempotency keys", rows=repeated.rows, until=repeated.until, todo=_WAIT),
            OldKeyUse(what="verification pages", rows=pages.rows, until=pages.until, todo=_WAIT),
            OldKeyUse(what="counts of addresses", rows=addresses.rows, until=addresses.until, todo=_WAIT),
            *(
                OldKeyUse(
                    what=f"API key {prefix}", rows=1, until=expires, todo="use it once, or create another"
                )
                for prefix, expires in keys.items()
            ),
        ]
        return HashKeyReport(
            numbers=numbers,
            live_sessions=sessions,
            api_keys=tuple(keys),
            uses=tuple(use for use in uses if use.rows),
        )

    def _count(self, conn: Connection) -> dict[str, int]:
        old = self.vault.marks[1:]
        return {holding.table.name: rehashing.count(conn, holding, old) for holding in _HASHED}

    def _of_table(self, conn: Connection, holding: Holding) -> OldKeyUse:
        old = self.vault.marks[1:]
        todo = _TODO_KEPT if holding.on_erase is OnErase.KEPT else _TODO_OTHERS
        return OldKeyUse(
            what=holding.table.name,
            rows=rehashing.count(conn, holding, old),
            until=rehashing.find_last_expiry(conn, holding, old, retention=self.retention),
            todo=_TODO_SEALED if holding.sealed else todo,
        )

    def _in_redis(self, own: Mapping[UUID, Quotas], *, note: bool) -> Iterator[OldKeyUse]:
        for nth in range(1, len(self.vault.marks)):
            try:
                left = self.limits.under(nth, own, now=clock.now(), note=note)
            except LimitsUnavailable:
                yield OldKeyUse(
                    what="limit windows", rows=None, until=None, todo="run this again once Redis is available"
                )
                continue
            if left.windows:
                yield OldKeyUse(what="limit windows", rows=left.windows, until=left.until, todo=_WAIT)

    def _rehash(self, mark: bytes, batch: int, progress: Progress) -> None:
        """Hash sealed numbers again, in passes, until only unreadable ones are left."""
        done, found = 0, self._sealed_under_old()
        for _ in range(_PASSES):
            unopened = 0
            for step in self._steps(mark, batch):
                done, unopened = done + step.rehashed, unopened + step.unopened
                progress("old", done, max(found, done))
            if self._sealed_under_old() <= unopened:
                return
            time.sleep(_PAUSE_S)

    def _steps(self, mark: bytes, batch: int) -> Iterator[RehashStep]:
        for holding in rehashing.SEALED:
            work = partial(rehashing.rehash, holding=holding, mark=mark, limit=batch, vault=self.vault)
            step = transaction(self.engine, partial(work, after=None))
            while step.last is not None:
                yield step
                step = transaction(self.engine, partial(work, after=step.last))

    def _sealed_under_old(self) -> int:
        numbers = self._long(self._count)
        return sum(numbers[holding.table.name] for holding in rehashing.SEALED)

    def _long(self, work: Callable[[Connection], Result]) -> Result:
        def patient(conn: Connection) -> Result:
            allow_time(conn, _ALLOWED_S)
            return work(conn)

        return transaction(self.engine, patient)
