"""Delivery reports: in any order, repeated, and before or after other events."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import RowMapping, select

from otpqueue import clock
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import Channel, OtpRequest, Status
from otpqueue.operations.verify import TypedCode
from otpqueue.store import receipts as store
from otpqueue.store.engine import connection, transaction
from otpqueue.store.schema import otp_requests
from otpqueue.store.schema import receipts as receipt_rows
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, Engines, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, connections_refused, numbers, until

DONE = datetime(2026, 3, 1, 12, tzinfo=UTC)
NAMES = {
    DeliveryState.PENDING: "PENDING_ENROUTE",
    DeliveryState.DELIVERED: "DELIVERED_TO_HANDSET",
    DeliveryState.UNDELIVERED: "UNDELIVERABLE_NOT_DELIVERED",
}
TRACKED = {"pinId": "P", "to": "44", "smsStatus": "MESSAGE_SENT", "externalMessageId": "early"}


def report(message_id: str, delivery: DeliveryState = DeliveryState.DELIVERED, **differing: Any) -> Receipt:
    """Return a report."""
    usual = Receipt(
        message_id=message_id,
        delivery=delivery,
        status=NAMES[delivery],
        error=None,
        done_at=DONE,
        price=Decimal("0.01"),
        currency="EUR",
    )
    return replace(usual, **differing)


@dataclass(frozen=True)
class Reports:
    """Helpers that receive reports on requests."""

    parts: Parts
    rows: Rows

    def id_of(self, request: OtpRequest, attempt: int = -1) -> str:
        """Return the provider's id of a message of a request, by default the newest."""
        found = self.rows.attempts(request.id)[attempt]["external_message_id"]
        assert isinstance(found, str)
        return found

    def take(self, *reports: Receipt) -> int:
        """Receive these as one batch. Returns how many were new."""
        return self.parts.receipts(reports, now=clock.now())

    def on(self, request: OtpRequest, *deliveries: DeliveryState, attempt: int = -1) -> RowMapping:
        """Receive one report after the other on a message of a request. Returns the request's row."""
        for delivery in deliveries:
            self.take(report(self.id_of(request, attempt), delivery))
        return self.rows.request(request.id)

    def resend(self, request: OtpRequest) -> None:
        """Have the code sent again."""
        self.rows.change(request.id, resend_after=clock.now())
        self.parts.resend(request.id, client_id=request.client_id, channel=None, now=clock.now())
        self.parts.pump.run()

    def kept(self) -> list[RowMapping]:
        """Return the stored reports."""
        with connection(self.parts.engine) as conn:
            return list(conn.execute(select(receipt_rows).order_by(receipt_rows.c.id)).mappings())


@pytest.fixture
def reports(parts: Parts, rows: Rows) -> Reports:
    """Return helpers that receive reports."""
    return Reports(parts, rows)


D, U, P = DeliveryState.DELIVERED, DeliveryState.UNDELIVERED, DeliveryState.PENDING


STATUSES = {
    (D,): "delivered",
    (U,): "undelivered",
    (P,): "sent",
    (P, D): "delivered",
    (P, U): "undelivered",
    (U, D): "delivered",
    (D, U): "delivered",
    (D, P): "delivered",
    (U, P): "undelivered",
    (D, D, U, U, P): "delivered",
}


def test_status_follows_the_best_report(reports: Reports, ask_sent: AskSent) -> None:
    """`undelivered` may become `delivered`, `delivered` is final, and a pending report changes nothing."""
    for number, (deliveries, status) in zip(numbers(len(STATUSES)), STATUSES.items(), strict=True):
        request = ask_sent(number)

        row = reports.on(request, *deliveries)

        assert row["status"] == status, deliveries
        assert (row["send_state"], row["finished_at"], row["reason"]) == ("idle", None, None), deliveries
        best = min(set(deliveries), key=[D, U, P].index)
        assert reports.rows.attempts(request.id)[0]["delivery"] == best, deliveries


def test_operator_is_not_the_handset(reports: Reports, ask_sent: AskSent, provider: Provider) -> None:
    """A message that only reached the operator is neither delivered nor undelivered."""
    provider.call("POST", "/_simulator/receipts", json={"outcome": "operator", "delay_ms": 0})
    request = ask_sent()

    assert reports.parts.receipts.pull(reports.parts.infobip, now=clock.now()) == 2

    assert reports.rows.request(request.id)["status"] == "sent"
    attempt = reports.rows.attempts(request.id)[0]
    assert attempt["delivery"] == "pending"


@pytest.mark.parametrize(
    ("outcome", "status", "error", "price"),
    [
        ("delivered", "delivered", None, Decimal("0.01")),
        ("undelivered", "undelivered", "EC_ABSENT_SUBSCRIBER", Decimal("0.01")),
        ("rejected", "undelivered", "EC_DESTINATION_FLOODING", Decimal(0)),
        ("expired", "undelivered", "EC_VP_EXPIRED", Decimal("0.01")),
    ],
)
def test_pulled_reports(
    reports: Reports,
    ask_sent: AskSent,
    provider: Provider,
    outcome: str,
    status: str,
    error: str | None,
    price: Decimal,
) -> None:
    """A pull stores each ready report once, with its status, error, price and currency."""
    provider.call("POST", "/_simulator/receipts", json={"outcome": outcome, "delay_ms": 0})
    request = ask_sent()

    first = reports.parts.receipts.pull(reports.parts.infobip, now=clock.now())
    again = reports.parts.receipts.pull(reports.parts.infobip, now=clock.now())

    assert (first, again) == (3, 0)
    assert reports.rows.request(request.id)["status"] == status
    attempt = reports.rows.attempts(request.id)[0]
    assert (attempt["delivery"], attempt["delivery_error"]) == (status, error)
    assert (attempt["price"], attempt["currency"]) == (price, "EUR")
    assert attempt["done_at"] >= attempt["claimed_at"] - timedelta(seconds=1)


def test_pulling_while_the_provider_is_down(reports: Reports, ask_sent: AskSent, provider: Provider) -> None:
    """A pull from an unavailable provider stores and loses nothing."""
    provider.call("POST", "/_simulator/receipts", json={"delay_ms": 0})
    request = ask_sent()
    provider.fault(match={"path": "/sms/3/reports"}, status=500, times=1)

    assert reports.parts.receipts.pull(reports.parts.infobip, now=clock.now()) == 0
    assert reports.parts.receipts.pull(reports.parts.infobip, now=clock.now()) == 3

    assert reports.rows.request(request.id)["status"] == "delivered"


class GivenOnce:
    """A provider that returns these reports once."""

    def __init__(self, *reports: Receipt) -> None:
        self._batches = [list(reports)]

    def fetch_reports(self) -> list[Receipt]:
        """Return the next batch."""
        return self._batches.pop() if self._batches else []


def test_nothing_is_pulled_while_postgres_is_away(
    reports: Reports, ask_sent: AskSent, make_parts: MakeParts
) -> None:
    """Infobip returns each report once, so none is pulled while it could not be stored."""
    request = ask_sent()
    provider = GivenOnce(report(reports.id_of(request)))
    away = make_parts(
        DATABASE_URL="postgresql://unknown@127.0.0.1:1/none", OTPQUEUE_TUNING_DATABASE_WAIT_S="0.2"
    )

    with pytest.raises(DatabaseUnavailable):
        away.receipts.pull(provider, now=clock.now())

    assert reports.parts.receipts.pull(provider, now=clock.now()) == 1
    assert reports.rows.request(request.id)["status"] == "delivered"


def test_reports_are_kept_while_postgres_is_away(
    reports: Reports, ask_sent: AskSent, engines: Engines, database_url: str, background: ThreadPoolExecutor
) -> None:
    """Reports that were pulled just before an outage of Postgres are stored after it."""
    request = ask_sent()

    class Closing(GivenOnce):
        def fetch_reports(self) -> list[Receipt]:
            found = super().fetch_reports()
            if found:
                away.__enter__()
            return found

    away = connections_refused(engines, database_url)
    with structlog.testing.capture_logs() as logs:
        pulling = background.submit(
            reports.parts.receipts.pull, Closing(report(reports.id_of(request))), now=clock.now()
        )
        until(lambda: [one["event"] for one in logs if one["event"] == "results_kept"])
        away.__exit__(None, None, None)
        assert pulling.result(60) == 1

    assert reports.rows.request(request.id)["status"] == "delivered"
    assert "results_recorded_late" in {one["event"] for one in logs}


def test_locked_request_holds_up_no_report_of_others(
    reports: Reports, make_parts: MakeParts, ask_sent: AskSent
) -> None:
    """Only the report on the locked request is matched later."""
    held, other = ask_sent(), ask_sent("+447700900124")
    impatient = make_parts(OTPQUEUE_TUNING_DATABASE_LOCK_TIMEOUT_S="0.2")
    with connection(reports.parts.engine.execution_options(isolation_level="READ COMMITTED")) as conn:
        lock = select(otp_requests.c.id).where(otp_requests.c.id == held.id).with_for_update()
        conn.execute(lock)
        impatient.receipts([report(reports.id_of(held)), report(reports.id_of(other))], now=clock.now())
        assert reports.rows.request(other.id)["status"] == "delivered"
        assert reports.rows.request(held.id)["status"] == "sent"
        conn.rollback()

    reports.parts.expire(now=clock.now() + timedelta(seconds=11))

    assert reports.rows.request(held.id)["status"] == "delivered"


def test_report_that_postgres_refuses_takes_no_other_along(reports: Reports, ask_sent: AskSent) -> None:
    """A report that Postgres always rejects is logged and dropped."""
    request = ask_sent()
    refused = report("refused", status="a\x00b")

    with structlog.testing.capture_logs() as logs:
        new = reports.take(report("a"), refused, report(reports.id_of(request)), report("b"))

    assert new == 3
    assert reports.rows.request(request.id)["status"] == "delivered"
    assert [one["message_id"] for one in logs if one["event"] == "receipt_refused"] == ["refused"]


def test_many_reports_in_one_answer(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A response with hundreds of reports is read whole, because it is returned once."""
    provider.call("POST", "/_simulator/receipts", json={"delay_ms": 0})
    for number in numbers(80):
        ask(number)
    parts.pump.run()

    assert parts.receipts.pull(parts.infobip, now=clock.now()) == 240
    assert {row["status"] for row in rows.requests()} == {"delivered"}


def test_untracked_messages(make_parts: MakeParts, ask: Ask, rows: Rows, provider: Provider) -> None:
    """With tracking off no reports are requested, and codes are still sent."""
    request = ask()
    make_parts(OTPQUEUE_TRACK_DELIVERY="false").pump.run()

    assert rows.request(request.id)["status"] == "sent"
    assert rows.attempts(request.id)[0]["external_message_id"] is None
    assert provider.messages(NUMBER)[0]["externalMessageId"] is None


def test_calls_are_reported_too(reports: Reports, ask_sent: AskSent) -> None:
    """A call has its own id, and a report on it updates the request."""
    request = ask_sent(channel=Channel.VOICE)

    assert reports.on(request, D)["status"] == "delivered"


def test_duplicates_change_nothing(reports: Reports, ask_sent: AskSent) -> None:
    """A repeated report, in the same batch or a later one, is stored once and changes nothing."""
    request = ask_sent()
    one = report(reports.id_of(request))

    assert reports.take(one, one, one) == 1
    before = reports.rows.request(request.id)
    assert reports.take(one) == 0

    assert len(reports.kept()) == 1
    assert reports.rows.request(request.id) == before


def test_duplicates_without_a_time(reports: Reports, ask_sent: AskSent) -> None:
    """Duplicates of a report without a time are recognised too."""
    request = ask_sent()
    one = report(reports.id_of(request), done_at=None)

    assert [reports.take(one), reports.take(one)] == [1, 0]


def test_same_report_at_once(reports: Reports, ask_sent: AskSent) -> None:
    """A batch that is pushed concurrently, in any order, counts each report once."""
    ids = [reports.id_of(ask_sent(number)) for number in numbers(10)]
    batch = [report(name, delivery) for name in ids for delivery in (P, U, D)]

    new = at_once(
        [lambda order=order: reports.take(*batch[::order]) for order in (1, -1) * 4]  # type: ignore[misc]
    )

    assert sum(new) == len(batch) == len(reports.kept())
    assert {row["status"] for row in reports.rows.requests()} == {"delivered"}


def test_unknown_ids_are_no_error(reports: Reports, ask_sent: AskSent) -> None:
    """A report with an unknown message id is stored, and does not delay others of its batch."""
    request = ask_sent()

    assert reports.take(report("unknown"), report(reports.id_of(request)), report("unknown-else")) == 3

    assert reports.rows.request(request.id)["status"] == "delivered"
    assert [row["request_id"] for row in reports.kept()].count(None) == 2


def test_report_that_overtakes_the_answer(reports: Reports, ask: Ask, provider: Provider) -> None:
    """A report that arrives before its attempt is recorded is matched afterwards."""
    request = ask()
    reports.take(report("early", U, done_at=DONE), report("early", D, price=None))
    assert [row["request_id"] for row in reports.kept()] == [None, None]
    provider.fault(match={"path": "/2fa/2/pin"}, status=200, body=TRACKED)

    reports.parts.pump.run()

    row = reports.rows.request(request.id)
    assert row["status"] == "delivered"
    assert {(one["request_id"], one["attempt"]) for one in reports.kept()} == {(request.id, 1)}
    assert reports.rows.attempts(request.id)[0]["delivery"] == "delivered"


def test_unmatched_reports_are_deleted(reports: Reports, ask_sent: AskSent) -> None:
    """Unmatched reports are logged as a count and deleted after an hour. Matched ones stay."""
    now = clock.now()
    matched = report(reports.id_of(ask_sent()))
    old, young = report("unknown"), report("unknown-young")
    reports.parts.receipts([matched, old], now=now - timedelta(minutes=60, seconds=1))
    reports.parts.receipts([young], now=now - timedelta(minutes=59))

    with structlog.testing.capture_logs() as logs:
        reports.parts.expire(now=now)
        reports.parts.expire(now=now)

    assert {row["message_id"] for row in reports.kept()} == {matched.message_id, "unknown-young"}
    assert [(one["event"], one["receipts"]) for one in logs if "receipts" in one] == [
        ("receipts_unmatched", 1)
    ]


def test_final_requests_stay(reports: Reports, ask_sent: AskSent) -> None:
    """A final request does not change. The attempt stores the report."""
    cases = list(itertools.product(["verified", "failed", "expired", "locked", "cancelled"], [D, U]))
    for number, (status, delivery) in zip(numbers(len(cases)), cases, strict=True):
        request = ask_sent(number)
        reports.rows.change(request.id, status=status, finished_at=clock.now())
        before = reports.rows.request(request.id)

        assert reports.on(request, delivery) == before, (status, delivery)
        assert reports.rows.attempts(request.id)[0]["delivery"] == delivery, (status, delivery)


def test_older_message_makes_nothing_undelivered(reports: Reports, ask_sent: AskSent) -> None:
    """After a resend only a report on the newest accepted send can make the request undelivered."""
    request = ask_sent()
    reports.resend(request)

    assert reports.on(request, U, attempt=0)["status"] == "sent"
    assert reports.on(request, U, attempt=1)["status"] == "undelivered"
    assert [row["delivery"] for row in reports.rows.attempts(request.id)] == ["undelivered"] * 2


def test_older_message_can_be_delivered(reports: Reports, ask_sent: AskSent) -> None:
    """All sends carry the same code, so a delivery of any of them counts."""
    request = ask_sent()
    reports.resend(request)

    assert reports.on(request, U, attempt=1)["status"] == "undelivered"
    assert reports.on(request, D, attempt=0)["status"] == "delivered"


def test_resend_that_failed_is_not_the_newest(
    reports: Reports, ask_sent: AskSent, provider: Provider
) -> None:
    """After a refused resend, the report on the send before it counts."""
    request = ask_sent()
    provider.fault(match={"path": "/resend"}, status=400)
    reports.resend(request)

    assert reports.on(request, U, attempt=0)["status"] == "undelivered"


def test_undelivered_code_still_verifies(reports: Reports, ask_sent: AskSent, provider: Provider) -> None:
    """Reports can be wrong: an undelivered code still verifies."""
    request = ask_sent()
    reports.on(request, U)

    verified = reports.parts.verify(
        request.id, TypedCode(code=provider.code()), client_id=request.client_id, now=clock.now()
    )

    assert verified.status is Status.VERIFIED
    assert reports.on(request, D)["status"] == "verified"


def test_price_and_currency_are_kept(reports: Reports, ask_sent: AskSent) -> None:
    """The exact price of a message is stored with the attempt, from whichever report had it."""
    request = ask_sent()
    name = reports.id_of(request)

    reports.take(report(name, P, price=Decimal("0.0123"), currency="GBP"))
    reports.take(report(name, D, price=None, currency=None))

    attempt = reports.rows.attempts(request.id)[0]
    assert (attempt["price"], attempt["currency"]) == (Decimal("0.0123"), "GBP")


def test_log_of_a_delivery(reports: Reports, ask_sent: AskSent) -> None:
    """A delivery is logged once, with the request's id and no number."""
    request = ask_sent()

    with structlog.testing.capture_logs() as logs:
        reports.on(request, D, D)

    (entry,) = [entry for entry in logs if entry["event"] == "otp_delivery"]
    assert (entry["otp_id"], entry["status"]) == (str(request.id), "delivered")
    assert NUMBER[1:] not in str(logs)


def test_resend_keeps_the_delivery_of_each_send(reports: Reports, ask_sent: AskSent) -> None:
    """Each send has its own report. A batch about both updates both."""
    request = ask_sent()
    reports.resend(request)

    reports.take(report(reports.id_of(request, 0), U), report(reports.id_of(request, 1), D))

    assert [row["delivery"] for row in reports.rows.attempts(request.id)] == ["undelivered", "delivered"]
    assert reports.rows.request(request.id)["status"] == "delivered"


def test_report_that_waited_for_a_better_one(reports: Reports, ask_sent: AskSent) -> None:
    """Of two reports that are matched together the better one counts, in either order."""
    request = ask_sent()
    name = reports.id_of(request)

    with (
        connection(reports.parts.engine) as holder,
        holder.execution_options(isolation_level="READ COMMITTED").begin(),
    ):
        holder.exec_driver_sql("SELECT FROM otp_requests FOR UPDATE")
        waiting = _in_background(lambda: reports.take(report(name, U)))
        _wait_for_a_blocked_session(reports.parts)
        store.add(holder, [report(name, D)], now=clock.now())
        store.match(holder, [name], now=clock.now())
    waiting()

    assert reports.rows.request(request.id)["status"] == "delivered"
    assert reports.rows.attempts(request.id)[0]["delivery"] == "delivered"


def _in_background(call: Any) -> Any:
    threads = ThreadPoolExecutor(1)
    future = threads.submit(call)
    threads.shutdown(wait=False)
    return lambda: future.result(20)


def _wait_for_a_blocked_session(parts: Parts) -> None:
    def blocked() -> bool:
        with connection(parts.engine) as conn:
            query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            return bool(conn.exec_driver_sql(query).scalar_one())

    until(blocked)


_NUMBERS: Iterator[str] = itertools.cycle(numbers(900))

report_on = st.builds(
    lambda attempt, delivery, minutes, price: (attempt, delivery, minutes, price),
    st.sampled_from([0, 1]),
    st.sampled_from([D, U, P]),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([None, Decimal("0.01"), Decimal("0.02")]),
)


@settings(
    max_examples=12,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), said=st.lists(report_on, min_size=2, max_size=5, unique_by=lambda one: one[:3]))
def test_order_does_not_matter(
    reports: Reports,
    ask: Ask,
    data: st.DataObject,
    said: list[tuple[int, DeliveryState, int | None, Decimal]],
) -> None:
    """Reports in any order, batching or repetition lead to the same state."""
    orders = [said, data.draw(st.permutations(said + said[:2]))]
    batches = [len(said), data.draw(st.integers(1, 3))]
    ends = []
    for order, size in zip(orders, batches, strict=True):
        request = ask(next(_NUMBERS))
        reports.parts.pump.run()
        reports.resend(request)
        batch = [
            report(
                reports.id_of(request, attempt),
                delivery,
                done_at=None if minutes is None else DONE + timedelta(minutes=minutes),
                price=price,
                currency="EUR" if price else None,
            )
            for attempt, delivery, minutes, price in order
        ]
        for start in range(0, len(batch), size):
            reports.take(*batch[start : start + size])
        row = reports.rows.request(request.id)
        noted = ("delivery", "delivery_status", "delivery_error", "done_at", "price", "currency")
        attempts = reports.rows.attempts(request.id)
        ends.append((row["status"], [tuple(one[name] for name in noted) for one in attempts]))

    assert ends[0] == ends[1]
    delivered = any(delivery is D for _, delivery, *_ in said)
    undelivered = any(delivery is U for attempt, delivery, *_ in said if attempt == 1)
    assert ends[0][0] == ("delivered" if delivered else "undelivered" if undelivered else "sent")


def test_many_reports_at_once(reports: Reports, ask_sent: AskSent) -> None:
    """The largest batch that fits a body is stored, although one statement takes fewer."""
    request = ask_sent()
    batch = [report(f"m{number}") for number in range(9000)]

    assert reports.take(*batch, report(reports.id_of(request))) == 9001

    assert reports.rows.request(request.id)["status"] == "delivered"


def test_nothing_to_take(reports: Reports) -> None:
    """An empty batch is no error."""
    assert reports.take() == 0


def test_half_a_batch_is_never_kept(reports: Reports) -> None:
    """A batch is stored whole or not at all, so that the provider's retry can be stored."""

    def work(conn: Any) -> int:
        store.add(conn, [report("a"), report("b")], now=clock.now())
        raise RuntimeError("the process dies")

    with pytest.raises(RuntimeError):
        transaction(reports.parts.engine, work)

    assert reports.kept() == []
