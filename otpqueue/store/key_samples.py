"""Compare this process's keys with the keys that wrote the newest requests."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from sqlalchemy import Connection, select

from otpqueue.store.schema import otp_requests
from otpqueue.store.vault import Vault

_r = otp_requests.c


@dataclass(frozen=True, kw_only=True)
class KeyComparison:
    """How many of the newest requests these keys did not write."""

    compared: int
    sealed_otherwise: int
    """Requests with a number that a sealing key of the same id does not open."""
    hashed_otherwise: int
    """Requests with a number that was hashed with another key."""


def compare_keys(conn: Connection, vault: Vault, *, limit: int = 20) -> KeyComparison:
    """Unseal and hash the numbers of the newest requests. Numbers sealed with an unknown key are skipped."""
    columns = (_r.id, _r.number_sealed, _r.seal_key_id, _r.number_hash)
    rows = select(*columns).where(_r.seal_key_id.in_(vault.seal_key_ids)).order_by(_r.id.desc()).limit(limit)
    compared = sealed_otherwise = hashed_otherwise = 0
    for row in conn.execute(rows):
        compared += 1
        try:
            number = vault.unseal(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
        except InvalidTag:
            sealed_otherwise += 1
            continue
        hashed_otherwise += row.number_hash not in vault.number_hashes(number)
    return KeyComparison(
        compared=compared, sealed_otherwise=sealed_otherwise, hashed_otherwise=hashed_otherwise
    )
