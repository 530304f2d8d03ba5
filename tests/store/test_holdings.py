"""The personal data of each table: every table has an entry, every hash is named, and the docs agree."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import LargeBinary
from sqlalchemy.dialects.postgresql import JSONB

from otpqueue.store.privacy.holdings import HOLDINGS, Holding, OnErase
from otpqueue.store.privacy.purging import AGEING
from otpqueue.store.schema import metadata, otp_requests

BY_NAME = {holding.table.name: holding for holding in HOLDINGS}
ids = [holding.table.name for holding in HOLDINGS]


def test_every_table_is_entered_once() -> None:
    """A table without an entry would be neither erased nor purged."""
    assert sorted(BY_NAME) == sorted(metadata.tables)
    assert len(BY_NAME) == len(HOLDINGS)


@pytest.mark.parametrize("holding", HOLDINGS, ids=ids)
def test_every_hash_is_named(holding: Holding) -> None:
    """A column of bytes is sealed or a hash: it must be known for the keys to be replaced."""
    stored = {column.name for column in holding.table.columns if isinstance(column.type, LargeBinary)}

    sealed = {holding.sealed} - {None}
    assert stored == sealed | set(holding.other_hashes) | ({holding.number_hash} - {None})
    assert not holding.sealed or {"seal_key_id", "id"} <= set(holding.table.columns.keys())


@pytest.mark.parametrize("holding", HOLDINGS, ids=ids)
def test_number_can_be_erased(holding: Holding) -> None:
    """What leads to a number, by its hash or by a request, says what an erasure does to it, and how."""
    to_requests = [
        key for key in holding.table.foreign_keys if key.column.table is otp_requests and key.ondelete
    ]
    leads_to_a_number = holding.number_hash is not None or bool(to_requests)

    assert leads_to_a_number == (holding.on_erase is not OnErase.UNCONCERNED)
    assert (holding.on_erase is OnErase.EMPTIED) == ({key.ondelete for key in to_requests} == {"SET NULL"})
    if holding.on_erase is OnErase.ANONYMISED:
        assert holding.number_hash in holding.cleared
        assert all(holding.column(name).nullable for name in holding.cleared)
    if holding.request_id is not None:
        (to_request,) = holding.column(holding.request_id).foreign_keys
        assert (to_request.column.table, to_request.ondelete) == (otp_requests, "CASCADE")


@pytest.mark.parametrize("holding", HOLDINGS, ids=ids)
def test_number_is_kept_for_a_time(holding: Holding) -> None:
    """What leads to a number goes with its request or has an age, but for what is kept in force."""
    if holding.number_hash is not None and holding.on_erase is not OnErase.KEPT:
        assert holding.age is not None
    if holding.evidence:
        assert holding.on_erase is OnErase.UNCONCERNED
    if holding.age is not None:
        assert not holding.column(holding.age).nullable or holding.only is not None


JSON_WITHOUT_PERSONS = {
    ("clients", "settings"),
    ("provider_ids", "message_ids"),
    # Goes with its request: `EMPTIED`.
    ("idempotency_keys", "answer"),
    ("erasures", "counts"),
    ("audit_entries", "details"),
}


def test_lists_of_requests_are_named() -> None:
    """What JSON says of requests by their ids must be known, or an erasure would leave it."""
    json = {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if isinstance(column.type, JSONB)
    }

    named = {(one.table.name, one.names_requests) for one in HOLDINGS if one.names_requests}
    assert named | JSON_WITHOUT_PERSONS == json
    assert all(one.on_erase is OnErase.ANONYMISED for one in HOLDINGS if one.names_requests)


@pytest.mark.parametrize("holding", AGEING, ids=[holding.table.name for holding in AGEING])
def test_old_rows_are_found_by_an_index(holding: Holding) -> None:
    """A purge must not read the whole table: an index, or the primary key, begins with the age."""
    indexes = [index.columns for index in holding.table.indexes]
    first = {next(iter(columns)).name for columns in (*indexes, holding.table.primary_key.columns)}

    assert holding.age in first


def test_merging_is_declared_where_a_number_has_one_row() -> None:
    """Two hashes of one number cannot stand in a column that is unique, unless it is said how to merge."""
    for holding in HOLDINGS:
        if holding.number_hash is not None:
            own = holding.column(holding.number_hash)
            assert (own.primary_key or bool(own.unique)) == (holding.merge is not None), holding.table.name


def test_retention_bounds_all_but_evidence() -> None:
    """A shorter retention shortens everything that is about persons."""
    day = timedelta(days=1)

    longer = {holding.table.name: holding.kept_for(day) for holding in AGEING if holding.kept_for(day) > day}

    assert longer == {"sending_stops": timedelta(days=1096), "erasures": timedelta(days=1096)}
    assert BY_NAME["otp_requests"].kept_for(day) == BY_NAME["refusals"].kept_for(day) == day
    assert BY_NAME["refusals"].kept_for(30 * day) == 7 * day
    assert BY_NAME["guard_addresses"].kept_for(30 * day) == 2 * day
    assert BY_NAME["do_not_send"].kept_for(30 * day) == timedelta(0)


def test_docs_say_what_is_held(project: Path) -> None:
    """The table in docs/privacy.md has a row for each table, with how long it is kept and what erases it."""
    document = (project / "docs" / "privacy.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| `(\w+)` \|(.*)\|(.*)\|(.*)\|(.*)\|$", document, re.MULTILINE)
    said = {name: (kept.strip(), erased.strip()) for name, _, kept, erased, _ in rows}

    assert said == {
        holding.table.name: (holding.said_to_be_kept, holding.on_erase.value) for holding in HOLDINGS
    }
    for name, what, _, _, why in rows:
        assert what.strip(), name
        assert why.strip(), name
        for column in (BY_NAME[name].number_hash, *BY_NAME[name].other_hashes):
            assert column is None or f"`{column}`" in what, (name, column)
