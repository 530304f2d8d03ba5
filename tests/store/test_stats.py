"""Statistics: what happens is counted once, whatever is killed and whatever turns out otherwise later."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from random import Random
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, select, text

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import Channel, Reason
from otpqueue.domain.sending import LEASE_RAN_OUT, OutcomeKind
from otpqueue.domain.stats import BOUNDS_MS, ExpiredStage, Metric, get_bucket
from otpqueue.operations.stats.roll_up import RollUp
from otpqueue.store import attempts, checks, clients, expiring, receipts, refusals, requests
from otpqueue.store.engine import transaction
from otpqueue.store.schema import stat_events, stats_hours, stats_minutes
from otpqueue.store.stats import roll_up
from tests.store.conftest import NOW, SENT, Store, a_result, accepted, again, later
from tests.store.lives import Life, a_report
from tests.store.recounting import Counts, by_hour, counted, recount

NUMBERS: tuple[Callable[[int], str], ...] = (
    lambda n: f"+447700900{n % 1000:03}",
    lambda n: f"+1202555{100 + n % 100:04}",
    lambda n: f"+8001234{n % 10_000:04}",
)
"""Of Great Britain, of the United States, of no one country."""

WORDS = {
    *("", "inf", "none", "EUR", "USD", "number_15m", "premium_rate_number"),
    *(word.value for words in (OutcomeKind, CheckVerdict, Reason, ExpiredStage) for word in words),
}
"""The labels that are no figures."""

TOLD_OFF = {"attempts", "checks", "delivered", "undelivered"}
"""Of what turns out otherwise later."""


def add_up(store: Store, **differing: Any) -> int:
    """Add everything up."""
    return RollUp(engine=store.engine, **differing)()


def said(store: Store) -> dict[tuple[str, str], int]:
    """Add everything up and return how often each metric and label was counted, whenever that was."""
    add_up(store)
    found: dict[tuple[str, str], int] = {}
    for (*_, metric, label), (n, _) in counted(store.conn, stats_minutes).items():
        found[metric, label] = found.get((metric, label), 0) + n
    return {key: n for key, n in found.items() if n}


def waiting(store: Store) -> int:
    """Return how many events are not added up yet."""
    return len(store.conn.execute(select(stat_events.c.id)).all())


class CountedLife(Life):
    """A request of any client, country and channel, with prices and refusals, added up at any moment."""

    def __init__(self, store: Store, random: Random, number: int, told_off: set[str]) -> None:
        """Note in `told_off` what was counted off."""
        self.told_off = told_off
        super().__init__(store, random, number)

    def wanted(self) -> dict[str, Any]:
        """Return a way to travel; some go to test numbers."""
        return {"channel": self.random.choice(list(Channel)), "is_test": self.random.random() < 0.1}

    def ask(self) -> None:
        """Ask for a code; some tries are refused."""
        if not self.ids:
            self.phone_number = self.random.choice(NUMBERS)(self.random.randrange(10_000))
        self.refuse()
        super().ask()

    def refuse(self) -> None:
        """Refuse some tries, alike ones and others."""
        while self.random.random() < 0.3:
            refusals.add(
                self.store.conn,
                client_id=self.store.client_id,
                reason=self.random.choice(["number_15m", "premium_rate_number"]),
                number_hash=self.phone_number.encode(),
                client_ip_hash=None,
                country=self.random.choice(["GB", None]),
                is_test=self.random.random() < 0.1,
                now=self.now,
            )

    def a_report(self, message_id: str) -> Receipt:
        """Return a report, early or late, often with a price."""
        done_at = self.now - timedelta(seconds=self.random.choice([-1, 0, 5, 90, 4000]))
        return replace(
            a_report(message_id, self.random.choice(list(DeliveryState))),
            status=self.random.choice(["A", "B", "C"]),
            done_at=self.random.choice([None, done_at]),
            price=self.random.choice([None, Decimal("0.05"), Decimal("0.0123")]),
            currency=self.random.choice(["EUR", "USD", None]),
        )

    def report(self) -> None:
        """Report, and sometimes go on in another minute."""
        super().report()
        if self.random.random() < 0.3:
            self.now += timedelta(seconds=self.random.choice([45, 3600]))
        self.add_up()

    def claim(self) -> None:
        """Claim, sometimes for so short a time that the outcome is late."""
        super().claim()
        if self.random.random() < 0.3:
            self.sweep()
            self.now += timedelta(seconds=self.random.choice([1, 61]))
            self.answer()

    def check(self) -> None:
        """Check, sometimes so slowly that the check is given up before it is judged, and add up."""
        super().check()
        if self.random.random() < 0.3:
            checks.sweep(self.store.conn, now=self.now, limit=100)
            self.now += timedelta(seconds=self.random.choice([1, 61]))
            self.judge()
        self.add_up()

    def add_up(self) -> None:
        """Add a few events up, or nearly."""
        off = text("SELECT metric FROM stat_events WHERE n < 0")
        self.told_off |= set(self.store.conn.execute(off).scalars())
        with suppress(_Crash):
            transaction(self.store.engine, self._work)

    def _work(self, conn: Connection) -> None:
        assert roll_up.try_lock_roll_up(conn)
        after = 0
        for _ in range(self.random.randrange(3)):
            batch = roll_up.roll_up(conn, after=after, limit=self.random.choice([1, 2, 5]))
            after = batch.last or after
        if self.random.random() < 0.3:
            raise _Crash


class _Crash(Exception):
    """The process died before its transaction was over."""


def test_roll_ups_equal_a_recount(store: Store) -> None:
    """After a random run, with crashes, sums are what a recount of the rows says, minute by minute.

    Over a few runs every counted event occurs, including those of test numbers and subtracted ones.
    """
    other = replace(store, client_id=clients.ensure_client(store.conn, "other", now=NOW))
    random, tested = Random(7), 0
    told_off: set[str] = set()
    for number in range(400):
        if number >= 60 and tested and told_off >= TOLD_OFF:
            break
        life = CountedLife(random.choice([store, other]), random, number % 50, told_off)
        life.live()
        tested += store.row(life.ids[0])["is_test"]
    add_up(store)

    expected = recount(store.conn)
    assert counted(store.conn, stats_minutes) == expected
    assert counted(store.conn, stats_hours) == by_hour(expected)
    assert {metric for _, _, _, _, metric, _ in expected} == {metric.value for metric in Metric}
    assert waiting(store) == 0
    assert told_off >= TOLD_OFF
    assert tested
    _about_nobody(expected)


def _about_nobody(counts: Counts) -> None:
    for _, _, country, channel, _, label in counts:
        assert country in {"GB", "US", "ZZ"}
        assert channel in {"sms", "voice", "none"}
        assert label.isdecimal() or label in WORDS


def test_killed_between_taking_and_adding(store: Store) -> None:
    """A roll-up that is interrupted between taking and adding events changes nothing."""
    store.insert_sent()
    add_up(store)
    store.insert_sent("+447700900124")
    before, events = counted(store.conn, stats_minutes), waiting(store)
    assert events

    isolated = store.engine.execution_options(isolation_level="READ COMMITTED")
    with ThreadPoolExecutor(1) as thread, isolated.connect() as blocker:
        blocker.execute(text("SELECT FROM stats_hours FOR UPDATE"))
        rolling = thread.submit(add_up, store)
        pid = _held_up_by_a_lock(store)
        store.conn.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
        with pytest.raises(DatabaseUnavailable):
            rolling.result(timeout=30)
        blocker.rollback()

    assert counted(store.conn, stats_minutes) == before
    assert waiting(store) == events
    add_up(store)
    assert counted(store.conn, stats_minutes) == recount(store.conn)


def _held_up_by_a_lock(store: Store) -> int:
    """Wait until a roll-up waits for a row, and return its session."""
    query = text(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        " AND query LIKE '%DELETE FROM stat_events%'"
    )
    end = time.monotonic() + 30
    while time.monotonic() < end:
        pid: int | None = store.conn.execute(query).scalar_one_or_none()
        if pid:
            return pid
        time.sleep(0.01)
    raise AssertionError("the roll-up was not held up")


def test_many_at_once_count_once(store: Store) -> None:
    """Roll-ups that run beside each other, and beside what happens, add each event up once."""
    with ThreadPoolExecutor(4) as threads:
        rolling = [threads.submit(_again_and_again, store) for _ in range(3)]
        for number in range(60):
            store.insert_sent(NUMBERS[number % 3](number))
        store.conn.execute(text("CREATE TABLE stop_adding_up ()"))
        done = [one.result(timeout=60) for one in rolling]
    store.conn.execute(text("DROP TABLE stop_adding_up"))

    assert sum(done) + add_up(store) == 3 * 60
    assert counted(store.conn, stats_minutes) == recount(store.conn)


def _again_and_again(store: Store) -> int:
    events = 0
    with store.engine.connect() as conn:
        while conn.execute(text("SELECT to_regclass('stop_adding_up')")).scalar_one() is None:
            events += add_up(store, batch=2)
    return events


def test_only_one_has_the_turn(store: Store) -> None:
    """A concurrent roll-up does nothing."""
    store.insert()
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn:
        assert roll_up.try_lock_roll_up(conn)
        assert add_up(store) == 0
        conn.rollback()

    assert add_up(store) == 1


def test_backlog_is_added_up_bit_by_bit(store: Store) -> None:
    """A roll-up stops at its time limit, and the next one continues."""
    store.insert_many(25)

    first = add_up(store, batch=10, budget=timedelta(0))
    others = add_up(store, batch=10)

    assert (first, others, waiting(store)) == (10, 15, 0)
    assert said(store) == {("requested", ""): 25}


def test_erasing_and_purging_change_nothing(store: Store) -> None:
    """What was counted stays, and what is not added up yet still is, when the rows are gone."""
    for number in range(3):
        request = store.insert_sent(NUMBERS[0](number))
        store.check(request, CheckVerdict.WRONG)
    expected = recount(store.conn)
    add_up(store, batch=2, budget=timedelta(0))
    store.conn.execute(text("DELETE FROM otp_requests"))
    add_up(store)

    assert counted(store.conn, stats_minutes) == expected


def test_test_numbers_are_not_counted(store: Store) -> None:
    """A test number's request, its attempt, report, check and refusal leave no event."""
    request = store.insert(is_test=True)
    (claim,) = store.claim()
    assert store.record(claim, replace(accepted(), external_message_id="m"), SENT)
    receipts.add(store.conn, [a_report("m", DeliveryState.DELIVERED)], now=NOW)
    receipts.match(store.conn, ["m"], now=NOW)
    store.check(request, CheckVerdict.CORRECT)
    refuse(store, is_test=True)

    assert waiting(store) == 0


def refuse(store: Store, *, times: int = 1, **differing: Any) -> None:
    """Refuse tries of one number."""
    given: dict[str, Any] = {"reason": "number_15m", "number_hash": b"n", "country": "GB", "now": NOW}
    for _ in range(times):
        refusals.add(store.conn, client_id=store.client_id, client_ip_hash=None, **(given | differing))


def test_refusals_that_share_a_row_are_counted_each(store: Store) -> None:
    """A flood is one row a minute, and each try of it one refusal."""
    refuse(store, times=4)
    add_up(store)
    refuse(store, times=3)
    refuse(store, reason="number_day")
    refuse(store, now=later(60))

    assert said(store) == {("refused", "number_15m"): 8, ("refused", "number_day"): 1}
    assert counted(store.conn, stats_minutes) == recount(store.conn)


def test_refusal_with_a_replaced_hash_is_not_counted_again(store: Store) -> None:
    """Rotating the look-up key changes the row, but not its count."""
    refuse(store, times=2)
    store.conn.execute(text("UPDATE refusals SET number_hash = 'other', minute = NULL"))

    assert said(store) == {("refused", "number_15m"): 2}


def test_late_outcome_is_counted_in_place_of_the_lease(store: Store) -> None:
    """An attempt that counted as unknown and was accepted after all counts as accepted, in its own minute."""
    request = store.insert()
    (claim,) = store.claim()
    assert store.record(claim, LEASE_RAN_OUT, again(30), now=later(30))
    assert said(store)[("attempts", "unknown")] == 1
    assert store.record(claim, accepted(), SENT, now=later(70))

    assert said(store) == {
        ("requested", ""): 1,
        ("attempts", "accepted"): 1,
        ("provider_sends", "200"): 1,
        ("sent", ""): 1,
        ("accept_to_sent", "90000"): 1,
    }
    assert counted(store.conn, stats_minutes) == recount(store.conn)
    assert store.row(request.id)["status"] == "sent"


def test_late_judgement_is_counted_in_place_of_the_lease(store: Store) -> None:
    """A check that counted as unknown and was judged after all counts as judged."""
    request = store.insert_sent()
    check = store.begin(request, lease_s=0.0)
    assert check
    checks.sweep(store.conn, now=later(20), limit=10)
    assert said(store)[("checks", "unknown")] == 1
    store.judge(check, CheckVerdict.CORRECT, now=later(70))

    found = {key: n for key, n in said(store).items() if "check" in key[0]}
    assert found == {("checks", "correct"): 1, ("provider_checks", "200"): 1}
    assert counted(store.conn, stats_minutes) == recount(store.conn)


def test_code_that_arrives_after_all_is_counted_as_delivered(store: Store) -> None:
    """An attempt counts once, by the best report on it and in the minute in which that came."""
    store.insert()
    (claim,) = store.claim()
    assert store.record(claim, replace(accepted(), external_message_id="m"), SENT)
    for minute, delivery, price in (
        (1, DeliveryState.PENDING, None),
        (2, DeliveryState.UNDELIVERED, Decimal("0.05")),
        (3, DeliveryState.DELIVERED, Decimal("0.06")),
        (4, DeliveryState.DELIVERED, Decimal("0.06")),
        (5, DeliveryState.UNDELIVERED, None),
    ):
        report = replace(a_report("m", delivery), done_at=later(7), price=price, currency="EUR")
        receipts.add(store.conn, [report], now=later(60 * minute))
        receipts.match(store.conn, ["m"], now=later(60 * minute))
        receipts.match(store.conn, ["m"], now=later(60 * minute + 30))
        add_up(store)

    found = {
        (metric, label): (at, n, total)
        for (at, *_, metric, label), (n, total) in counted(store.conn, stats_minutes).items()
    }
    assert found[("delivered", "")] == (later(180), 1, 0)
    assert ("undelivered", "") not in found
    assert found[("sent_to_delivered", "7500")] == (later(180), 1, 7000)
    assert found[("cost", "EUR")] == (NOW, 1, Decimal("0.06"))
    assert counted(store.conn, stats_minutes) == recount(store.conn)


def test_late_report_is_added_to_what_was_added_up_long_ago(store: Store) -> None:
    """A report that comes hours later makes its own minute, and its price belongs to that of the send."""
    store.insert()
    (claim,) = store.claim()
    assert store.record(claim, replace(accepted(), external_message_id="m"), SENT)
    add_up(store)
    report = replace(a_report("m", DeliveryState.DELIVERED), price=Decimal("0.04"), currency="EUR")
    receipts.add(store.conn, [report], now=later(9 * 3600))
    receipts.match(store.conn, ["m"], now=later(9 * 3600))
    add_up(store)

    found = counted(store.conn, stats_hours)
    assert {(at, metric) for at, _, _, _, metric, _ in found if metric in {"cost", "delivered"}} == {
        (NOW, "cost"),
        (later(9 * 3600), "delivered"),
    }


def test_alike_attempts_of_one_statement_are_one_event(store: Store) -> None:
    """Sixty codes that are recorded together make few events."""
    store.insert_many(60)
    add_up(store)
    claims = store.claim()
    attempts.record(store.conn, [a_result(claim, accepted(), SENT) for claim in claims])

    numbers = store.conn.execute(text("SELECT n FROM stat_events WHERE metric = 'attempts'")).scalars().all()
    assert numbers == [60]


def test_ends_are_distinguished(store: Store) -> None:
    """Codes that were not sent, not entered, and entered wrong expire with different reasons."""
    store.insert()
    expiring.expire_unsent(store.conn, now=later(90), limit=10)
    store.insert_sent("+447700900124")
    store.check(store.insert_sent("+447700900125"), CheckVerdict.WRONG)
    expiring.expire_codes(store.conn, now=later(300), limit=10)

    found = said(store)
    assert {label: n for (metric, label), n in found.items() if metric == "expired"} == {
        "send_deadline": 1,
        "unchecked": 1,
        "checked": 1,
    }


def test_statement_of_anybody_is_counted(store: Store) -> None:
    """A statement typed by hand is counted too, with the times that there are."""
    store.insert()
    store.conn.execute(text("UPDATE otp_requests SET status = 'failed', reason = 'outcome_unknown'"))

    assert said(store) == {("requested", ""): 1, ("failed", "outcome_unknown"): 1}


def test_event_that_is_rolled_back_was_none(store: Store) -> None:
    """What is counted is written with what happened, or not at all."""
    request = store.insert()
    with store.engine.connect().execution_options(isolation_level="READ COMMITTED") as conn:
        requests.cancel(conn, request.id, client_id=store.client_id, now=NOW)
        conn.rollback()

    assert said(store) == {("requested", ""): 1}


def test_postgres_and_python_have_the_same_buckets(conn: Connection) -> None:
    """Both put every duration at, under and over every bound into the same bucket."""
    edges = [0, *(bound + step for bound in BOUNDS_MS for step in (-1, 0, 1)), 10**9]
    query = text(
        "SELECT stat_bucket(ms) FROM unnest(CAST(:ms AS bigint[])) WITH ORDINALITY t (ms, n) ORDER BY n"
    )

    assert conn.execute(query, {"ms": edges}).scalars().all() == [get_bucket(ms) for ms in edges]


def test_outbox_that_is_broken_breaks_what_happens(store: Store) -> None:
    """Nothing happens uncounted: without its event a request is not accepted."""
    store.conn.execute(text("ALTER TABLE stat_events ADD CONSTRAINT broken CHECK (n > 9) NOT VALID"))
    with pytest.raises(psycopg.errors.CheckViolation):
        store.insert()
    store.conn.execute(text("ALTER TABLE stat_events DROP CONSTRAINT broken"))

    assert store.conn.execute(text("SELECT count(*) FROM otp_requests")).scalar_one() == 0
