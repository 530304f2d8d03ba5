"""Replace the look-up key: hash stored numbers anew, and know whether the old key is still needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine

from otpqueue.logs import get_logger
from otpqueue.operations.rotate_seal import Progress
from otpqueue.store import rehashing
from otpqueue.store.engine import allow_time, transaction
from otpqueue.store.holdings import HOLDINGS
from otpqueue.store.rehashing import Step
from otpqueue.store.vault import Vault

Result = TypeVar("Result")

log = get_logger(__name__)

BATCH = 500
_ALLOWED_S = 300.0
_PASSES = 20
_PAUSE_S = 0.2


@dataclass(frozen=True, kw_only=True)
class Hashed:
    """What the old look-up key is still needed for."""

    numbers: Mapping[str, int]
    """Rows of each table that know a number by a hash of the old key."""
    live_sessions: int
    """Live requests bound to a session by such a hash: they end within minutes."""
    api_keys: tuple[str, ...]
    """Prefixes of API keys in force that have not been used since."""

    @property
    def needed(self) -> bool:
        """Whether anything is."""
        return bool(any(self.numbers.values()) or self.live_sessions or self.api_keys)


@dataclass(frozen=True, kw_only=True)
class RotateHash:
    """Replaces the look-up key. May be interrupted at any time, and run again or twice at once."""

    engine: Engine
    vault: Vault

    @property
    def replacing(self) -> bool:
        """Whether there is an old key beside the new one."""
        return len(self.vault.marks) > 1

    def __call__(self, *, progress: Progress, batch: int = BATCH, drop_unknown: bool = False) -> Hashed:
        """Hash every number anew that is under the old key, in every table; return what needs that key yet.

        In steps of `batch` rows, a transaction each; traffic goes on beside it. A number that stands
        in another table, and neither in a request nor on the do-not-send list, is not known: such rows are
        left, or forgotten with `drop_unknown`, but for what is kept even when a number is erased. Raises
        DatabaseUnavailable.
        """
        old = self.vault.marks[1:]
        for mark in old:
            self._rehash(mark, batch, progress)
        if drop_unknown:
            for holding in rehashing.OTHERS:
                self._long(partial(rehashing.drop, holding=holding, marks=old))
        left = self.look()
        log.info("numbers_rehashed", left=dict(left.numbers), needed=left.needed)
        return left

    def look(self) -> Hashed:
        """Return what the old key is needed for, and change nothing. Raises DatabaseUnavailable."""
        old = self.vault.marks[1:]

        def work(conn: Connection) -> Hashed:
            return Hashed(
                numbers={
                    holding.table.name: rehashing.count(conn, holding, old)
                    for holding in HOLDINGS
                    if holding.number_hash is not None
                },
                live_sessions=rehashing.live_sessions(conn, old),
                api_keys=tuple(rehashing.keys_in_force(conn, old)),
            )

        return self._long(work)

    def _rehash(self, mark: bytes, batch: int, progress: Progress) -> None:
        """Pass over what is sealed until none is left but those whose number cannot be read."""
        done, found = 0, self._sealed_under_old()
        for _ in range(_PASSES):
            unopened = 0
            for step in self._steps(mark, batch):
                done, unopened = done + step.rehashed, unopened + step.unopened
                progress("old", done, max(found, done))
            if self._sealed_under_old() <= unopened:
                return
            time.sleep(_PAUSE_S)

    def _steps(self, mark: bytes, batch: int) -> Iterator[Step]:
        for holding in rehashing.SEALED:
            work = partial(rehashing.rehash, holding=holding, mark=mark, limit=batch, vault=self.vault)
            step = transaction(self.engine, partial(work, after=None))
            while step.last is not None:
                yield step
                step = transaction(self.engine, partial(work, after=step.last))

    def _sealed_under_old(self) -> int:
        numbers = self.look().numbers
        return sum(numbers[holding.table.name] for holding in rehashing.SEALED)

    def _long(self, work: Callable[[Connection], Result]) -> Result:
        def patient(conn: Connection) -> Result:
            allow_time(conn, _ALLOWED_S)
            return work(conn)

        return transaction(self.engine, patient)
