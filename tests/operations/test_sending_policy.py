"""The sending policy: caps, the kill switch, countries, the do-not-send list."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import update

from otpqueue import clock
from otpqueue.domain.errors import (
    CountryNotAllowed,
    DailyCapReached,
    DatabaseUnavailable,
    InvalidPhoneNumber,
    InvalidRequest,
    NumberNotAllowed,
    OtpqueueError,
    SendingStopped,
)
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.settings import SettingsError
from otpqueue.store import send_counts
from otpqueue.store.engine import connection
from otpqueue.store.schema import clients
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, numbers

PARIS = "+33612345678"


def ask_of(
    parts: Parts, client_id: UUID, number: str = NUMBER, *, now: datetime | None = None, **wanted: Any
) -> OtpRequest:
    """Request a code from these parts."""
    return parts.request(
        RequestedCode(phone_number=number, **wanted), client_id=client_id, now=now or clock.now()
    )


def set_for(parts: Parts, client_id: UUID, **settings: Any) -> None:
    """Set a client's own settings."""
    with connection(parts.engine) as conn:
        conn.execute(update(clients).where(clients.c.id == client_id).values(settings=settings))


def reasons(rows: Rows) -> list[str]:
    """Return the reasons of refusals. Refusals of one kind and minute are one row."""
    return [row["reason"] for row in rows.refusals() for _ in range(row["count"])]


@pytest.mark.parametrize(
    ("setting", "reason", "message"),
    [
        ({"OTPQUEUE_DAILY_CAP": "2"}, "daily_cap", "^Daily sending cap reached"),
        ({"OTPQUEUE_DAILY_CAP_PER_CLIENT": "2"}, "daily_cap_of_client", "cap of this client reached"),
        (
            {"OTPQUEUE_DAILY_CAPS_BY_COUNTRY": '{"GB": 2}'},
            "daily_cap_of_country",
            "cap of this country reached",
        ),
        (
            {"OTPQUEUE_DAILY_CAPS_BY_COUNTRY": '{"*": 2}'},
            "daily_cap_of_country",
            "cap of this country reached",
        ),
    ],
)
def test_cap_refuses_requests(
    parts: Parts,
    make_parts: MakeParts,
    client_id: UUID,
    rows: Rows,
    provider: Provider,
    setting: dict[str, str],
    reason: str,
    message: str,
) -> None:
    """Once a cap is reached requests are refused until midnight UTC."""
    capped = make_parts(**setting)
    for number in numbers(2):
        ask_of(capped, client_id, number)
    capped.pump.run()
    now = clock.now()

    with pytest.raises(DailyCapReached, match=message) as caught:
        ask_of(capped, client_id, now=now)

    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    assert caught.value.retry_after_s is not None
    assert 0 <= caught.value.retry_after_s - (midnight - now).total_seconds() < 1
    assert reasons(rows) == [reason]
    assert ask_of(capped, client_id, now=midnight).status is Status.QUEUED
    assert len(provider.messages()) == 2


def test_cap_of_another_country_or_client_does_not_matter(
    parts: Parts, make_parts: MakeParts, client_id: UUID, provider: Provider
) -> None:
    """A cap only stops its own subject."""
    capped = make_parts(OTPQUEUE_DAILY_CAPS_BY_COUNTRY='{"FR": 0}', OTPQUEUE_DAILY_CAP_PER_CLIENT="1")
    other = parts.keys.client_id("other", now=clock.now())
    set_for(parts, other, daily_cap=0)

    ask_of(capped, client_id)
    capped.pump.run()

    with pytest.raises(DailyCapReached):
        ask_of(capped, other)
    with pytest.raises(DailyCapReached):
        ask_of(capped, client_id, PARIS)
    assert len(provider.messages()) == 1


def test_what_was_accepted_beyond_the_cap_fails_at_once(
    parts: Parts, make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """The count at acceptance is approximate. The claim is exact, and fails the request at once."""
    capped = make_parts(OTPQUEUE_DAILY_CAP="3")
    for number in numbers(10):
        ask_of(capped, client_id, number)

    capped.pump.run()

    assert len(provider.messages()) == 3
    ended = [(row["status"], row["reason"]) for row in rows.requests()]
    assert Counter(ended) == {("sent", None): 3, ("failed", "daily_cap"): 7}


def test_two_hundred_callers_and_several_workers_keep_the_cap(
    parts: Parts, make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """Exactly the cap is sent, with any number of concurrent callers and workers."""
    capped = [
        make_parts(OTPQUEUE_DAILY_CAP="37", OTPQUEUE_TUNING_DATABASE_WAIT_S="30", **NO_LIMITS)
        for _ in range(4)
    ]
    done = threading.Event()

    def pump(one: Parts) -> None:
        while not done.is_set():
            one.pump.run()
            time.sleep(0.01)

    with ThreadPoolExecutor(4) as pumps:
        running = [pumps.submit(pump, one) for one in capped]
        answers = at_once(
            [partial(ask_of, capped[n % 4], client_id, number) for n, number in enumerate(numbers(200))]
        )
        done.set()
        for one in running:
            one.result()
    # On a busy machine a pump may still hold an outcome that it could not record in time.
    for one in capped:
        one.pump.run()

    accepted = [answer for answer in answers if isinstance(answer, OtpRequest)]
    refused = [answer for answer in answers if isinstance(answer, OtpqueueError)]
    # On a busy machine a caller may time out on Postgres. That costs its code, and does not count.
    assert {type(refusal) for refusal in refused} <= {DailyCapReached, DatabaseUnavailable}
    statuses = Counter(row["status"] for row in rows.requests())
    assert len(provider.messages()) == statuses["sent"] == 37
    assert statuses["sent"] + statuses["failed"] == len(accepted) == 200 - len(refused)


def test_refused_sends_do_not_use_the_cap_up(
    parts: Parts, make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """Refused attempts do not count against the cap."""
    capped = make_parts(OTPQUEUE_DAILY_CAP="1", OTPQUEUE_TUNING_CIRCUIT_FAILURES="100")
    provider.fault(status=503, times=3)

    request = ask_of(capped, client_id)
    capped.pump.run()

    assert rows.outcomes(request.id) == ["refused", "refused", "refused", "accepted"]
    with connection(parts.engine) as conn:
        (count, *_) = send_counts.read_counts(conn, clock.now().date())
    assert count.taken == 1


def test_stop_holds_at_the_door_and_at_the_claim(
    parts: Parts, ask: Ask, ask_sent: AskSent, provider: Provider, rows: Rows, client_id: UUID
) -> None:
    """Nothing is accepted, claimed or resent during a stop. Sent codes are verified. Then sending resumes."""
    sent = ask_sent()
    rows.change(sent.id, resend_after=clock.now())
    waiting = ask(numbers(2)[1])
    now = clock.now()
    assert parts.switch.stop(country=None, client=None, reason="fraud", by="ann", now=now)
    assert not parts.switch.stop(country=None, client=None, reason=None, by="bob", now=now)

    parts.pump.run()
    with pytest.raises(SendingStopped) as caught:
        ask()
    with pytest.raises(SendingStopped):
        parts.resend(sent.id, client_id=client_id, channel=None, now=clock.now())
    verified = parts.verify(sent.id, TypedCode(code=provider.code()), client_id=client_id, now=clock.now())

    assert caught.value.retry_after_s == 60
    assert reasons(rows) == ["sending_stopped", "sending_stopped"]
    assert rows.request(waiting.id)["send_state"] == "due"
    assert verified.status is Status.VERIFIED
    assert len(provider.messages()) == 1
    (stop,) = parts.switch.status(now=now).stops
    assert (stop.what, stop.reason, stop.stopped_by) == ("everything", "fraud", "ann")

    assert parts.switch.resume(country=None, client=None, by="bob", now=clock.now())
    assert not parts.switch.resume(country=None, client=None, by="bob", now=clock.now())
    parts.pump.run()

    assert rows.request(waiting.id)["status"] == "sent"


def test_stop_of_a_country_or_a_client(
    parts: Parts, ask: Ask, rows: Rows, client_id: UUID, provider: Provider
) -> None:
    """Only they are stopped, and later requests of others are sent."""
    other = parts.keys.client_id("other", now=clock.now())
    first, second = ask_of(parts, other), ask(PARIS)
    third = ask(numbers(2)[1])
    parts.switch.stop(country="FR", client=None, reason=None, by="ann", now=clock.now())
    parts.switch.stop(country=None, client="other", reason=None, by="ann", now=clock.now())

    parts.pump.run()

    states = [rows.request(one.id)["status"] for one in (first, second, third)]
    assert states == ["queued", "queued", "sent"]
    with pytest.raises(SendingStopped):
        ask(PARIS)
    with pytest.raises(SendingStopped):
        ask_of(parts, other)
    assert ask().status is Status.QUEUED
    assert parts.health(now=clock.now()).stopped == {"country", "client"}


def test_what_waited_out_a_stop_says_so(
    parts: Parts, ask: Ask, ask_sent: AskSent, rows: Rows, client_id: UUID
) -> None:
    """A request or resend that ends because of a stop has that reason."""
    sent = ask_sent()
    rows.change(sent.id, resend_after=clock.now())
    parts.resend(sent.id, client_id=client_id, channel=None, now=clock.now())
    first = ask(numbers(2)[1])
    french = ask(PARIS)
    parts.switch.stop(country="GB", client=None, reason=None, by="ann", now=clock.now())

    parts.sweep(now=clock.now() + timedelta(seconds=91))

    assert (rows.request(first.id)["status"], rows.request(first.id)["reason"]) == (
        "expired",
        "sending_stopped",
    )
    assert rows.request(french.id)["reason"] == "send_deadline"
    assert rows.request(sent.id)["resend_reason"] == "sending_stopped"
    assert rows.request(sent.id)["status"] == "sent"


def test_stopped_workers_do_not_spin(parts: Parts, ask: Ask) -> None:
    """A request that waits for the end of a stop wakes no worker."""
    ask()
    parts.switch.stop(country=None, client=None, reason=None, by="ann", now=clock.now())

    parts.waker.clear_flag()
    swept = parts.sweep(now=clock.now())

    assert not swept.woke


@pytest.mark.parametrize(
    "narrowed",
    [
        {"country": "XX", "client": None},
        {"country": None, "client": "unknown"},
        {"country": "GB", "client": "test"},
    ],
)
def test_stop_of_what_does_not_exist(parts: Parts, client_id: UUID, narrowed: dict[str, Any]) -> None:
    """A stop of an unknown subject is an error, and stops nothing."""
    with pytest.raises(InvalidRequest):
        parts.switch.stop(reason=None, by="ann", now=clock.now(), **narrowed)

    assert parts.switch.status(now=clock.now()).stops == ()


def test_countries_and_languages_at_the_door(
    parts: Parts, make_parts: MakeParts, client_id: UUID, rows: Rows
) -> None:
    """Both the deployment's and the client's lists apply. An invalid language is the caller's error."""
    narrow = make_parts(OTPQUEUE_COUNTRIES_ALLOWED="GB,FR", OTPQUEUE_COUNTRIES_BLOCKED="FR")
    set_for(parts, client_id, languages=["de"])

    with pytest.raises(CountryNotAllowed):
        ask_of(narrow, client_id, PARIS)
    with pytest.raises(CountryNotAllowed):
        ask_of(narrow, client_id, "+883510000000093")
    with pytest.raises(InvalidRequest):
        ask_of(narrow, client_id, language="en")

    assert ask_of(narrow, client_id, language="de").status is Status.QUEUED
    assert reasons(rows) == ["country_not_allowed", "country_not_allowed"]


def test_blocked_number(parts: Parts, ask: Ask, rows: Rows, provider: Provider) -> None:
    """No request for it is accepted, in any spelling, until it is unblocked or the entry ends."""
    now = clock.now()
    parts.blocklist.block(NUMBER, reason="asked us to", until=now + timedelta(hours=1), now=now)

    with pytest.raises(NumberNotAllowed) as caught:
        ask("07700 900123", country="GB")
    with pytest.raises(InvalidPhoneNumber):
        parts.blocklist.block("07700", reason=None, until=None, now=now)
    for reason in (f"asked by {NUMBER}", "the one that ends ***23", "#bcdfgh", "two\nlines"):
        with pytest.raises(InvalidRequest):
            parts.blocklist.block(NUMBER, reason=reason, until=None, now=now)

    assert str(caught.value) == NumberNotAllowed.message()
    assert reasons(rows) == ["do_not_send"]
    (listed,) = parts.blocklist.list(now=now)
    assert (listed.phone_number, listed.reason) == ("+44********23", "asked us to")
    assert parts.blocklist.list(now=now + timedelta(hours=1)) == []
    later = parts.request(
        RequestedCode(phone_number=NUMBER),
        client_id=rows.refusals()[0]["client_id"],
        now=now + timedelta(hours=1),
    )
    assert later.status is Status.QUEUED
    assert [removed for _, removed in (parts.blocklist.unblock(NUMBER), parts.blocklist.unblock(NUMBER))] == [
        True,
        False,
    ]


def test_argentine_number_is_blocked_in_both_its_forms(parts: Parts, ask: Ask) -> None:
    """Blocking one form of a handset's number blocks the other."""
    parts.blocklist.block("+5491123456789", reason=None, until=None, now=clock.now())

    with pytest.raises(NumberNotAllowed):
        ask("+541123456789")


def test_number_blocked_after_acceptance_is_not_sent_to(
    parts: Parts, ask: Ask, ask_sent: AskSent, rows: Rows, provider: Provider, client_id: UUID
) -> None:
    """An accepted request ends. So does a resend, but its code stays valid."""
    sent = ask_sent(numbers(2)[1])
    rows.change(sent.id, resend_after=clock.now())
    parts.resend(sent.id, client_id=client_id, channel=None, now=clock.now())
    waiting, other = ask(), ask(PARIS)
    for number in (NUMBER, numbers(2)[1]):
        parts.blocklist.block(number, reason=None, until=None, now=clock.now())

    parts.pump.run()

    row, resent = rows.request(waiting.id), rows.request(sent.id)
    assert (row["status"], row["reason"]) == ("failed", "number_not_allowed")
    assert (resent["status"], resent["resend"], resent["resend_reason"]) == (
        "sent",
        "failed",
        "number_not_allowed",
    )
    assert rows.request(other.id)["status"] == "sent"
    assert provider.messages(NUMBER) == []
    rows.change(sent.id, resend_after=clock.now())
    with pytest.raises(NumberNotAllowed):
        parts.resend(sent.id, client_id=client_id, channel=None, now=clock.now())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("OTPQUEUE_DAILY_CAPS_BY_COUNTRY", '{"UK": 1}', "'UK' is not a country"),
        ("OTPQUEUE_COUNTRIES_ALLOWED", "GB,UK", "'UK' is not a country"),
        ("OTPQUEUE_COUNTRIES_BLOCKED", "gb", "'gb' is not a country"),
        ("OTPQUEUE_REFUSED_LINES", "satellite", "'satellite' is not a line type"),
    ],
)
def test_unknown_words_are_refused_at_the_start(
    make_parts: MakeParts, name: str, value: str, said: str
) -> None:
    """A list with an invalid entry is rejected at start."""
    with pytest.raises(SettingsError, match=f"{name}: {said}"):
        make_parts(**{name: value})


def test_refused_lines_may_be_none(make_parts: MakeParts) -> None:
    """`none` refuses no line type."""
    assert make_parts(OTPQUEUE_REFUSED_LINES="none").number_policy.lines_refused == frozenset()
