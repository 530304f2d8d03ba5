"""Requests that end without a right code, and how they are read: expire, cancel, status."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from sqlalchemy import insert

from otpqueue import clock
from otpqueue.domain.errors import RequestNotFound
from otpqueue.domain.request import FINAL, Reason, Status
from otpqueue.operations import expire
from otpqueue.store import clients
from otpqueue.store.engine import connection
from otpqueue.store.schema import otp_requests
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, at_once, numbers

REASONS = {
    Status.VERIFIED: Reason.CODE_CORRECT,
    Status.FAILED: Reason.PROVIDER_REFUSED,
    Status.EXPIRED: Reason.CODE_LIFETIME,
    Status.LOCKED: Reason.CHECKS_EXHAUSTED,
    Status.CANCELLED: Reason.REPLACED,
}


@pytest.fixture
def stranger(parts: Parts) -> UUID:
    """Return another client."""
    with connection(parts.engine) as conn:
        return clients.ensure_client(conn, "stranger", now=clock.now())


def test_code_expires(parts: Parts, ask: Ask, rows: Rows) -> None:
    """An unverified code expires at its time, not before. Unsent requests are not affected."""
    old, unsent = ask(), numbers(1)[0]
    parts.pump.run()
    queued = ask(unsent)
    expires_at = rows.request(old.id)["expires_at"]

    too_early = parts.expire(now=expires_at - timedelta(seconds=1))
    in_time = parts.expire(now=expires_at)
    again = parts.expire(now=expires_at)

    assert (too_early, in_time, again) == (0, 1, 0)
    row = rows.request(old.id)
    assert (row["status"], row["reason"], row["finished_at"]) == ("expired", "code_lifetime", expires_at)
    assert rows.request(queued.id)["status"] == "queued"


def test_code_being_checked_does_not_expire(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A check in progress is judged first. Its request expires once the check's lease has expired."""
    request = ask_sent()
    late = clock.now() + timedelta(minutes=6)
    rows.change(request.id, check_lease_until=clock.now() + timedelta(minutes=1))

    meanwhile = parts.expire(now=late)
    rows.change(request.id, check_lease_until=clock.now() - timedelta(seconds=1))
    afterwards = parts.expire(now=late)

    assert (meanwhile, afterwards) == (0, 1)


def test_final_requests_do_not_expire(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A final request keeps its status and reason."""
    request = ask_sent()
    parts.cancel(request.id, client_id=request.client_id, now=clock.now())

    ended = parts.expire(now=clock.now() + timedelta(hours=1))

    assert ended == 0
    assert rows.request(request.id)["reason"] == "cancelled_by_client"


def test_more_than_a_batch_expires_in_one_run(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """One run expires more than a batch, and two concurrent runs expire each request once."""
    template = dict(rows.request(ask_sent().id))
    many = [template | {"id": uuid4(), "number_hash": uuid4().bytes} for _ in range(expire.BATCH + 200)]
    with connection(parts.engine) as conn:
        conn.execute(insert(otp_requests), many)
    late = clock.now() + timedelta(minutes=6)

    ended = at_once([lambda: parts.expire(now=late)] * 2)

    assert sum(ended) + parts.expire(now=late) == expire.BATCH + 201
    assert {row["status"] for row in rows.requests()} == {"expired"}


@pytest.mark.parametrize("sent", [False, True], ids=["queued", "sent"])
def test_client_cancels(parts: Parts, ask: Ask, ask_sent: AskSent, rows: Rows, sent: bool) -> None:
    """A client can cancel a live request. A repeated cancellation changes nothing."""
    request = ask_sent() if sent else ask()

    cancelled = parts.cancel(request.id, client_id=request.client_id, now=clock.now())
    row = rows.request(request.id)
    again = parts.cancel(request.id, client_id=request.client_id, now=clock.now())

    assert (cancelled.status, cancelled.reason) == (Status.CANCELLED, Reason.CANCELLED_BY_CLIENT)
    assert cancelled.checks_left == 0
    assert again == cancelled
    assert rows.request(request.id) == row
    assert (row["send_state"], row["next_attempt_at"]) == ("idle", None)


def test_cancel_leaves_what_has_ended(parts: Parts, ask_sent: AskSent, rows: Rows) -> None:
    """A request that has ended is returned unchanged."""
    request = ask_sent()
    for status in FINAL:
        rows.change(request.id, status=status.value, reason=REASONS[status].value)
        before = rows.request(request.id)

        returned = parts.cancel(request.id, client_id=request.client_id, now=clock.now())

        assert (returned.status, returned.reason) == (status, REASONS[status])
        assert rows.request(request.id) == before, status


def test_foreign_and_unknown_requests_are_not_found(
    parts: Parts, ask: Ask, rows: Rows, stranger: UUID
) -> None:
    """Another client's request behaves like one that does not exist."""
    request = ask()
    now = clock.now()

    for request_id, client_id in ((request.id, stranger), (uuid4(), request.client_id)):
        with pytest.raises(RequestNotFound):
            parts.status(request_id, client_id=client_id)
        with pytest.raises(RequestNotFound):
            parts.cancel(request_id, client_id=client_id, now=now)

    assert rows.request(request.id)["status"] == "queued"


def test_status_shows_a_masked_number_and_the_checks_left(parts: Parts, ask_sent: AskSent) -> None:
    """A caller never sees the whole number, but sees the remaining checks."""
    request = ask_sent(client_reference="order 7")

    read = parts.status(request.id, client_id=request.client_id)

    assert read.phone_number == "+44********23"
    assert (read.shown_status, read.checks_left, read.client_reference) == ("sent", 5, "order 7")
    assert read.expires_at is not None
    assert not read.is_final


def test_status_of_many(parts: Parts, ask: Ask, make_parts: MakeParts) -> None:
    """One query reads the status of many requests. Unknown ids are absent."""
    first, second = ask(numbers(2)[0]), ask(numbers(2)[1])
    parts.cancel(second.id, client_id=second.client_id, now=clock.now())

    found = parts.status.of_many([first.id, second.id, uuid4()])

    assert found == {first.id: Status.QUEUED, second.id: Status.CANCELLED}
    assert parts.status.of_many([]) == {}
