"""Count the seals of each seal key: in memory, and every few seconds in Postgres."""

from __future__ import annotations

from sqlalchemy import Engine

from otpqueue.store.engine import run
from otpqueue.store.privacy import seal_counts
from otpqueue.store.vault import Vault


def count_seals(engine: Engine, vault: Vault) -> None:
    """Add the seals of this process, if any, to the count of its key. Raises DatabaseUnavailable.

    A killed process loses a few seconds of them.
    """
    seals = vault.take_seals()
    if not seals:
        return
    try:
        run(engine, lambda conn: seal_counts.add(conn, vault.seal_key_ids[0], seals))
    except Exception:
        vault.put_back_seals(seals)
        raise
