"""Queries on wrong codes: how many there were, for a number, from an address, of a client.

A guess is counted when its check begins, before anybody compares it, and taken back when the provider says
that it did not look at it. `checks` counts them; here they are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import Connection, func, select, text
from sqlalchemy.dialects.postgresql import insert

from otpqueue.store.schema import WRONG, check_counts, number_guesses

SHARDS = 8
"""Rows of `check_counts` for one client and minute."""

_LONGEST_LIFE = timedelta(minutes=30)
"""From a request to its last check, and more: twice 10 minutes at most, and a check's lease."""

# The n-th newest wrong code: while it is in the window there are n in it. Few rows are looked at, however
# large the tables are: `otp_requests_number` and `checks_wrong_of_address` lead to them.
_RECENT = text(
    f"""
    WITH row AS (
        SELECT coalesce(sum(wrong_in_a_row), 0) AS in_a_row, max(unlocked_at) AS unlocked_at
        FROM number_guesses
        WHERE client_id = :client_id AND number_hash = ANY(CAST(:number_hashes AS bytea[]))
    )
    SELECT
        (SELECT in_a_row FROM row) AS in_a_row,
        (
            SELECT c.started_at FROM otp_requests AS r JOIN checks AS c ON c.request_id = r.id
            WHERE r.number_hash = ANY(CAST(:number_hashes AS bytea[])) AND r.client_id = :client_id
              AND r.created_at > CAST(:number_since AS timestamptz) - CAST(:life AS interval)
              AND c.started_at > greatest(:number_since, (SELECT unlocked_at FROM row)) AND {WRONG}
            ORDER BY c.started_at DESC OFFSET :number_before LIMIT 1
        ) AS number_nth,
        (
            SELECT c.started_at FROM checks AS c JOIN otp_requests AS r ON r.id = c.request_id
            WHERE c.client_ip_hash = ANY(CAST(:client_ip_hashes AS bytea[]))
              AND c.started_at > :address_since AND {WRONG} AND r.client_id = :client_id
            ORDER BY c.started_at DESC OFFSET :address_before LIMIT 1
        ) AS address_nth
    """  # noqa: S608 - a constant
)

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
    )
    SELECT clients.id, clients.name, coalesce(rows.in_a_row, 0) AS in_a_row, rows.unlocked_at
    FROM (SELECT client_id FROM rows UNION SELECT client_id FROM recent) AS known
    JOIN clients ON clients.id = known.client_id
    LEFT JOIN rows ON rows.client_id = known.client_id
    ORDER BY clients.name
    """  # noqa: S608 - a constant
)


@dataclass(frozen=True, kw_only=True)
class Recent:
    """What is known of wrong codes for a number and from an address."""

    in_a_row: int
    number_nth: datetime | None
    """When the n-th newest for the number was checked; None if there are fewer in the window."""
    address_nth: datetime | None
    """The same of the address."""


@dataclass(frozen=True, kw_only=True)
class OfNumber:
    """One client's wrong codes for a number."""

    client_id: UUID
    client: str
    in_a_row: int
    unlocked_at: datetime | None


def recent(
    conn: Connection,
    *,
    client_id: UUID,
    number_hashes: Sequence[bytes],
    client_ip_hashes: Sequence[bytes] | None,
    number_since: datetime,
    number_count: int,
    address_since: datetime,
    address_count: int,
) -> Recent:
    """Return the wrong codes since then that matter to a new request. One statement."""
    row = conn.execute(
        _RECENT,
        {
            "client_id": client_id,
            "number_hashes": list(number_hashes),
            "client_ip_hashes": list(client_ip_hashes or ()),
            "life": _LONGEST_LIFE,
            "number_since": number_since,
            "number_before": number_count - 1,
            "address_since": address_since,
            "address_before": address_count - 1,
        },
    ).one()
    return Recent(in_a_row=row.in_a_row, number_nth=row.number_nth, address_nth=row.address_nth)


def judged(conn: Connection, client_id: UUID, *, since: datetime) -> tuple[int, int]:
    """Return how many of a client's codes were judged since then, in whole minutes, and how many wrong."""
    counts = check_counts.c
    row = conn.execute(
        select(func.coalesce(func.sum(counts.checks), 0), func.coalesce(func.sum(counts.wrong), 0)).where(
            counts.client_id == client_id, counts.minute > since
        )
    ).one()
    return row[0], row[1]


def of_number(conn: Connection, number_hashes: Sequence[bytes], *, since: datetime) -> Sequence[OfNumber]:
    """Return what each client has of wrong codes for a number, in a row or since then, by the clients' names.

    A right code ends a row, and takes nothing back of what was wrong since then.
    """
    found = conn.execute(
        _OF_NUMBER, {"number_hashes": list(number_hashes), "life": _LONGEST_LIFE, "since": since}
    )
    return [
        OfNumber(client_id=row.id, client=row.name, in_a_row=row.in_a_row, unlocked_at=row.unlocked_at)
        for row in found
    ]


def unlock(conn: Connection, *, client_id: UUID, number_hashes: Sequence[bytes], now: datetime) -> None:
    """Forgive a client's wrong codes for a number, up to now."""
    forgiven = {"wrong_in_a_row": 0, "unlocked_at": now, "updated_at": now}
    rows = [{"client_id": client_id, "number_hash": one, **forgiven} for one in number_hashes]
    conn.execute(
        insert(number_guesses)
        .values(rows)
        .on_conflict_do_update(index_elements=["client_id", "number_hash"], set_=forgiven)
    )
