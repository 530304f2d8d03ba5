"""Events of all parts are counted once, and stay counted after an erasure or a purge."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.domain.errors import (
    CodeIncorrect,
    DatabaseUnavailable,
    FieldError,
    InvalidRequest,
    LimitExceeded,
    NumberNotAllowed,
    SendingStopped,
)
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.request import OtpRequest
from otpqueue.domain.stats import Dimension, Metric
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.stats.roll_up import RollUp
from otpqueue.operations.verify import TypedCode
from otpqueue.store import do_not_send
from otpqueue.store.engine import connection, make_engine
from otpqueue.store.schema import stats_hours, stats_minutes
from otpqueue.store.stats import roll_up
from otpqueue.wiring import Parts
from tests.api.conftest import wrong
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.looking import Rows
from tests.operations.test_fixed_codes import CODE, REVIEWER, listed
from tests.store.recounting import Counts, by_hour, counted, recount


def sums(parts: Parts) -> Counts:
    """Roll up everything and return the sums of minutes, which equal those of hours."""
    parts.roll_up()
    with connection(parts.engine) as conn:
        minutes = counted(conn, stats_minutes)
        assert counted(conn, stats_hours) == by_hour(minutes)
    return minutes


def live(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """Send a code at the second attempt, report it, verify it wrong and right, and hit a rate limit."""
    provider.fault(match={"path": "/2fa/2/pin"}, status=503, times=1)
    request = ask()
    parts.pump.run()
    message = rows.attempts(request.id)[-1]["external_message_id"]
    for delivery, price in ((DeliveryState.UNDELIVERED, None), (DeliveryState.DELIVERED, Decimal("0.0123"))):
        report = Receipt(
            message_id=message,
            delivery=delivery,
            status=delivery.upper(),
            error=None,
            done_at=clock.now(),
            price=price,
            currency="EUR",
        )
        parts.receipts([report], now=clock.now())
    right = provider.code()
    with pytest.raises(CodeIncorrect):
        check(parts, request, wrong(right))
    check(parts, request, right)
    ask()
    ask()
    for _ in range(4):
        with pytest.raises(LimitExceeded):
            ask()


def check(parts: Parts, request: OtpRequest, code: str) -> None:
    """Verify a code."""
    parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


def test_life_is_counted_and_stays_counted(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """Sums equal a recount of the rows, and do not change when the rows are erased or purged."""
    live(parts, ask, provider, rows)
    with connection(parts.engine) as conn:
        expected = recount(conn)

    report = parts.stats(window=timedelta(minutes=5), now=clock.now())
    assert report.waiting_since is not None
    assert sums(parts) == expected
    parts.erase(NUMBER, country=None, client_id=None, now=clock.now())
    assert rows.requests() == rows.refusals() == []
    assert sums(parts).items() >= expected.items()

    report = parts.stats(window=timedelta(minutes=5), by=[Dimension.COUNTRY], now=clock.now())
    (group,) = report.groups
    assert group.key == ("GB",)
    assert report.waiting_since is None
    for tally in (report.all, group.tally):
        assert tally.count_by_label(Metric.REFUSED) == {"limit_number_15m": 4}
        assert tally.count_by_label(Metric.ATTEMPTS) == {"accepted": 1, "refused": 1}
        assert tally.count_by_label(Metric.PROVIDER_SENDS) == {"200": 1, "503": 1}
        assert tally.count_by_label(Metric.CANCELLED) == {"replaced": 1, "erased": 1}
        assert (tally.success_share, tally.delivered_share, tally.wrong_share) == (1, 1, 0.5)
        assert tally.cost_per_verified == {"EUR": Decimal("0.0123")}


def test_purging_requests_leaves_their_counts(parts: Parts, ask: Ask, rows: Rows) -> None:
    """The requests of a month ago are purged. Their statistics have their own retention."""
    request = ask()
    counts = sums(parts)
    ended = clock.now() - timedelta(days=31)
    rows.change(request.id, status="expired", send_state="idle", next_attempt_at=None, finished_at=ended)

    with connection(parts.engine) as conn:
        # Without the event of the end that was set to a month ago.
        conn.execute(text("DELETE FROM stat_events"))
    parts.purge(now=clock.now())

    assert rows.requests() == []
    assert sums(parts) == counts


def test_old_statistics_are_purged(parts: Parts) -> None:
    """Minutes are kept for a week, hours as long as requests."""
    now = clock.now()
    for days in (0, 6, 8, 29, 31):
        put(parts, at=now - timedelta(days=days))
    parts.roll_up()

    deleted = parts.purge(now=now)

    assert (deleted["stats_minutes"], deleted["stats_hours"]) == (3, 1)


def put(parts: Parts, *, at: datetime, country: str = "GB") -> None:
    """Add an event to the outbox."""
    with connection(parts.engine) as conn:
        conn.execute(
            text(
                "INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)"
                " VALUES (:at, gen_random_uuid(), :country, 'sms', 'requested', '', 1, 0)"
            ),
            {"at": at.replace(second=0, microsecond=0), "country": country},
        )


def test_test_numbers_are_left_out(parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """Neither a test number's request nor its refused attempts are counted."""
    testing = make_parts(OTPQUEUE_TEST_NUMBERS=listed(), OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")
    wanted = RequestedCode(phone_number=REVIEWER)
    request = testing.request(wanted, client_id=client_id, now=clock.now())
    testing.pump.run()
    check(testing, request, CODE)
    testing.switch.stop(country=None, client=None, reason=None, by="ann", now=clock.now())
    with pytest.raises(SendingStopped):
        testing.request(wanted, client_id=client_id, now=clock.now())

    assert sums(testing) == {}


def test_refusals_of_documentation_numbers_have_their_country(
    make_parts: MakeParts, parts: Parts, client_id: UUID
) -> None:
    """An unassigned number is refused first, and counted for its country."""
    strict = make_parts(OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")
    with pytest.raises(NumberNotAllowed):
        strict.request(RequestedCode(phone_number="+12025550123"), client_id=client_id, now=clock.now())

    (((_, client, country, channel, metric, label), (n, _)),) = sums(strict).items()
    assert (client, country, channel) == (str(client_id), "US", "none")
    assert (metric, label, n) == ("refused", "documentation_number", 1)


def test_backlog_is_postponed(parts: Parts) -> None:
    """A call that runs out of time logs so, and the next one continues."""
    for _ in range(5):
        put(parts, at=clock.now())
    hasty = RollUp(engine=parts.engine, batch=2, budget=timedelta(0))

    with capture_logs() as logged:
        done = [hasty(), hasty(), hasty(), hasty()]

    assert done == [2, 2, 1, 0]
    assert logged == [{"event": "roll_up_put_off", "events": 2, "log_level": "warning"}] * 2


def test_statistics_and_the_do_not_send_list_do_not_wait_for_each_other(parts: Parts, ask: Ask) -> None:
    """Rolling up, blocking a number and rotating the hashes of the list do not deadlock."""
    ask()
    isolated = parts.engine.execution_options(isolation_level="READ COMMITTED")
    with isolated.connect() as conn, conn.begin():
        do_not_send.lock_list(conn)
        rolled_up = parts.roll_up()
    with isolated.connect() as conn, conn.begin():
        assert roll_up.try_lock_roll_up(conn)
        parts.blocklist.block(NUMBER, reason=None, until=None, now=clock.now())

    assert rolled_up == 1


def test_database_that_is_away(closed_port: int) -> None:
    """A roll-up without a database raises DatabaseUnavailable."""
    engine = make_engine(f"postgresql://x@127.0.0.1:{closed_port}/x", pool_size=1)
    with pytest.raises(DatabaseUnavailable):
        RollUp(engine=engine)()
    engine.dispose()


def test_windows(parts: Parts) -> None:
    """A window is whole steps and the running one: minutes up to six hours, then hours."""
    now = datetime(2026, 3, 1, 12, 34, 20, tzinfo=UTC)
    for at in (now, now - timedelta(minutes=59), now - timedelta(minutes=60), now - timedelta(hours=24)):
        put(parts, at=at)
    parts.roll_up()

    def window_of(**window: float) -> tuple[str, str, int, int]:
        report = parts.stats(window=timedelta(**window), now=now)
        seconds = int(report.step.total_seconds())
        return (
            f"{report.since:%d %H:%M}",
            f"{report.until:%d %H:%M}",
            seconds,
            report.all.count(Metric.REQUESTED),
        )

    assert window_of(minutes=1) == ("01 12:33", "01 12:35", 60, 1)
    assert window_of(hours=1) == ("01 11:34", "01 12:35", 60, 3)
    assert window_of(hours=6) == ("01 06:34", "01 12:35", 60, 3)
    assert window_of(minutes=361) == ("01 05:00", "01 13:00", 3600, 3)
    assert window_of(hours=24) == ("28 12:00", "01 13:00", 3600, 4)
    assert window_of(days=30) == ("30 12:00", "01 13:00", 3600, 4)


@pytest.mark.parametrize("window", [timedelta(0), timedelta(seconds=59), timedelta(days=30, seconds=1)])
def test_window_that_is_not_kept(parts: Parts, window: timedelta) -> None:
    """A window longer than the retention is refused instead of reported as empty."""
    with pytest.raises(InvalidRequest) as refused:
        parts.stats(window=window, now=clock.now())

    assert refused.value.errors == [FieldError("window", "must be 1m to 30d")]


def test_groups_are_bounded(parts: Parts) -> None:
    """Only the groups with the most requests are reported, with the number of the others."""
    for country in ("GB", "US", "US", "FR", "FR", "FR", "DE"):
        put(parts, at=clock.now(), country=country)
    parts.roll_up()

    read = replace(parts.stats, groups_at_most=2)
    report = read(window=timedelta(hours=1), by=[Dimension.COUNTRY], now=clock.now())

    assert [group.key for group in report.groups] == [("FR",), ("US",)]
    assert report.left_out == 2
    assert report.all.count(Metric.REQUESTED) == 7
