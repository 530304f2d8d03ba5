"""Queries on webhooks: written with the move, claimed in turn, recorded, kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import RowMapping, select, text, update
from sqlalchemy.exc import IntegrityError

from otpqueue.domain.request import OtpRequest
from otpqueue.domain.webhooks import WebhookEvent, WebhookResponse
from otpqueue.store import clients
from otpqueue.store.engine import transaction
from otpqueue.store.schema import otp_requests, webhook_endpoints
from otpqueue.store.schema import webhook_deliveries as rows
from otpqueue.store.webhooks import deliveries, endpoints
from otpqueue.store.webhooks.deliveries import DeliveryResult, EndedEndpoint, WebhookDelivery
from tests.store.conftest import NOW, Store, later

COPY = """
INSERT INTO webhook_endpoints
SELECT gen_random_uuid(), client_id, url, events, secrets_sealed, seal_key_id, previous_until, created_at
FROM webhook_endpoints
"""
MANY = text(
    """
    INSERT INTO webhook_deliveries (request_id, client_id, event, at, state, next_try_at)
    SELECT request_id, client_id, event, at,
           CASE WHEN n % 100 = 0 THEN 'pending' ELSE 'delivered' END,
           CASE WHEN n % 100 = 0 THEN CAST(:later AS timestamptz) END
    FROM webhook_deliveries, generate_series(1, 20000) AS n
    """
)
URL = "https://shop.example/hook"
DAY = timedelta(days=1)
OK = WebhookResponse(status=204)
BUSY = WebhookResponse(status=503)


def listen(
    store: Store, client_id: UUID | None = None, *, events: Sequence[str] = tuple(WebhookEvent)
) -> UUID:
    """Give a client an endpoint; return the client."""
    client_id = client_id or store.client_id
    endpoints.add(
        store.conn,
        client_id=client_id,
        url=URL,
        events=events,
        secret="whsec_c2VjcmV0",
        vault=store.vault,
        now=NOW,
    )
    return client_id


def other(store: Store, name: str) -> UUID:
    """Return another client, with an endpoint."""
    return listen(store, clients.ensure_client(store.conn, name, now=NOW))


def move(store: Store, request: OtpRequest, *statuses: str) -> OtpRequest:
    """Move a request through statuses."""
    for status in statuses:
        store.change(request.id, status=status, updated_at=NOW)
    return request


def store_moved(store: Store, number: str = "+447700900123", *statuses: str, **fields: Any) -> OtpRequest:
    """Store a request and move it, to `sent` by default."""
    return move(store, store.insert(number, **fields), *(statuses or ("sent",)))


def written(store: Store) -> list[RowMapping]:
    """Return the deliveries in their order."""
    return list(store.conn.execute(select(rows).order_by(rows.c.number)).mappings())


def claim(
    store: Store,
    *,
    slots: int = 100,
    share: int = 100,
    busy: dict[UUID, int] | None = None,
    lease_s: float = 30,
    after_s: float = 0,
) -> list[WebhookDelivery]:
    """Claim what is due."""
    return deliveries.claim(
        store.conn,
        slots=slots,
        share=share,
        busy=busy or {},
        lease_s=lease_s,
        now=later(after_s),
        vault=store.vault,
    )


def record(
    store: Store,
    delivery: WebhookDelivery,
    answer: WebhookResponse | None,
    *,
    again_s: float | None = 60,
    at_s: float = 0,
) -> list[EndedEndpoint]:
    """Record what became of a try."""
    failed = answer is not None and not answer.is_success and again_s is not None
    result = DeliveryResult(
        delivery=delivery,
        answer=answer,
        tried_at=later(at_s),
        next_try_at=later(at_s + again_s) if failed and again_s is not None else None,
    )
    return transaction(
        store.engine,
        lambda conn: deliveries.record(conn, [result], disable_after=DAY, now=later(at_s))[0],
    )


def endpoint(store: Store) -> RowMapping:
    """Return the endpoint of the store's client."""
    query = select(webhook_endpoints).where(webhook_endpoints.c.client_id == store.client_id)
    return store.conn.execute(query).mappings().one()


def test_delivery_is_written_with_the_move(store: Store) -> None:
    """A move that is rolled back has no delivery; a committed one has one."""
    listen(store)
    request = store.insert()

    with store.engine.execution_options(isolation_level="READ COMMITTED").connect() as conn:
        conn.execute(update(otp_requests).values(status="sent"))
        assert len(conn.execute(select(rows)).all()) == 1
        conn.rollback()
    assert written(store) == []

    store.change(request.id, status="failed", reason="provider_refused", provider_code="X", updated_at=NOW)
    (row,) = written(store)
    assert (row["event"], row["reason"], row["provider_code"]) == (
        "otp_request.failed",
        "provider_refused",
        "X",
    )
    assert (row["request_id"], row["client_id"], row["at"]) == (request.id, store.client_id, NOW)
    assert (row["state"], row["tries"], row["next_try_at"]) == ("pending", 0, NOW)


@pytest.mark.parametrize("columns", [{"check_number": 1}, {"resend": "pending"}, {"status": "queued"}])
def test_unchanged_status_sends_no_webhook(store: Store, columns: dict[str, Any]) -> None:
    """Claims, checks and resends cause no delivery."""
    listen(store)
    request = store.insert()

    store.change(request.id, **columns)

    assert written(store) == []


def test_disabled_endpoint_costs_no_rows(store: Store) -> None:
    """Without a subscription, no delivery is stored."""
    listen(store)
    store.conn.execute(update(webhook_endpoints).values(disabled_at=NOW, disabled_reason="gone"))

    store_moved(store)

    assert written(store) == []
    assert endpoints.list_subscriptions(store.conn) == frozenset()


def test_endpoints_take_turns(store: Store) -> None:
    """One client's many deliveries do not stand before another's few, however much older they are."""
    many, few = listen(store), other(store, "few")
    for last in range(8):
        store_moved(store, f"+44770090000{last}", created_at=later(-60))
    store_moved(store, "+447700900100", client_id=few)

    first = claim(store, slots=2)

    assert {one.client_id for one in first} == {many, few}


def test_share_of_an_endpoint(store: Store) -> None:
    """An endpoint gets its share, less what a worker is busy with for it already."""
    mine, theirs = listen(store), other(store, "theirs")
    for last in range(6):
        store_moved(store, f"+44770090000{last}")
        store_moved(store, f"+44770090010{last}", client_id=theirs)

    first = claim(store, share=4, busy={mine: 3})
    second = claim(store, share=4, busy={mine: 4, theirs: 9})

    assert Counter(one.client_id for one in first) == {mine: 1, theirs: 4}
    assert second == []


def test_endpoint_that_fails_gets_one(store: Store) -> None:
    """An endpoint that has just failed is asked one at a time until it answers well."""
    listen(store)
    for last in range(4):
        store_moved(store, f"+44770090000{last}")
    (first,) = claim(store, slots=1)
    record(store, first, BUSY)
    assert endpoint(store)["failing_since"] == NOW

    (second,) = claim(store)
    assert claim(store, busy={store.client_id: 1}) == []
    record(store, second, OK)

    assert endpoint(store)["failing_since"] is None
    assert len(claim(store)) == 2


def test_later_event_waits_for_the_earlier_one(store: Store) -> None:
    """Of one request one delivery is out at a time, whatever their times say, and until that is done."""
    listen(store)
    request = store_moved(store, "+447700900123", "sent", "delivered")
    store.conn.execute(
        update(rows).where(rows.c.event == "otp_request.delivered").values(next_try_at=later(-9))
    )

    (sent,) = claim(store, lease_s=0)
    (again,) = claim(store)
    assert (again.id, again.tries, again.event) == (sent.id, 2, "otp_request.sent")
    assert claim(store) == []
    record(store, again, BUSY)
    assert claim(store) == []
    assert {row["next_try_at"] for row in written(store)} == {later(60)}

    (third,) = claim(store, after_s=60)
    record(store, third, OK, at_s=60)
    (delivered,) = claim(store, after_s=60)
    assert (delivered.event, delivered.request_id) == ("otp_request.delivered", request.id)


def test_late_words(store: Store) -> None:
    """The late failure of an old try changes nothing; a late success is a success."""
    listen(store)
    store_moved(store)
    (old,) = claim(store, lease_s=0)
    (new,) = claim(store)

    record(store, old, BUSY)
    (row,) = written(store)
    assert (row["state"], row["tries"], row["lease_until"] is not None) == ("pending", 2, True)

    record(store, old, OK)
    record(store, new, BUSY)
    (row,) = written(store)
    assert (row["state"], row["http_status"], row["next_try_at"]) == ("delivered", 204, None)


def test_what_was_not_tried(store: Store) -> None:
    """What a worker gives back keeps what was known of it."""
    listen(store)
    store_moved(store)
    (first,) = claim(store)
    record(store, first, BUSY)
    before = written(store)
    (second,) = claim(store, after_s=60)

    record(store, second, None, at_s=60)

    assert written(store) == before
    assert len(claim(store, after_s=60)) == 1


def test_endpoint_is_disabled_after_its_time(store: Store) -> None:
    """Only after a whole day of failures, and reported once."""
    listen(store)
    for last in range(3):
        store_moved(store, f"+44770090000{last}")
    ended = []
    for at_s in (0, 86_399, 86_400):
        (delivery,) = claim(store, slots=1, after_s=at_s)
        ended.append(record(store, delivery, WebhookResponse(reason="timeout"), at_s=at_s, again_s=90_000))

    assert [len(one) for one in ended] == [0, 0, 1]
    assert ended[-1][0].failing_since == NOW
    assert endpoint(store)["disabled_at"] == later(86_400)


@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            "UPDATE webhook_deliveries SET state = 'lost', next_try_at = NULL",
            "webhook_deliveries_state_check",
        ),
        ("UPDATE webhook_deliveries SET event = 'otp_request.queued'", "webhook_deliveries_event_check"),
        ("UPDATE webhook_deliveries SET next_try_at = NULL", "webhook_deliveries_pending_has_time_check"),
        ("UPDATE webhook_deliveries SET state = 'delivered'", "webhook_deliveries_pending_has_time_check"),
        (
            "UPDATE webhook_deliveries SET state = 'delivered', next_try_at = NULL, lease_until = now()",
            "webhook_deliveries_held_is_pending_check",
        ),
        ("UPDATE webhook_deliveries SET request_id = gen_random_uuid()", "request_id_fkey"),
        ("UPDATE webhook_endpoints SET disabled_at = now()", "webhook_endpoints_disabled_has_reason_check"),
        (
            "UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'bored'",
            "webhook_endpoints_disabled_reason_check",
        ),
        (COPY, "webhook_endpoints_client_id_key"),
    ],
)
def test_impossible_row_is_refused(store: Store, statement: str, constraint: str) -> None:
    """Whatever statement has a mistake, neither table takes a row that cannot be."""
    listen(store)
    store_moved(store)

    with pytest.raises(IntegrityError, match=constraint):
        store.conn.execute(text(statement))


def test_old_deliveries_are_not_read(store: Store) -> None:
    """A claim, and a list of failures, look at what is left to do, however much was delivered before."""
    listen(store)
    request = store_moved(store)
    store.conn.execute(MANY, {"later": later(3600)})
    store.conn.execute(text("ANALYZE webhook_deliveries"))

    claimed = _plan(store, deliveries._CLAIM.text)
    listed = _plan(
        store,
        "SELECT * FROM webhook_deliveries WHERE client_id = :client AND state <> 'delivered' "
        "AND tried_at IS NOT NULL ORDER BY number DESC LIMIT 50",
    )

    assert "webhook_deliveries_due" in claimed
    assert "webhook_deliveries_left" in listed
    for plan in (claimed, listed):
        assert "Seq Scan on webhook_deliveries" not in plan, plan
    assert [one.request_id for one in claim(store)] == [request.id]


def _plan(store: Store, statement: str) -> str:
    parameters = {
        "slots": 64,
        "share": 16,
        "clients": [],
        "busy": [],
        "lease_s": 30,
        "now": NOW,
        "client": store.client_id,
    }
    return "\n".join(store.conn.execute(text(f"EXPLAIN {statement}"), parameters).scalars())
