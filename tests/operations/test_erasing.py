"""Erasure of a number: everywhere, with any work in progress, and without logging the number."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import redis
from sqlalchemy import select, text
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.domain.errors import (
    CodeIncorrect,
    IdempotencyKeyReused,
    InvalidPhoneNumber,
    NumberNotAllowed,
    RequestNotFound,
    TooManyWrongCodes,
)
from otpqueue.domain.receipts import DeliveryState, Receipt
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verification_pages.create import WantedPage
from otpqueue.operations.verify import TypedCode
from otpqueue.store import clients, refusals
from otpqueue.store.engine import connection
from otpqueue.store.privacy import erasing
from otpqueue.store.privacy.holdings import HOLDINGS, OnErase
from otpqueue.store.schema import erased_wrong_codes, erasures, metadata
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, until

OTHER = "+447700900124"
NOTHING = dict.fromkeys(erasing.COUNTED, 0)


ALERTS = (
    """INSERT INTO alerts (id, rule, subject, number_hash, state, value, threshold, window_s, sample,
                           evidence, evaluated_at, opened_at)
       VALUES (gen_random_uuid(), 'number_requests', :subject, :number_hash, 'open', 1, 1, 1, 1, '{}', :now,
               :now)""",
    "INSERT INTO alert_pending VALUES ('number_requests', :subject, :number_hash, 1, :now)",
    """INSERT INTO alert_silences (id, rule, subject, number_hash, until, silenced_by, silenced_at)
       VALUES (gen_random_uuid(), 'number_requests', :subject, :number_hash, :now, 'x', :now)""",
)


def erase(parts: Parts, number: str = NUMBER, **differing: Any) -> dict[str, int]:
    """Erase a number, by default as the operator."""
    given = {"country": None, "client_id": None} | differing
    return dict(parts.erase(number, now=clock.now(), **given))


def stored(parts: Parts) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of all tables."""
    with connection(parts.engine) as conn:
        return {
            name: [dict(row) for row in conn.execute(select(table)).mappings()]
            for name, table in metadata.tables.items()
        }


def delivered(message_id: str) -> Receipt:
    """Return a report that a message was delivered."""
    return Receipt(
        message_id=message_id,
        delivery=DeliveryState.DELIVERED,
        status="DELIVERED_TO_HANDSET",
        error=None,
        done_at=clock.now(),
        price=None,
        currency=None,
    )


def fill(parts: Parts, ask_sent: AskSent, number: str, session: str) -> UUID:
    """Create rows of a number in every table. Returns its request, which is live."""
    parts.webhooks.set("test", "https://shop.example/", events=(), now=clock.now())
    old = ask_sent(number, session_id=session, client_ip="203.0.113.7")
    request = ask_sent(number, session_id=session, client_ip="203.0.113.7", client_reference="ref")
    assert old.id != request.id
    with pytest.raises(Exception, match="code is wrong"):
        parts.verify(
            request.id,
            TypedCode(code="000000", session_id=session),
            client_id=request.client_id,
            now=clock.now(),
        )
    with connection(parts.engine) as conn:
        refusals.add(
            conn,
            client_id=request.client_id,
            reason="limited",
            number_hash=parts.vault.number_hash(number),
            client_ip_hash=None,
            now=clock.now(),
        )
        for statement in ALERTS:
            known = {"subject": session, "number_hash": parts.vault.number_hash(number), "now": clock.now()}
            conn.execute(text(statement), known)
        message_ids = list(
            conn.execute(
                text("SELECT external_message_id FROM send_attempts WHERE request_id = :id"),
                {"id": request.id},
            ).scalars()
        )
    parts.receipts([delivered(one) for one in message_ids], now=clock.now())
    parts.clients.set("test", "page.return_urls", "https://shop.example/done")
    parts.create_page(
        WantedPage(return_url="https://shop.example/done", phone_number=number),
        client_id=request.client_id,
        now=clock.now(),
    )
    parts.numbers.status(number, now=clock.now())
    return request.id


def test_everything_of_a_number_goes_and_nothing_of_another(
    parts: Parts, client_id: UUID, ask_sent: AskSent, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every table loses the rows of the number, for all clients. Rows of another number stay."""
    erased_id = fill(parts, ask_sent, NUMBER, "one")
    kept_id = fill(parts, ask_sent, OTHER, "two")
    with connection(parts.engine) as conn:
        elsewhere = clients.ensure_client(conn, "elsewhere", now=clock.now())
    parts.request(RequestedCode(phone_number=NUMBER), client_id=elsewhere, now=clock.now())
    before = stored(parts)

    counts = erase(parts, "07700 900123", country="GB", client_id=elsewhere)

    after = stored(parts)
    # Both numbers had the same rows in each table. The other client's request is one more, and the two live
    # ones were cancelled first.
    assert counts == NOTHING | {
        "requests": 3,
        "attempts": 2,
        "checks": 1,
        "receipts": 1,
        "moves": 6,
        "refusals": 1,
        "alerts": 1,
        "alert_pending": 1,
        "alert_silences": 1,
        "audit_subjects": 1,
        "webhook_deliveries": 5,
        "verification_pages": 1,
    }
    for holding in HOLDINGS:
        if holding.name in counts:
            rows = after[holding.table.name]
            if holding.on_erase is OnErase.ANONYMISED:
                rows = [row for row in rows if any(row[name] is not None for name in holding.cleared)]
            assert rows, holding.name
            assert all(row in before[holding.table.name] for row in rows), holding.name
    assert {row["id"] for row in after["otp_requests"]} == {
        row["id"] for row in before["otp_requests"] if row["number_hash"] == parts.vault.number_hash(OTHER)
    }
    (noted,) = after["erasures"]
    assert (noted["client_id"], noted["counts"]) == (elsewhere, counts)
    assert parts.status(kept_id, client_id=client_id).status is Status.DELIVERED
    with pytest.raises(RequestNotFound):
        parts.status(erased_id, client_id=client_id)
    printed = "".join(capsys.readouterr())
    assert "7700900123" not in printed.replace(str(erased_id), "")
    assert parts.vault.number_hash(NUMBER) not in json.dumps(str(after)).encode()


def test_second_time_there_is_nothing_left(parts: Parts, ask: Ask, rows: Rows) -> None:
    """Erasing twice, or an unknown number, returns zeros. Both are recorded."""
    ask()

    first, second, unknown = erase(parts), erase(parts), erase(parts, "+447700900999")

    assert first == NOTHING | {"requests": 1, "moves": 1}
    assert second == unknown == NOTHING
    with connection(parts.engine) as conn:
        assert conn.execute(select(erasures.c.counts)).scalars().all() == [first, second, unknown]


@pytest.mark.parametrize("number", ["+1900", "nonsense", "+44770090012x", ""])
def test_what_is_no_number_is_refused(parts: Parts, number: str) -> None:
    """Invalid input erases nothing and is not recorded."""
    with pytest.raises(InvalidPhoneNumber):
        erase(parts, number)

    assert stored(parts)["erasures"] == []


def test_number_that_may_not_be_sent_to_is_erased(parts: Parts, client_id: UUID) -> None:
    """A refusal of a premium-rate number is erased too."""
    premium = "+449012345678"
    with pytest.raises(NumberNotAllowed):
        parts.request(RequestedCode(phone_number=premium), client_id=client_id, now=clock.now())

    assert erase(parts, premium) == NOTHING | {"refusals": 1}


def test_outcome_of_a_claim_in_hand_is_stored_nowhere(
    parts: Parts, ask: Ask, provider: Provider, background: ThreadPoolExecutor, rows: Rows
) -> None:
    """A worker that is sending drops the erased outcome and continues with the others."""
    ask()
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=600, times=1)
    pump = background.submit(parts.pump.run)
    until(lambda: rows.attempts() and provider.messages(NUMBER))

    counts = erase(parts)
    other = ask(OTHER)
    pump.result()
    parts.pump.run()

    assert counts == NOTHING | {"requests": 1, "attempts": 1, "moves": 1}
    assert len(provider.messages(NUMBER)) == 1
    left = stored(parts)
    assert [row["id"] for row in left["otp_requests"]] == [other.id]
    assert [row["request_id"] for row in left["send_attempts"]] == [other.id]
    assert rows.request(other.id)["status"] == "sent"


def test_late_report_on_an_erased_message_is_dropped(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A delivery report that arrives after the erasure is kept for at most an hour, and changes nothing."""
    request = ask_sent()
    (attempt,) = rows.attempts(request.id)
    early = delivered(attempt["external_message_id"])

    erase(parts)
    parts.receipts([early], now=clock.now())
    held = stored(parts)["receipts"]
    parts.expire(now=clock.now() + timedelta(minutes=59))
    still = stored(parts)["receipts"]
    parts.expire(now=clock.now() + timedelta(minutes=61))

    assert len(held) == len(still) == 1
    assert held[0]["request_id"] is None
    assert stored(parts)["receipts"] == []


def test_report_that_waits_to_be_matched_goes_too(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A stored report that is not matched yet is erased too."""
    request = ask_sent()
    (attempt,) = rows.attempts(request.id)
    parts.receipts([delivered(attempt["external_message_id"])], now=clock.now())
    with connection(parts.engine) as conn:
        conn.execute(text("UPDATE receipts SET request_id = NULL, attempt = NULL"))

    assert erase(parts)["receipts"] == 1
    assert stored(parts)["receipts"] == []


def test_check_in_flight_finds_nothing(
    parts: Parts, ask_sent: AskSent, provider: Provider, background: ThreadPoolExecutor, rows: Rows
) -> None:
    """A code is not accepted if its number is erased during the check."""
    request = ask_sent()
    provider.fault(match={"path": "/2fa/2/pin/*/verify"}, latency_ms=600, times=1)
    attempted = TypedCode(code=provider.code())
    checking = background.submit(
        parts.verify, request.id, attempted, client_id=request.client_id, now=clock.now()
    )
    until(rows.checks)

    erase(parts)

    with pytest.raises(RequestNotFound):
        checking.result()
    assert stored(parts)["checks"] == stored(parts)["otp_requests"] == []


def test_erasures_requests_and_workers_at_once(parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """Concurrent requests, sends and erasures of one number do not fail and leave nothing behind."""
    unlimited = make_parts(**NO_LIMITS)

    def ask() -> None:
        unlimited.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    calls = [lambda: erase(parts), ask, parts.pump.run, lambda: erase(parts), ask, parts.pump.run] * 3

    answers = at_once(calls)
    counts = [answer for answer in [*answers, erase(parts)] if isinstance(answer, dict)]

    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert sum(one["requests"] for one in counts) == 6
    left = stored(parts)
    assert all(not left[holding.table.name] for holding in HOLDINGS if holding.name in NOTHING)


@pytest.fixture
def guarded(make_parts: MakeParts, parts: Parts) -> Parts:
    """Return parts without rate limits. Three wrong codes reject new requests for an hour."""
    return make_parts(**NO_LIMITS, OTPQUEUE_WRONG_CODES_NUMBER="3/h", OTPQUEUE_WRONG_CODES_CLIENT_IP="4/h")


def guess(parts: Parts, request: OtpRequest, provider: Provider, times: int, number: str = NUMBER) -> None:
    """Verify with wrong codes."""
    code = f"{(int(provider.code(number)) + 1) % 1_000_000:06}"
    for _ in range(times):
        with pytest.raises(CodeIncorrect):
            parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


def wrong_codes(parts: Parts) -> list[timedelta]:
    """Return how long each wrong code of an erased request is kept."""
    with connection(parts.engine) as conn:
        return list(conn.execute(select(erased_wrong_codes.c.until - erased_wrong_codes.c.at)).scalars())


def test_wrong_codes_of_an_erased_number_count_on(
    guarded: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID
) -> None:
    """Wrong codes before and after the erasure count together. An operator resets both."""
    guess(guarded, ask_sent(), provider, 2)
    erase(guarded)

    def ask_again() -> OtpRequest:
        return guarded.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    again = ask_again()
    guarded.pump.run()
    guess(guarded, again, provider, 1)
    with pytest.raises(TooManyWrongCodes) as refused:
        ask_again()
    erase(guarded)
    with pytest.raises(TooManyWrongCodes):
        ask_again()

    assert refused.value.reason == "wrong_codes_number"
    assert refused.value.retry_after_s is not None
    assert 3000 < refused.value.retry_after_s <= 3600
    assert wrong_codes(guarded) == [timedelta(hours=1)] * 3
    (standing,) = guarded.numbers.status(NUMBER, now=clock.now())
    assert standing.refused_until is not None
    guarded.numbers.unlock(NUMBER, client=None, now=clock.now())
    ask_again()


def test_wrong_codes_of_an_address_count_on(
    guarded: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID
) -> None:
    """Guessing at many numbers from an address still counts after one of them is erased.

    Other addresses are free.
    """
    for number in (NUMBER, OTHER):
        guess(guarded, ask_sent(number, client_ip="203.0.113.7"), provider, 2, number)
    erase(guarded)

    def ask(address: str) -> OtpRequest:
        wanted = RequestedCode(phone_number="+447700900125", client_ip=address)
        return guarded.request(wanted, client_id=client_id, now=clock.now())

    with pytest.raises(TooManyWrongCodes) as refused:
        ask("203.0.113.7")

    assert refused.value.reason == "wrong_codes_client_ip"
    ask("203.0.113.8")


def test_codes_that_count_no_more_are_not_kept(
    guarded: Parts, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """Wrong codes older than the window are erased, and unjudged checks never counted."""
    guess(guarded, ask_sent(), provider, 2)
    hour_ago = "UPDATE checks SET started_at = started_at - interval '61 minutes' WHERE number = 1"
    with connection(guarded.engine) as conn:
        conn.execute(text(hour_ago))
        conn.execute(text("UPDATE checks SET verdict = 'unjudged' WHERE number = 2"))

    erase(guarded)

    assert rows.checks() == []
    assert wrong_codes(guarded) == []


def test_wrong_codes_of_requests_with_a_lost_key_count_on(
    guarded: Parts, ask_sent: AskSent, provider: Provider, client_id: UUID, make_parts: MakeParts
) -> None:
    """Requests without a usable seal key are deleted, but the guesses still count."""
    guess(guarded, ask_sent(), provider, 3)
    lost = base64.b64encode(b"l" * 32).decode()
    bereft = make_parts(**NO_LIMITS, OTPQUEUE_WRONG_CODES_NUMBER="3/h", OTPQUEUE_SEAL_KEYS=f"k2:{lost}")

    assert bereft.rotate_seal.drop("k1") == 1

    with pytest.raises(TooManyWrongCodes):
        bereft.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())


def windows(url: str) -> list[str]:
    """Return the names of the limits with windows of numbers in Redis."""
    with redis.Redis.from_url(url) as client:
        return sorted(key.decode().split(":")[2].split("/")[0] for key in client.keys("*limits:number*"))


@pytest.mark.parametrize("first", [b"h", b"n"])
def test_limits_of_an_erased_number_are_deleted(
    parts: Parts, make_parts: MakeParts, client_id: UUID, redis_url: str, first: bytes
) -> None:
    """Its windows are deleted: of every client, with own quotas or not, under both hash keys."""
    keys = [base64.b64encode(one * 32).decode() for one in sorted((b"h", b"n"), key=lambda one: one != first)]
    counting = make_parts(OTPQUEUE_HASH_KEY=",".join(keys))
    with connection(parts.engine) as conn:
        other = clients.ensure_client(conn, "other", now=clock.now())
    parts.clients.set("other", "limits.number_15m", "7/20m")
    for number in (NUMBER, OTHER):
        for client in (client_id, other):
            counting.request(RequestedCode(phone_number=number), client_id=client, now=clock.now())
    # Per number and key: two clients' windows of 15 minutes and a day, and one shared window.
    of_one = ["number_15m"] * 2 + ["number_day"] * 2 + ["number_day_all"]
    before = windows(redis_url)

    erase(counting)

    assert before == sorted(of_one * 4)
    assert windows(redis_url) == sorted(of_one * 2)


def test_erasure_without_redis(make_parts: MakeParts, ask: Ask, closed_port: int, rows: Rows) -> None:
    """The rows are erased. A log record says that limit windows remain until they expire."""
    ask()
    apart = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0")

    with capture_logs() as records:
        counts = erase(apart)

    assert counts["requests"] == 1
    assert rows.requests() == []
    left = [one["error"] for one in records if one["event"] == "number_limits_not_erased"]
    assert left == ["ConnectionError"]


def call(parts: Parts, client_id: UUID, body: str, *, number: str = NUMBER) -> StoredResponse:
    """Request a code with an Idempotency-Key."""
    return parts.request.once(
        RequestedCode(phone_number=number),
        call=IdempotentCall(name="POST /v1/otp-requests", key="k", body=body),
        answer=lambda made: StoredResponse(status=202, body=f"{made.id} {made.phone_number}"),
        client_id=client_id,
        now=clock.now(),
    )


def let_keys_expire(parts: Parts) -> None:
    """Expire all idempotency keys."""
    with connection(parts.engine) as conn:
        conn.execute(text("UPDATE idempotency_keys SET expires_at = now() - interval '1 second'"))
    # By then the marks of running calls have expired.
    for mark in parts.redis.scan_iter("otpqueue:running:*"):
        parts.redis.delete(mark)


def test_repeated_call_leads_to_no_erased_number(parts: Parts, client_id: UUID) -> None:
    """Neither response nor fingerprint is left. The call is not repeated, whatever its body."""
    call(parts, client_id, "a body with the number")
    erase(parts)

    (kept,) = stored(parts)["idempotency_keys"]
    assert (kept["fingerprint"], kept["answer"], kept["request_id"]) == (b"", None, None)
    for body in ("a body with the number", "another"):
        with pytest.raises(RequestNotFound, match="has been erased"):
            call(parts, client_id, body)
    assert stored(parts)["otp_requests"] == []


def test_key_of_an_erased_request_is_free_after_its_time(parts: Parts, client_id: UUID) -> None:
    """A call that takes over the key stores its own fingerprint, and is recognised when repeated."""
    call(parts, client_id, "one")
    erase(parts)
    let_keys_expire(parts)

    first, again = call(parts, client_id, "two"), call(parts, client_id, "two")

    assert (again.body, again.replayed) == (first.body, True)
    with pytest.raises(IdempotencyKeyReused):
        call(parts, client_id, "three")


def test_taking_over_a_key_keeps_the_new_fingerprint(parts: Parts, client_id: UUID) -> None:
    """An expired key may be held by another call, which is not the one of the erased request."""
    call(parts, client_id, "one")
    let_keys_expire(parts)
    check = IdempotentCall(name="POST /v1/otp-requests", key="k", body="two")

    held = parts.idempotent_responses.hold(
        check, make=lambda _: StoredResponse(status=200, body=""), client_id=client_id, now=clock.now()
    )

    assert held.held is not None
    (kept,) = stored(parts)["idempotency_keys"]
    assert kept["fingerprint"] == parts.vault.body_hashes("two")[0]
    assert (kept["request_id"], kept["answer"]) == (None, None)


def test_kept_answers_hold_no_digits_of_a_number(parts: Parts, client_id: UUID) -> None:
    """They are replayed unchanged, but stored without the two digits that are shown."""
    first = call(parts, client_id, "one")
    (kept,) = stored(parts)["idempotency_keys"]

    assert first.body.endswith(" +44********23")
    assert kept["answer"]["body"] == first.body[:-2] + "??"
    assert call(parts, client_id, "one") == replace(first, replayed=True)
