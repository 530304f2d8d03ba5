"""Rate limits of requests: scopes, all or nothing, and behaviour while Redis is stopped or hung."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import DatabaseUnavailable, LimitExceeded, LimitsUnavailable, OtpqueueError
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.embedded import Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Left, Rows, at_once, numbers
from tests.operations.test_limiter import grow_older

AskAs = Callable[..., OtpRequest]


@pytest.fixture
def other_client(parts: Parts) -> UUID:
    """Return another client."""
    with connection(parts.engine) as conn:
        return clients.ensure_client(conn, "other", now=clock.now())


def ask_of(parts: Parts, client_id: UUID, number: str = NUMBER, **wanted: object) -> OtpRequest:
    """Request a code."""
    wish = RequestedCode(phone_number=number, **wanted)  # type: ignore[arg-type]
    return parts.request(wish, client_id=client_id, now=clock.now())


def refusal(ask: Callable[[], object]) -> LimitExceeded:
    """Return the refusal of a request."""
    with pytest.raises(LimitExceeded) as refused:
        ask()
    return refused.value


def test_three_requests_for_a_number(ask: Ask, rows: Rows) -> None:
    """The fourth request for one number within 15 minutes is refused until a given time."""
    left = Left()
    for _ in range(3):
        ask()

    refused = refusal(ask)

    assert (refused.limit, refused.reason) == ("number_15m", "limit_number_15m")
    assert refused.retry_after_s in left.of(900)
    assert refused.detail.startswith("At most 3 in 15 minutes: requests for one phone number. Try again in")
    assert len(rows.requests()) == 3
    assert [(row["reason"], row["count"]) for row in rows.refusals()] == [("limit_number_15m", 1)]


def test_two_hundred_ask_at_once(ask: Ask, rows: Rows) -> None:
    """Of 200 concurrent requests for one number exactly three are accepted."""
    answers = at_once([ask] * 200)

    accepted = [one for one in answers if isinstance(one, OtpRequest)]
    # A call may find no connection in time. Then nothing is stored, and the count is reverted.
    others = [one for one in answers if not isinstance(one, OtpRequest)]
    assert {type(one) for one in others} <= {LimitExceeded, DatabaseUnavailable}
    assert len(accepted) == len(rows.requests()) == 3
    assert sum(row["count"] for row in rows.refusals()) <= 197


def test_other_numbers_and_clients_have_counts_of_their_own(
    parts: Parts, ask: Ask, other_client: UUID
) -> None:
    """One client's requests for a number do not count for another number, nor for another client."""
    for _ in range(3):
        ask()

    ask(numbers(1)[0])
    ask_of(parts, other_client)

    assert refusal(ask).limit == "number_15m"


def test_ten_codes_a_day(parts: Parts, ask: Ask) -> None:
    """At most ten codes a day to one number, at any times."""
    left = Left()
    for _ in range(10):
        ask()
        grow_older(parts.redis, 900)

    refused = refusal(ask)

    assert refused.limit == "number_day"
    assert refused.retry_after_s in left.of(86400 - 9000)


def test_twenty_codes_a_day_over_all_clients(parts: Parts, make_parts: MakeParts) -> None:
    """A person gets at most twenty codes a day from all clients, and at most half of them from one."""
    with connection(parts.engine) as conn:
        askers = [clients.ensure_client(conn, f"client {number}", now=clock.now()) for number in range(8)]
    for asker in askers[:6]:
        for _ in range(3):
            ask_of(parts, asker)
    for _ in range(2):
        ask_of(parts, askers[6])

    assert refusal(partial(ask_of, parts, askers[7])).limit == "number_day_all"


def test_addresses(parts: Parts, ask: Ask, other_client: UUID) -> None:
    """Ten requests from one address, for any numbers. An IPv6 network counts as one address."""
    for last, number in enumerate(numbers(10)):
        ask(number, client_ip=f"2001:db8::{last + 1}")

    refused = refusal(partial(ask, "+447700900555", client_ip="2001:db8::ffff:1"))
    assert refused.limit == "client_ip_15m"
    ask("+447700900555", client_ip="2001:db8:0:1::1")
    ask("+447700900556")
    ask_of(parts, other_client, "+447700900557", client_ip="2001:db8::1")


def test_all_limits_or_none(parts: Parts, ask: Ask) -> None:
    """A request that one limit refuses does not count in the others."""
    for number in numbers(10):
        ask(number, client_ip="192.0.2.1")
    for _ in range(5):
        assert refusal(partial(ask, client_ip="192.0.2.1")).limit == "client_ip_15m"

    for _ in range(3):
        ask(client_ip="192.0.2.2")


def test_the_longest_wait_is_reported(parts: Parts, ask: Ask) -> None:
    """If several limits refuse, the error names the one with the longest wait."""
    for _ in range(7):
        ask()
        grow_older(parts.redis, 900)
    for _ in range(3):
        ask()

    assert refusal(ask).limit == "number_day"


def test_resends_count_as_codes_and_not_as_requests(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A resend does not count as a request, but as one of the day's codes. A refused one does not count."""
    parts.clients.set("test", "limits.number_day", "4/d")
    requests = [ask_sent(session_id=str(number)) for number in range(3)]
    for request in requests:
        rows.change(request.id, resend_after=clock.now())

    def resend(request: OtpRequest) -> OtpRequest:
        return parts.resend(request.id, client_id=request.client_id, channel=None, now=clock.now())

    assert resend(requests[0]).sends == 2
    assert refusal(partial(resend, requests[1])).limit == "number_day"
    kept = parts.status(requests[1].id, client_id=requests[1].client_id)
    assert (kept.status, kept.sends, kept.checks_left) == (Status.SENT, 1, 5)


def test_what_comes_to_nothing_is_not_counted(parts: Parts, ask: Ask) -> None:
    """A request that could not be stored does not count."""
    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE otp_requests RENAME TO elsewhere"))
    try:
        for _ in range(5):
            with pytest.raises(Exception, match="otp_requests"):
                ask()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE elsewhere RENAME TO otp_requests"))

    for _ in range(3):
        ask()


def test_a_clients_own_limits(parts: Parts, ask: Ask, other_client: UUID) -> None:
    """A client's own quota replaces the deployment's at once, may be off, and applies to no other client."""
    parts.clients.set("test", "limits.number_15m", "4/15m")
    left = Left()
    for _ in range(4):
        ask()
    assert refusal(ask).retry_after_s in left.of(900)

    parts.clients.set("test", "limits.number_15m", "off")
    ask()

    parts.clients.unset("test", "limits.number_15m")
    for _ in range(3):
        ask_of(parts, other_client, "+447700900001")
    assert refusal(partial(ask_of, parts, other_client, "+447700900001")).limit == "number_15m"


def test_limits_of_the_deployment(make_parts: MakeParts, client_id: UUID, parts: Parts) -> None:
    """Each limit can be set or off. Without limits Redis is not used."""
    strict, left = make_parts(OTPQUEUE_LIMIT_NUMBER_15M="1/1m"), Left()
    ask_of(strict, client_id)
    assert refusal(partial(ask_of, strict, client_id)).retry_after_s in left.of(60)

    loose = make_parts(
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_LIMIT_NUMBER_DAY="off",
        OTPQUEUE_LIMIT_NUMBER_DAY_ALL="off",
        OTPQUEUE_LIMIT_CLIENT_IP_15M="off",
    )
    before = set(parts.redis.keys("otpqueue:limits:*"))
    for _ in range(25):
        ask_of(loose, client_id, client_ip="192.0.2.1")
    assert set(parts.redis.keys("otpqueue:limits:*")) == before


def test_redis_holds_keyed_hashes_only(parts: Parts, ask: Ask) -> None:
    """Redis has no number, address or client in clear, nor a hash that joins with the database."""
    request = ask(client_ip="192.0.2.77", session_id="the-session")
    parts.key_rate(request.client_id, ClientSettings())

    kept = "".join(key.decode() for key in parts.redis.keys("*")).lower()

    assert kept.count("otpqueue:limits:") == 5
    hashed = (
        parts.vault.number_hash(NUMBER),
        parts.vault.address_hash("192.0.2.77"),
        request.client_id.bytes,
    )
    telling = [NUMBER[1:], "192.0.2.77", "the-session", str(request.client_id)]
    telling += [one.hex()[:16] for one in hashed if one]
    assert not [one for one in telling if one in kept]


def test_rate_of_calls(parts: Parts, client_id: UUID, other_client: UUID) -> None:
    """Each API key has its own rate of calls."""
    own, left = ClientSettings.from_stored({"limits": {"key_rate": "5/m"}}), Left()
    for _ in range(5):
        parts.key_rate(client_id, own)

    refused = refusal(partial(parts.key_rate, client_id, own))

    assert (refused.limit, refused.retry_after_s in left.of(60)) == ("key_rate", True)
    parts.key_rate(other_client, own)


def test_two_hundred_calls_at_once(parts: Parts, client_id: UUID) -> None:
    """Of 200 concurrent calls exactly the quota is admitted."""
    own = ClientSettings.from_stored({"limits": {"key_rate": "50/m"}})

    answers = at_once([partial(parts.key_rate, client_id, own)] * 200)

    assert answers.count(None) == 50
    assert {type(one) for one in answers if one} == {LimitExceeded}


@contextmanager
def stopped(valkey: Valkey) -> Iterator[None]:
    """Stop Valkey during the block."""
    valkey.stop()
    try:
        yield
    finally:
        valkey.start()


@contextmanager
def hung(valkey: Valkey) -> Iterator[None]:
    """Have Valkey accept connections without answering during the block."""
    os.kill(valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(valkey.pid, signal.SIGCONT)


@pytest.mark.parametrize("without", [stopped, hung])
def test_no_code_is_sent_without_redis(
    make_parts: MakeParts,
    own_valkey: Valkey,
    client_id: UUID,
    rows: Rows,
    without: Callable[[Valkey], Iterator[None]],
) -> None:
    """Each limit alone refuses soon what it cannot count, and counts again after the outage."""
    names = {"NUMBER_15M", "NUMBER_DAY", "NUMBER_DAY_ALL", "CLIENT_IP_15M"}
    alone = [
        make_parts(REDIS_URL=own_valkey.url, **{f"OTPQUEUE_LIMIT_{name}": "off" for name in names - {kept}})
        for kept in names
    ]
    for parts in alone:
        ask_of(parts, client_id, client_ip="192.0.2.1")

    with without(own_valkey):  # type: ignore[attr-defined]
        for parts in alone:
            with pytest.raises(LimitsUnavailable) as refused:
                ask_of(parts, client_id, client_ip="192.0.2.1")
            assert refused.value.retry_after_s == 1

    assert len(rows.requests()) == len(alone)
    for parts in alone:
        ask_of(parts, client_id, client_ip="192.0.2.1")


@pytest.mark.parametrize("without", [stopped, hung])
def test_codes_are_checked_without_redis(
    make_parts: MakeParts,
    own_valkey: Valkey,
    client_id: UUID,
    provider: Provider,
    parts: Parts,
    without: Callable[[Valkey], Iterator[None]],
) -> None:
    """The rate of calls admits all calls while it cannot be counted, and few of them wait."""
    cut_off = make_parts(REDIS_URL=own_valkey.url)
    own = ClientSettings.from_stored({"limits": {"key_rate": "1/h"}})
    cut_off.key_rate(client_id, own)

    with without(own_valkey), capture_logs() as records:  # type: ignore[attr-defined]
        for _ in range(200):
            cut_off.key_rate(client_id, own)

    asked = [one for one in records if one["event"] == "key_rate_not_counted"]
    assert 1 <= len(asked) < 20


def test_refused_by_a_rule_is_not_counted(parts: Parts, ask: Ask) -> None:
    """A number that a rule refuses does not count."""
    for _ in range(5):
        with pytest.raises(OtpqueueError):
            ask("+449012345678")

    assert parts.redis.keys("otpqueue:limits:*") == []


def test_a_flood_of_refusals_is_one_row_a_minute(ask: Ask, rows: Rows) -> None:
    """All refused attempts are counted, in one row per minute and reason."""
    for _ in range(3):
        ask()
    for _ in range(40):
        refusal(ask)

    kept = rows.refusals()
    assert sum(row["count"] for row in kept) == 40
    assert len(kept) <= 2
