"""Replace sealing keys: seal stored numbers anew, and know which keys are still needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.limits import GuessPolicy
from otpqueue.operations.privacy.count_seals import CountSeals
from otpqueue.store.engine import allow_time, connection, transaction
from otpqueue.store.privacy import resealing, seal_counts
from otpqueue.store.privacy.resealing import ResealStep
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

BATCH = 500
_COUNT_S = 300.0
_PASSES = 20
_PAUSE_S = 0.2
"""Between passes: what was locked in one is let go of by the next."""


@dataclass(frozen=True, kw_only=True)
class SealKeyReport:
    """How the stored numbers are sealed."""

    counts: Mapping[str, int]
    """How many with each key."""
    unopened: Mapping[str, int]
    """How many each key was found not to open."""
    removable: tuple[str, ...]
    """The keys of OTPQUEUE_SEAL_KEYS that nothing is sealed with any more."""
    seals: Mapping[str, int]
    """How many texts each key has ever sealed; `MOST_SEALS` is the most that it may."""


Progress = Callable[[str, int, int], None]
"""Is told of each step: the key, how many numbers of it are done, how many were there at first."""


@dataclass(frozen=True, kw_only=True)
class RotateSeal:
    """Replaces sealing keys. May be interrupted at any time, and run again or twice at once."""

    engine: Engine
    vault: Vault
    guesses: GuessPolicy

    def __call__(self, *, progress: Progress, batch: int = BATCH) -> SealKeyReport:
        """Seal every number anew that is not sealed with the first key; return how they are sealed now.

        In steps of `batch` rows, a transaction each; claims and checks go on beside it. Numbers whose key is
        not in OTPQUEUE_SEAL_KEYS are left alone. Raises DatabaseUnavailable.
        """
        current, *older = self.vault.seal_key_ids
        before = self._counts()
        unopened = {}
        for key_id in older:
            if before.get(key_id):
                unopened[key_id] = self._reseal(key_id, before[key_id], batch, progress)
        CountSeals(engine=self.engine, vault=self.vault)()
        sealed = self.look()
        if any(before.get(key_id) for key_id in older):
            log.info("numbers_resealed", key_id=current, before=before, after=dict(sealed.counts))
        return SealKeyReport(
            counts=sealed.counts,
            unopened={key_id: count for key_id, count in unopened.items() if count},
            removable=sealed.removable,
            seals=sealed.seals,
        )

    def look(self) -> SealKeyReport:
        """Return how the numbers are sealed, and change nothing. Raises DatabaseUnavailable."""
        counts = self._counts()
        removable = tuple(key_id for key_id in self.vault.seal_key_ids[1:] if not counts.get(key_id))
        with connection(self.engine) as conn:
            seals = seal_counts.read_counts(conn)
        return SealKeyReport(counts=counts, unopened={}, removable=removable, seals=seals)

    def missing(self) -> Mapping[str, int]:
        """Return how many numbers are sealed with each key that OTPQUEUE_SEAL_KEYS lacks.

        Cheap where it lacks none, so that it can be asked at every start. Raises DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            unknown = set(resealing.list_keys_in_use(conn)) - set(self.vault.seal_key_ids)
        return self._counts(unknown) if unknown else {}

    def drop(self, key_id: str, *, batch: int = BATCH) -> int:
        """Delete the requests whose number is sealed with a key that is lost; return how many.

        Numbers of the do-not-send list stay on it by their hashes alone; webhooks whose secret it sealed are
        disabled. Raises ValueError when the key is
        not lost, DatabaseUnavailable.
        """
        if key_id in self.vault.seal_key_ids:
            raise ValueError(f"{key_id} is in OTPQUEUE_SEAL_KEYS: what it seals can be read")
        total = 0
        drop = partial(resealing.drop, key_id=key_id, limit=batch, guesses=self.guesses)
        while dropped := transaction(self.engine, drop):
            total += dropped
        unread = transaction(self.engine, partial(resealing.drop_blocked_numbers, key_id=key_id))
        webhooks = transaction(self.engine, partial(resealing.disable_webhooks, key_id=key_id))
        log.warning(
            "sealed_numbers_dropped",
            key_id=key_id,
            requests=total,
            do_not_send_unread=unread,
            webhooks_disabled=webhooks,
        )
        return total

    def _reseal(self, key_id: str, found: int, batch: int, progress: Progress) -> int:
        """Seal a key's numbers anew, pass by pass until none is left; return how many it does not open."""
        done = 0
        for _ in range(_PASSES):
            unopened = 0
            for step in self._steps(key_id, batch):
                done, unopened = done + step.resealed, unopened + step.unopened
                progress(key_id, done, max(found, done))
            if self._counts({key_id}).get(key_id, 0) <= unopened:
                break
            time.sleep(_PAUSE_S)
        return unopened

    def _steps(self, key_id: str, batch: int) -> Iterator[ResealStep]:
        for holding in resealing.SEALED:
            work = partial(resealing.reseal, holding=holding, key_id=key_id, limit=batch, vault=self.vault)
            step = transaction(self.engine, partial(work, after=None))
            while step.last is not None:
                yield step
                step = transaction(self.engine, partial(work, after=step.last))

    def _counts(self, key_ids: set[str] | None = None) -> dict[str, int]:
        def work(conn: Connection) -> dict[str, int]:
            allow_time(conn, _COUNT_S)
            return resealing.count_by_key(conn, key_ids)

        return transaction(self.engine, work)


def refusal_to_start(rotate: RotateSeal) -> str | None:
    """Return why API and workers must not start: stored numbers that they could not open. None if they may.

    A Postgres that is away for a moment is no reason: each number that cannot be opened is logged by itself.
    """
    try:
        missing = rotate.missing()
    except (DatabaseUnavailable, ProgrammingError) as error:
        # Away, or without tables yet: health says so, and neither needs a restart afterwards.
        log.warning("seal_keys_not_checked", error=type(error).__name__)
        return None
    if not missing:
        return None
    lacking = ", ".join(f"{key_id} ({count} numbers)" for key_id, count in sorted(missing.items()))
    return (
        f"OTPQUEUE_SEAL_KEYS lacks keys that stored numbers are sealed with: {lacking}. Put them back, after "
        "the first; `otpqueue keys rotate-seal` then makes them needless. If one is lost for good, "
        "`otpqueue keys drop-sealed ID` deletes the requests that it sealed"
    )
