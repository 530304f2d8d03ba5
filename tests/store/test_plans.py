"""Claims and records read what they are about, however large the tables are and however a plan began."""

from __future__ import annotations

from collections import Counter
from uuid import uuid4

import pytest
from sqlalchemy import text

from otpqueue.domain.caps import Caps
from otpqueue.store import attempts, receipts
from otpqueue.store.claims import PumpTurn, take_turn
from tests.store.conftest import NOW, REFUSED, SENT, Store, a_result, accepted, again, later

ENDED = 16_000
DUE = 4_000
SLOTS = 20
CAPS = Caps(overall=10**6, per_client=10**6, by_country={"*": 10**6})
TABLES = ("otp_requests", "send_attempts", "receipts", "send_counts")

# Ended requests and those that are due, each with an attempt, and reports of other people's messages.
FILL = (
    """
    INSERT INTO otp_requests (id, client_id, number_sealed, seal_key_id, number_hash, country, channel,
                              status, send_state, next_attempt_at, checks_allowed, created_at, updated_at,
                              send_by, finished_at)
    SELECT gen_random_uuid(), :client_id, '\\x00', 'gone', decode(md5(n::text), 'hex'), 'GB', 'sms',
           CASE WHEN n > :due THEN 'expired' ELSE 'queued' END, CASE WHEN n > :due THEN 'idle' ELSE 'due' END,
           CASE WHEN n > :due THEN NULL ELSE :now + n * interval '1 ms' - interval '5 min' END, 5,
           :now, :now, CAST(:now AS timestamptz) + interval '90 s', CASE WHEN n > :due THEN :now END
    FROM generate_series(1, :all) AS n
    """,
    """
    INSERT INTO send_attempts (request_id, number, worker, claimed_at, outcome, code)
    SELECT id, 9, 'w', :now, 'accepted', 'MESSAGE_SENT' FROM otp_requests WHERE status = 'expired'
    """,
    """
    INSERT INTO receipts (id, message_id, delivery, status, received_at)
    SELECT gen_random_uuid(), 'foreign ' || n, 'delivered', 'DELIVERED_TO_HANDSET', :now
    FROM generate_series(1, :all) AS n
    """,
)


def turn(
    store: Store, results: list[attempts.AttemptResult] | None = None, *, slots: int = SLOTS
) -> PumpTurn:
    """Take a turn, in the session under inspection."""
    return take_turn(
        store.conn,
        results or [],
        slots=slots,
        lease_s=30,
        worker="w",
        now=NOW,
        vault=store.vault,
        caps=CAPS,
    )


def read(store: Store) -> Counter[str]:
    """Return how many rows were read of each table and index so far, and how often a whole table was."""
    store.conn.execute(text("SELECT pg_stat_force_next_flush()"))
    found: Counter[str] = Counter()
    tables = store.conn.execute(
        text(
            "SELECT relname, seq_scan, seq_tup_read, idx_tup_fetch FROM pg_stat_user_tables"
            " WHERE relname = ANY(:tables)"
        ),
        {"tables": list(TABLES)},
    )
    for table, scans, by_scan, by_index in tables:
        found[f"scans of {table}"] = scans
        found[f"rows of {table}"] = by_scan + (by_index or 0)
    indexes = store.conn.execute(
        text("SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes WHERE relname = ANY(:tables)"),
        {"tables": list(TABLES)},
    )
    for index, entries in indexes:
        found[f"entries of {index}"] = entries
    return found


@pytest.fixture
def grown(store: Store) -> Store:
    """Return a store with a session that planned over small tables, which have grown since, unanalysed."""
    for _ in range(8):
        store.insert_many(2)
        claims = turn(store).claims
        turn(store, [a_result(claims[0], accepted(), SENT), a_result(claims[1], REFUSED, again(-1))])
        turn(store, [a_result(one, REFUSED, again(9999)) for one in turn(store).claims])
        receipts.find_unmatched(store.engine, ["one"])
    fill = {"client_id": store.client_id, "now": NOW, "due": DUE, "all": ENDED + DUE}
    store.conn.execute(text("SET statement_timeout = '60s'"))
    for statement in FILL:
        store.conn.execute(text(statement), fill)
    store.conn.execute(text("RESET statement_timeout"))
    return store


def test_turns_read_only_their_rows(grown: Store) -> None:
    """A claim of 20 and its record read dozens of rows, with thousands due and tens of thousands ended."""
    store = grown
    turn(store)  # whatever the first one after the growth cleans up
    mine = store.insert_many(SLOTS, created_at=later(-400))
    before = read(store)

    claims = turn(store).claims
    assert {claim.request_id for claim in claims} == {one.id for one in mine}
    results = [a_result(claim, accepted(f"pin-{n}"), SENT) for n, claim in enumerate(claims)]
    moved = turn(store, results, slots=0).moved

    assert len(moved) == SLOTS
    grew = read(store) - before
    assert {name: n for name, n in grew.items() if name.startswith("scans of")} == {}
    assert grew["rows of otp_requests"] > 0
    # Dead rows before the next vacuum are read too; reading all due rows would be thousands.
    assert max(grew.values()) < 20 * SLOTS, grew


def test_looks_read_next_to_nothing(grown: Store) -> None:
    """A look that finds nothing, and one for early reports, do not depend on what is stored."""
    store = grown
    store.conn.execute(
        text(
            "UPDATE otp_requests SET next_attempt_at = next_attempt_at + interval '9 h'"
            " WHERE send_state = 'due'"
        )
    )
    for _ in range(3):
        turn(store)
    before = read(store)

    for _ in range(10):
        assert turn(store).next_due is not None
        assert receipts.find_unmatched(store.engine, [str(uuid4()) for _ in range(50)]) == []

    grew = read(store) - before
    assert {name: n for name, n in grew.items() if name.startswith("scans of")} == {}
    assert max(grew.values(), default=0) < DUE / 4, grew
