"""A number is erased: everywhere, whatever is under way, and without a word about which it was."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import select, text

from otpqueue import clock
from otpqueue.domain.errors import InvalidPhoneNumber, NumberNotAllowed, RequestNotFound
from otpqueue.domain.receipts import Delivery, Receipt
from otpqueue.domain.request import Status
from otpqueue.operations.request import CodeWanted
from otpqueue.operations.verify import Attempted
from otpqueue.store import clients, erasing, refusals
from otpqueue.store.engine import connection
from otpqueue.store.holdings import HOLDINGS, OnErase
from otpqueue.store.schema import erasures, metadata
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
    """Erase a number, as the operator unless told otherwise."""
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
    """Return a report that a message has arrived."""
    return Receipt(
        message_id=message_id,
        delivery=Delivery.DELIVERED,
        status="DELIVERED_TO_HANDSET",
        error=None,
        done_at=clock.now(),
        price=None,
        currency=None,
    )


def fill(parts: Parts, ask_sent: AskSent, number: str, session: str) -> UUID:
    """Leave a trail of a number in every table; return its request, which is live."""
    parts.webhooks.set("test", "https://shop.example/", events=(), now=clock.now())
    old = ask_sent(number, session_id=session, client_ip="203.0.113.7")
    request = ask_sent(number, session_id=session, client_ip="203.0.113.7", client_reference="ref")
    assert old.id != request.id
    with pytest.raises(Exception, match="not the one"):
        parts.verify(
            request.id,
            Attempted(code="000000", session_id=session),
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
    return request.id


def test_everything_of_a_number_goes_and_nothing_of_another(
    parts: Parts, ask_sent: AskSent, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every table is emptied of the number, of all clients; what concerns another number stays as it is."""
    erased_id = fill(parts, ask_sent, NUMBER, "one")
    kept_id = fill(parts, ask_sent, OTHER, "two")
    with connection(parts.engine) as conn:
        elsewhere = clients.ensure_client(conn, "elsewhere", now=clock.now())
    parts.request(CodeWanted(phone_number=NUMBER), client_id=elsewhere, now=clock.now())
    before = stored(parts)

    counts = erase(parts, "07700 900123", country="GB", client_id=elsewhere)

    after = stored(parts)
    # Of each table the two numbers had as many rows; the other client's request is one more, and the two
    # live ones were cancelled first.
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
        "webhook_deliveries": 5,
    }
    for holding in HOLDINGS:
        if holding.name in counts:
            rows = after[holding.table.name]
            if holding.on_erase is OnErase.FORGOTTEN:
                rows = [row for row in rows if any(row[name] is not None for name in holding.forgets)]
            assert rows, holding.name
            assert all(row in before[holding.table.name] for row in rows), holding.name
    assert {row["id"] for row in after["otp_requests"]} == {
        row["id"] for row in before["otp_requests"] if row["number_hash"] == parts.vault.number_hash(OTHER)
    }
    (noted,) = after["erasures"]
    assert (noted["client_id"], noted["counts"]) == (elsewhere, counts)
    assert parts.status(kept_id, client_id=before["otp_requests"][0]["client_id"]).status is Status.DELIVERED
    with pytest.raises(RequestNotFound):
        parts.status(erased_id, client_id=before["otp_requests"][0]["client_id"])
    printed = "".join(capsys.readouterr())
    assert "7700900123" not in printed.replace(str(erased_id), "")
    assert parts.vault.number_hash(NUMBER) not in json.dumps(str(after)).encode()


def test_second_time_there_is_nothing_left(parts: Parts, ask: Ask, rows: Rows) -> None:
    """Erasing twice, or a number that was never there, answers zeros; both are noted."""
    ask()

    first, second, unknown = erase(parts), erase(parts), erase(parts, "+447700900999")

    assert first == NOTHING | {"requests": 1, "moves": 1}
    assert second == unknown == NOTHING
    with connection(parts.engine) as conn:
        assert conn.execute(select(erasures.c.counts)).scalars().all() == [first, second, unknown]


@pytest.mark.parametrize("number", ["+1900", "nonsense", "+44770090012x", ""])
def test_what_is_no_number_is_refused(parts: Parts, number: str) -> None:
    """What cannot be a number erases nothing and is not noted."""
    with pytest.raises(InvalidPhoneNumber):
        erase(parts, number)

    assert stored(parts)["erasures"] == []


def test_number_that_may_not_be_sent_to_is_erased(parts: Parts, client_id: UUID) -> None:
    """A premium-rate number was refused, and the refusal is of a person all the same."""
    premium = "+449012345678"
    with pytest.raises(NumberNotAllowed):
        parts.request(CodeWanted(phone_number=premium), client_id=client_id, now=clock.now())

    assert erase(parts, premium) == NOTHING | {"refusals": 1}


def test_outcome_of_a_claim_in_hand_is_stored_nowhere(
    parts: Parts, ask: Ask, provider: Provider, background: ThreadPoolExecutor, rows: Rows
) -> None:
    """A worker that is sending survives the erasure, leaves nothing behind, and goes on with the others."""
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
    """A delivery report that comes after the erasure is held for an hour at most, and moves nothing."""
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
    """A report that is stored and not matched yet is the erased message's all the same."""
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
    """A code whose number is erased while it is being checked is not accepted."""
    request = ask_sent()
    provider.fault(match={"path": "/2fa/2/pin/*/verify"}, latency_ms=600, times=1)
    attempted = Attempted(code=provider.code())
    checking = background.submit(
        parts.verify, request.id, attempted, client_id=request.client_id, now=clock.now()
    )
    until(rows.checks)

    erase(parts)

    with pytest.raises(RequestNotFound):
        checking.result()
    assert stored(parts)["checks"] == stored(parts)["otp_requests"] == []


def test_erasures_requests_and_workers_at_once(parts: Parts, make_parts: MakeParts, client_id: UUID) -> None:
    """Asking, sending and erasing one number at the same moments: nothing fails, nothing is left over."""
    unlimited = make_parts(**NO_LIMITS)

    def ask() -> None:
        unlimited.request(CodeWanted(phone_number=NUMBER), client_id=client_id, now=clock.now())

    calls = [lambda: erase(parts), ask, parts.pump.run, lambda: erase(parts), ask, parts.pump.run] * 3

    answers = at_once(calls)
    counts = [answer for answer in [*answers, erase(parts)] if isinstance(answer, dict)]

    assert not [answer for answer in answers if isinstance(answer, Exception)]
    assert sum(one["requests"] for one in counts) == 6
    left = stored(parts)
    assert all(not left[holding.table.name] for holding in HOLDINGS if holding.name in NOTHING)
