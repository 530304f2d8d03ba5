"""Queries on delivery reports: stored once, matched now or later, deleted when unmatched."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, RowMapping, select

from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import OtpRequest
from otpqueue.store import receipts
from otpqueue.store.engine import connection, transaction
from otpqueue.store.schema import receipts as rows
from tests.store.conftest import NOW, SENT, Store, accepted, later

D, U, P = DeliveryState.DELIVERED, DeliveryState.UNDELIVERED, DeliveryState.PENDING


def report(message_id: str = "m", delivery: DeliveryState = D, **differing: Any) -> Receipt:
    """Return a report."""
    usual = Receipt(
        message_id=message_id,
        delivery=delivery,
        status=delivery.upper(),
        error=None,
        done_at=NOW,
        price=Decimal("0.01"),
        currency="EUR",
    )
    return replace(usual, **differing)


def sent(store: Store, *message_ids: str, number: str = "+447700900123") -> OtpRequest:
    """Store a request that was sent, and sent again, as these messages."""
    request = store.insert(number)
    for message_id in message_ids:
        (claim,) = store.claim()
        outcome = replace(accepted(f"pin-{message_id}"), external_message_id=message_id)
        assert store.record(claim, outcome, SENT, expires_at=later(300))
        store.change(request.id, send_state="due", next_attempt_at=NOW, send_kind="resend")
    store.change(request.id, send_state="idle", next_attempt_at=None)
    return store.find(request.id)


def kept(store: Store) -> list[RowMapping]:
    """Return the reports that are kept, by message and status."""
    return list(store.conn.execute(select(rows).order_by(rows.c.message_id, rows.c.status)).mappings())


def take(store: Store, *reports: Receipt) -> dict[str, str]:
    """Keep reports and match them; return the requests that moved."""
    receipts.add(store.conn, reports, now=NOW)
    return match(store.conn, [one.message_id for one in reports])


def match(conn: Connection, names: list[str]) -> dict[str, str]:
    """Match what is kept of these messages; return new statuses by request id."""
    return {str(one.request_id): one.status.value for one in receipts.match(conn, names, now=NOW)}


def test_every_field_is_kept(store: Store) -> None:
    """A report is kept as it is, unmatched."""
    assert receipts.add(store.conn, [report(error="EC_X", price=Decimal("0.000001"))], now=later(1)) == 1

    (row,) = kept(store)
    assert (row["message_id"], row["delivery"], row["status"], row["error"]) == (
        "m",
        "delivered",
        "DELIVERED",
        "EC_X",
    )
    assert (row["done_at"], row["received_at"]) == (NOW, later(1))
    assert (row["price"], row["currency"]) == (Decimal("0.000001"), "EUR")
    assert (row["request_id"], row["attempt"]) == (None, None)


def test_what_makes_a_report_another_one(store: Store) -> None:
    """Message, status and time together identify a report; a missing time is a value of its own."""
    first = report(done_at=None)
    others = [report("n"), report(delivery=U), report(done_at=later(1)), report("n", done_at=None)]

    assert receipts.add(store.conn, [first], now=NOW) == 1
    assert receipts.add(store.conn, [first, replace(first, price=None)], now=NOW) == 0
    assert receipts.add(store.conn, others, now=NOW) == 4
    assert receipts.add(store.conn, [], now=NOW) == 0


def test_match_notes_attempt_and_request(store: Store) -> None:
    """A report is tied to its attempt, which keeps what it says, and moves the request once."""
    request = sent(store, "m")

    assert take(store, report(error="EC_X")) == {str(request.id): "delivered"}
    assert match(store.conn, ["m"]) == {}

    (attempt,) = store.attempts(request.id)
    assert (attempt["delivery"], attempt["delivery_status"], attempt["delivery_error"]) == (
        "delivered",
        "DELIVERED",
        "EC_X",
    )
    assert (attempt["done_at"], attempt["price"], attempt["currency"]) == (NOW, Decimal("0.01"), "EUR")
    assert {(row["request_id"], row["attempt"]) for row in kept(store)} == {(request.id, 1)}


def test_match_of_nothing(store: Store) -> None:
    """Neither no ids nor unknown ones are an error."""
    assert match(store.conn, []) == {}
    assert match(store.conn, ["unknown"]) == {}


def test_only_what_is_named_is_matched(store: Store) -> None:
    """Reports on other messages wait for their own match."""
    first, second = sent(store, "a"), sent(store, "b", number="+447700900124")
    receipts.add(store.conn, [report("a"), report("b")], now=NOW)

    assert match(store.conn, ["a"]) == {str(first.id): "delivered"}

    assert store.find(second.id).status == "sent"
    assert [row["request_id"] for row in kept(store)] == [first.id, None]


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ({"old": U}, "sent"),
        ({"new": U}, "undelivered"),
        ({"old": U, "new": U}, "undelivered"),
        ({"old": D, "new": U}, "delivered"),
        ({"old": U, "new": D}, "delivered"),
        ({"old": P, "new": P}, "sent"),
    ],
    ids=str,
)
def test_two_sends(store: Store, said: dict[str, DeliveryState], status: str) -> None:
    """Of two sends the newest alone can say undelivered, either can say delivered."""
    request = sent(store, "old", "new")

    take(store, *(report(name, delivery) for name, delivery in said.items()))

    assert store.find(request.id).status == status


def test_best_report_of_a_message(store: Store) -> None:
    """Of several reports the best is noted, of equals the latest; a price that any names is not lost."""
    request = sent(store, "m")
    take(
        store,
        report(delivery=P, done_at=later(9), price=Decimal("0.02"), currency="GBP"),
        report(delivery=U, done_at=later(1), price=None, currency=None),
        report(delivery=U, status="U2", done_at=later(2), price=None, currency=None),
    )

    (attempt,) = store.attempts(request.id)
    assert (attempt["delivery_status"], attempt["done_at"]) == ("U2", later(2))
    assert (attempt["price"], attempt["currency"]) == (Decimal("0.02"), "GBP")


def test_same_reports_from_many_sessions(store: Store) -> None:
    """Sessions that keep the same reports at once in different orders neither fail nor keep one twice."""
    batch = [report(f"m{number:03}", delivery) for number in range(200) for delivery in (D, U, P)]

    def add(order: int) -> int:
        return transaction(store.engine, lambda conn: receipts.add(conn, batch[::order], now=NOW))

    with ThreadPoolExecutor(6) as threads:
        counts = list(threads.map(add, [1, -1] * 3))

    assert sum(counts) == len(batch) == len(kept(store))


def test_matching_at_once(store: Store) -> None:
    """Sessions that match the same reports at once move each request once."""
    requests = [sent(store, f"m{last}", number=f"+44770090013{last}") for last in range(8)]
    names = [f"m{last}" for last in range(8)]
    receipts.add(store.conn, [report(name) for name in names], now=NOW)

    def match_all(order: int) -> dict[str, str]:
        with connection(store.engine) as conn:
            return match(conn, names[::order])

    with ThreadPoolExecutor(6) as threads:
        moved = list(threads.map(match_all, [1, -1] * 3))

    assert sorted(name for one in moved for name in one) == sorted(str(one.id) for one in requests)


def test_old_reports_are_deleted(store: Store) -> None:
    """What is unmatched for more than an hour goes; what is matched, or younger, stays."""
    sent(store, "matched")
    take(store, report("matched"), report("unknown"))
    hour = receipts.KEPT_UNMATCHED

    assert receipts.delete_unmatched(store.conn, now=NOW + hour) == 0
    assert receipts.delete_unmatched(store.conn, now=NOW + hour + timedelta(seconds=1)) == 1
    assert [row["message_id"] for row in kept(store)] == ["matched"]


def test_left_over(store: Store) -> None:
    """Unmatched reports of which an attempt is known by now are found, each message once, newest first."""
    for last in range(3):
        sent(store, f"m{last}", number=f"+44770090013{last}")
    others = [report(f"unknown{number}") for number in range(5)]
    receipts.add(store.conn, others, now=NOW)
    for second in range(3):
        both = [report(f"m{second}", U), report(f"m{second}", P)]
        receipts.add(store.conn, both, now=later(second + 1))

    assert receipts.find_matchable(store.conn, before=later(9), limit=2) == ["m2"]
    assert receipts.find_matchable(store.conn, before=later(9), limit=100) == ["m0", "m1", "m2"]
    match(store.conn, ["m0", "m2"])
    assert receipts.find_matchable(store.conn, before=later(9), limit=100) == ["m1"]
