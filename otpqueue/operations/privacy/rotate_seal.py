"""Rotate seal keys: seal stored numbers with the primary key, and report which keys are still needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import ProgrammingError

from otpqueue.domain.audit import OperatorAction
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.limits import GuessPolicy
from otpqueue.operations.auditing import recorded_run
from otpqueue.operations.privacy.count_seals import count_seals
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
"""The pause between passes. Rows that were locked in one pass are usually free in the next."""


@dataclass(frozen=True, kw_only=True)
class SealKeyReport:
    """How stored numbers are sealed."""

    counts: Mapping[str, int]
    """The count by key."""
    unopened: Mapping[str, int]
    """The count by key of numbers that their key does not open."""
    removable: tuple[str, ...]
    """The keys of OTPQUEUE_SEAL_KEYS that seal no stored number any more."""
    seals: Mapping[str, int]
    """How many texts each key has ever sealed. The maximum is `MOST_SEALS`."""


Progress = Callable[[str, int, int], None]
"""Called after each step with the key, how many of its numbers are done, and how many there were at first."""


@dataclass(frozen=True, kw_only=True)
class RotateSeal:
    """Rotates seal keys. May be interrupted at any time, repeated, or run concurrently."""

    engine: Engine
    vault: Vault
    guesses: GuessPolicy

    def __call__(self, *, progress: Progress, batch: int = BATCH) -> SealKeyReport:
        """Seal every number again that is not sealed with the primary key. Returns how they are now sealed.

        Runs in batches of `batch` rows, one transaction each, beside claims and checks. Numbers with a key
        that is not in OTPQUEUE_SEAL_KEYS are skipped. Raises DatabaseUnavailable.
        """
        with recorded_run(
            self.engine, OperatorAction.SEAL_KEY_ROTATED, target=self.vault.seal_key_ids[0]
        ) as details:
            sealed = self._rotate(progress, batch)
            details["removable"] = list(sealed.removable)
        return sealed

    def _rotate(self, progress: Progress, batch: int) -> SealKeyReport:
        current, *older = self.vault.seal_key_ids
        before = self._counts()
        unopened = {}
        for key_id in older:
            if before.get(key_id):
                unopened[key_id] = self._reseal(key_id, before[key_id], batch, progress)
        count_seals(self.engine, self.vault)
        sealed = self.report()
        if any(before.get(key_id) for key_id in older):
            log.info("numbers_resealed", key_id=current, before=before, after=dict(sealed.counts))
        return SealKeyReport(
            counts=sealed.counts,
            unopened={key_id: count for key_id, count in unopened.items() if count},
            removable=sealed.removable,
            seals=sealed.seals,
        )

    def report(self) -> SealKeyReport:
        """Return how the numbers are sealed. Changes nothing. Raises DatabaseUnavailable."""
        counts = self._counts()
        removable = tuple(key_id for key_id in self.vault.seal_key_ids[1:] if not counts.get(key_id))
        with connection(self.engine) as conn:
            seals = seal_counts.read_counts(conn)
        return SealKeyReport(counts=counts, unopened={}, removable=removable, seals=seals)

    def missing(self) -> Mapping[str, int]:
        """Return how many numbers are sealed with each key that is missing from OTPQUEUE_SEAL_KEYS.

        Cheap if none is missing, so it can run at every start. Raises DatabaseUnavailable.
        """
        with connection(self.engine) as conn:
            unknown = set(resealing.list_keys_in_use(conn)) - set(self.vault.seal_key_ids)
        return self._counts(unknown) if unknown else {}

    def drop(self, key_id: str, *, batch: int = BATCH) -> int:
        """Delete the requests and verification pages with numbers that are sealed with a lost key.

        Returns how many requests. Numbers on the do-not-send list stay there as hashes. Webhooks with a
        secret that the key sealed are disabled. Raises ValueError if the key is not lost,
        DatabaseUnavailable.
        """
        if key_id in self.vault.seal_key_ids:
            raise ValueError(f"{key_id} is in OTPQUEUE_SEAL_KEYS, so its numbers can be read")
        with recorded_run(self.engine, OperatorAction.SEALED_NUMBERS_DROPPED, target=key_id) as details:
            details["requests"] = total = self._drop(key_id, batch)
        return total

    def _drop(self, key_id: str, batch: int) -> int:
        total = 0
        drop = partial(resealing.drop, key_id=key_id, limit=batch, guesses=self.guesses)
        while dropped := transaction(self.engine, drop):
            total += dropped
        pages = transaction(self.engine, partial(resealing.drop_pages, key_id=key_id))
        unread = transaction(self.engine, partial(resealing.drop_blocked_numbers, key_id=key_id))
        webhooks = transaction(self.engine, partial(resealing.disable_webhooks, key_id=key_id))
        log.warning(
            "sealed_numbers_dropped",
            key_id=key_id,
            requests=total,
            verification_pages=pages,
            do_not_send_unread=unread,
            webhooks_disabled=webhooks,
        )
        return total

    def _reseal(self, key_id: str, found: int, batch: int, progress: Progress) -> int:
        """Seal a key's numbers again, in passes, until none is left. Returns how many it does not open."""
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
    """Return why the API and workers must not start, None if they may.

    The reason is stored numbers that they cannot open.

    If Postgres is unavailable they may start: each number that cannot be opened is logged.
    """
    try:
        missing = rotate.missing()
    except (DatabaseUnavailable, ProgrammingError) as error:
        # Unavailable, or not migrated yet. The health check reports it, and neither needs a restart.
        log.warning("seal_keys_not_checked", error=type(error).__name__)
        return None
    if not missing:
        return None
    lacking = ", ".join(f"{key_id} ({count} numbers)" for key_id, count in sorted(missing.items()))
    return (
        f"OTPQUEUE_SEAL_KEYS lacks keys that stored numbers are sealed with: {lacking}. Restore them after "
        "the primary key, then run `otpqueue keys rotate-seal` to replace them. If one is lost, run "
        "`otpqueue keys drop-sealed ID` to delete the requests that it sealed"
    )
