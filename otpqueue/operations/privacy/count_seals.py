"""Count the seals of each seal key: in memory, and every few seconds in Postgres."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine

from otpqueue.store.engine import run
from otpqueue.store.privacy import seal_counts
from otpqueue.store.vault import Vault


@dataclass(frozen=True, kw_only=True)
class CountSeals:
    """Adds the seals of this process to the count of its key.

    A killed process loses a few seconds of them.
    """

    engine: Engine
    vault: Vault

    def __call__(self) -> None:
        """Store the count, if any. Raises DatabaseUnavailable."""
        seals = self.vault.take_seals()
        if not seals:
            return
        try:
            run(self.engine, lambda conn: seal_counts.add(conn, self.vault.seal_key_ids[0], seals))
        except Exception:
            self.vault.put_back_seals(seals)
            raise
