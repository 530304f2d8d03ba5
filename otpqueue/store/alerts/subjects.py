"""The subjects of alerts and silences in the form for display."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from otpqueue.domain.alerts import format_number
from otpqueue.store.vault import Vault

_NEWEST = text(
    """
    SELECT wanted.number_hash, r.id, r.number_sealed, r.seal_key_id
    FROM unnest(CAST(:number_hashes AS bytea[])) AS wanted (number_hash)
    CROSS JOIN LATERAL (
        SELECT id, number_sealed, seal_key_id FROM otp_requests AS o
        WHERE o.number_hash = wanted.number_hash ORDER BY o.created_at DESC LIMIT 1
    ) AS r
    """
)


def read_masked_numbers(conn: Connection, number_hashes: Collection[bytes], vault: Vault) -> dict[bytes, str]:
    """Return the masked numbers with a stored request that can be unsealed."""
    rows = conn.execute(_NEWEST, {"number_hashes": list(number_hashes)}) if number_hashes else ()
    masked = {
        row.number_hash: vault.unseal_masked_number(row.number_sealed, key_id=row.seal_key_id, row_id=row.id)
        for row in rows
    }
    # If the key is missing, only the tag is shown.
    return {number_hash: number for number_hash, number in masked.items() if number is not None}


def format_subjects(conn: Connection, rows: Sequence[Row[Any]], vault: Vault) -> list[str | None]:
    """Return the subjects of alerts or silences in the form for display."""
    masked = read_masked_numbers(conn, {row.number_hash for row in rows if row.number_hash}, vault)
    return [
        row.subject
        if row.subject is None or row.number_hash is None
        else format_number(row.subject, masked.get(row.number_hash))
        for row in rows
    ]
