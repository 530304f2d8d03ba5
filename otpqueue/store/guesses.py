"""Queries on wrong codes: counts by number, by address and by client.

`checks` counts a guess when its check begins, before the comparison, and subtracts it when the provider did
not judge it. This module reads the counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, text
from sqlalchemy.dialects.postgresql import insert

from otpqueue.store.schema import WRONG, number_guesses

SHARDS = 8
"""Rows of `check_counts` for one client and minute."""

_LONGEST_LIFE = timedelta(minutes=30)
"""An upper bound on the time from a request to its last check: twice 10 minutes, plus a check's lease."""

_OF_NUMBER = text(
    f"""
    WITH rows AS (
        SELECT client_id, sum(wrong_in_a_row) AS in_a_row, max(unlocked_at) AS unlocked_at
        FROM number_guesses WHERE number_hash = ANY(CAST(:number_hashes AS bytea[])) GROUP BY client_id
    ), recent AS (
        SELECT DISTINCT r.client_id FROM otp_requests AS r JOIN checks AS c ON c.request_id = r.id
        WHERE r.number_hash = ANY(CAST(:number_hashes AS bytea[]))
          AND r.created_at > CAST(:since AS timestamptz) - CAST(:life AS interval)
          AND c.started_at > :since AND {WRONG}
        UNION
        SELECT e.client_id FROM erased_wrong_codes AS e
        WHERE e.number_hash = ANY(CAST(:number_hashes AS bytea[])) AND e.at > :since
    )
    SELECT clients.id, clients.name, coalesce(rows.in_a_row, 0) AS in_a_row, rows.unlocked_at
    FROM (SELECT client_id FROM rows UNION SELECT client_id FROM recent) AS known
    JOIN clients ON clients.id = known.client_id
    LEFT JOIN rows ON rows.client_id = known.client_id
    ORDER BY clients.name
    """  # noqa: S608 - a constant
)


@dataclass(frozen=True, kw_only=True)
class WrongCodes:
    """One client's wrong codes for a number."""

    client_id: UUID
    client: str
    in_a_row: int
    unlocked_at: datetime | None


def list_wrong_codes(
    conn: Connection, number_hashes: Sequence[bytes], *, since: datetime
) -> Sequence[WrongCodes]:
    """Return each client's consecutive wrong codes for a number and those since `since`, by client name.

    A correct code resets the consecutive count only.
    """
    found = conn.execute(
        _OF_NUMBER, {"number_hashes": list(number_hashes), "life": _LONGEST_LIFE, "since": since}
    )
    return [
        WrongCodes(client_id=row.id, client=row.name, in_a_row=row.in_a_row, unlocked_at=row.unlocked_at)
        for row in found
    ]


def unlock(conn: Connection, *, client_id: UUID, number_hashes: Sequence[bytes], now: datetime) -> None:
    """Reset a client's wrong codes for a number, up to now."""
    reset = {"wrong_in_a_row": 0, "unlocked_at": now, "updated_at": now}
    rows = [{"client_id": client_id, "number_hash": one, **reset} for one in number_hashes]
    conn.execute(
        insert(number_guesses)
        .values(rows)
        .on_conflict_do_update(index_elements=["client_id", "number_hash"], set_=reset)
    )
