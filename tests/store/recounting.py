"""An independent recount of the statistics in Python, from the rows themselves."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, RowMapping, Table, select

from otpqueue.domain.stats import get_bucket
from otpqueue.store.schema import (
    checks,
    otp_requests,
    refusals,
    send_attempts,
    stat_events,
    stats_hours,
    stats_minutes,
)

Key = tuple[datetime, str, str, str, str, str]
"""The minute or hour, the client's id, country, channel, metric, label."""
Counts = dict[Key, tuple[int, Decimal]]
Measured = tuple[datetime, str, str, Any]
"""When, metric, label, what was measured."""
_NOTHING = (0, Decimal(0))


def recount(conn: Connection) -> Counts:
    """Return what the rows count for, by the minute."""
    counts: dict[Key, list[Any]] = defaultdict(lambda: [0, Decimal(0)])
    of = {row["id"]: row for row in _rows(conn, otp_requests)}
    measured = [(row, row["channel"], one) for row in of.values() for one in _of_request(row)]
    for row in _rows(conn, send_attempts):
        measured += [(of[row["request_id"]], row["channel"], one) for one in _of_attempt(row)]
    for row in _rows(conn, checks):
        request = of[row["request_id"]]
        measured += [(request, request["channel"], one) for one in _of_check(row)]
    for row in _rows(conn, refusals):
        measured += [(row, "none", (row["created_at"], "refused", row["reason"], 0))] * row["count"]
    for owner, channel, (at, metric, label, total) in measured:
        if owner["is_test"]:
            continue
        minute = at.replace(second=0, microsecond=0)
        key = (minute, str(owner["client_id"]), owner["country"] or "ZZ", channel, metric, label)
        counts[key][0] += 1
        counts[key][1] += total
    return {key: (n, total) for key, (n, total) in counts.items()}


def by_hour(counts: Counts) -> Counts:
    """Return counts of minutes as those of their hours."""
    hours: Counts = {}
    for (at, *rest), (n, total) in counts.items():
        key: Any = (at.replace(minute=0), *rest)
        were = hours.get(key, (0, Decimal(0)))
        hours[key] = (were[0] + n, were[1] + total)
    return hours


def counted(conn: Connection, table: Table) -> Counts:
    """Return the non-zero rows of a table of sums."""
    return {
        (row["at"], str(row["client_id"]), row["country"], row["channel"], row["metric"], row["label"]): (
            row["n"],
            row["total"],
        )
        for row in _rows(conn, table)
        if row["n"] or row["total"]
    }


def waiting(conn: Connection) -> Counts:
    """Return the events that are not added up yet."""
    found: Counts = {}
    for row in _rows(conn, stat_events):
        of = (row["at"], str(row["client_id"]), row["country"], row["channel"])
        measured = [(row["metric"], row["label"], 0 if row["also"] else row["total"])]
        measured += [(row["also"], row["also_label"], row["total"])] if row["also"] else []
        for metric, label, total in measured:
            key = (*of, metric, label)
            were = found.get(key, (0, Decimal(0)))
            found[key] = (were[0] + row["n"], were[1] + total)
    return found


def miscounted(conn: Connection) -> list[str]:
    """Return the differences between a recount and the sums plus the pending events.

    Call in one snapshot (REPEATABLE READ).
    """
    expected = recount(conn)
    found = []
    for table, wanted in ((stats_minutes, expected), (stats_hours, by_hour(expected))):
        outbox = waiting(conn) if table is stats_minutes else by_hour(waiting(conn))
        said = counted(conn, table)
        for key in sorted(wanted.keys() | said.keys() | outbox.keys()):
            (n, total), (more, rest) = said.get(key, _NOTHING), outbox.get(key, _NOTHING)
            if (n + more, total + rest) != wanted.get(key, _NOTHING):
                wrong = f"{n} ({total}) and {more} ({rest}) waiting"
                found.append(f"{table.name} {key} says {wrong}, the rows say {wanted.get(key, _NOTHING)}")
    return found


def _rows(conn: Connection, table: Table) -> list[RowMapping]:
    return list(conn.execute(select(table)).mappings())


def _of_request(row: RowMapping) -> Iterator[Measured]:
    yield row["created_at"], "requested", "", 0
    if row["sent_at"]:
        ms = _ms(row["created_at"], row["sent_at"])
        yield row["sent_at"], "sent", "", 0
        yield row["sent_at"], "accept_to_sent", get_bucket(ms), ms
    if row["status"] == "verified":
        ms = _ms(row["sent_at"], row["verified_at"])
        yield row["verified_at"], "verified", "", 0
        yield row["verified_at"], "sent_to_verified", get_bucket(ms), ms
    elif row["status"] == "expired" and row["sent_at"]:
        yield row["finished_at"], "expired", "checked" if row["check_number"] else "unchecked", 0
    elif row["finished_at"]:
        yield row["finished_at"], row["status"], row["reason"], 0


def _of_attempt(row: RowMapping) -> Iterator[Measured]:
    if row["outcome"]:
        yield row["finished_at"], "attempts", row["outcome"], 0
        if row["latency_ms"] is not None:
            status = str(row["http_status"] or "none")
            yield row["finished_at"], "provider_sends", status, row["latency_ms"]
    if row["delivery"] in {"delivered", "undelivered"}:
        yield row["reported_at"], row["delivery"], "", 0
    if row["delivery"] == "delivered" and row["done_at"]:
        ms = _ms(row["finished_at"], row["done_at"])
        yield row["reported_at"], "sent_to_delivered", get_bucket(ms), ms
    if row["price"] is not None:
        yield row["finished_at"], "cost", row["currency"] or "", row["price"]


def _of_check(row: RowMapping) -> Iterator[Measured]:
    if row["verdict"]:
        yield row["finished_at"], "checks", row["verdict"], 0
        if row["latency_ms"] is not None:
            yield row["finished_at"], "provider_checks", str(row["http_status"] or "none"), row["latency_ms"]


def _ms(began: datetime, ended: datetime) -> int:
    # Half a millisecond is rounded up, as Postgres does.
    return max((ended - began + timedelta(microseconds=500)) // timedelta(milliseconds=1), 0)
