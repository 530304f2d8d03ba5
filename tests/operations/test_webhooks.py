"""Webhooks as receivers get them: each event once, in order and signed, despite failures."""

from __future__ import annotations

import base64
import hashlib
import hmac
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import structlog
from sqlalchemy import text
from standardwebhooks import Webhook

from otpqueue import clock, jobs
from otpqueue.domain.webhooks import RETRIES
from otpqueue.store.engine import connection
from tests import leaks
from tests.conftest import MakeParts
from tests.operations.looking import until
from tests.operations.receiver import Call, Receiver, never
from tests.operations.webhooking import CLIENT, Hooks

ALL = ("sent", "delivered", "verified")


def events(*statuses: str) -> list[str]:
    """Return the events of statuses."""
    return [f"otp_request.{status}" for status in statuses]


def by_request(calls: list[Call]) -> dict[str, list[str]]:
    """Return the events of each request, in the order of arrival."""
    found: dict[str, list[str]] = {}
    for call in calls:
        found.setdefault(call.of, []).append(call.type)
    return found


def test_client_is_notified(hooks: Hooks, receiver: Receiver) -> None:
    """An event has the request's id, status and time, and the number only masked."""
    hooks.set(receiver.url)
    request = hooks.ask(client_reference="order-4711")
    at = hooks.now()
    hooks.rows.change(
        request.id, status="sent", sent_at=at, expires_at=at + timedelta(seconds=300), updated_at=at
    )

    hooks.send()

    (call,) = receiver.calls
    row = hooks.rows.request(request.id)
    assert call.path == "/hook"
    assert call.headers["content-type"] == "application/json"
    assert call.payload == {
        "type": "otp_request.sent",
        "timestamp": _text(at),
        "data": {
            "id": str(request.id),
            "status": "sent",
            "reason": None,
            "provider_code": None,
            "phone_number": "+44********01",
            "channel": "sms",
            "client_reference": "order-4711",
            "created_at": _text(row["created_at"]),
            "sent_at": _text(at),
            "expires_at": _text(at + timedelta(seconds=300)),
        },
    }


def _text(moment: Any) -> str:
    return str(moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"))


def test_signature_verifies(hooks: Hooks, receiver: Receiver) -> None:
    """A delivery verifies with the standard's library, and by hand over its raw bytes."""
    secret = hooks.set(receiver.url)
    hooks.moved("sent")

    hooks.send()

    (call,) = receiver.calls
    assert Webhook(secret).verify(call.body, call.headers) == call.payload
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{call.id}.{call.headers['webhook-timestamp']}.".encode() + call.body
    signature = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert call.headers["webhook-signature"] == f"v1,{signature}"


def test_nothing_is_written_without_an_endpoint(hooks: Hooks, receiver: Receiver) -> None:
    """A client without an endpoint, or without a subscription for an event, costs no row."""
    hooks.set(receiver.url, "verified", client="other")
    hooks.moved(*ALL)
    hooks.moved("sent", "failed", client="other")

    hooks.send()

    assert hooks.deliveries() == []
    assert receiver.calls == []


def test_only_subscribed_events_are_sent(hooks: Hooks, receiver: Receiver) -> None:
    """An endpoint gets only its subscribed events, of its own client."""
    hooks.set(receiver.url, "verified", "failed")
    hooks.moved(*ALL)
    hooks.moved("failed")
    hooks.moved(*ALL, client="other")

    hooks.send()

    assert sorted(receiver.types) == events("failed", "verified")


def test_receiver_that_was_down_gets_each_event_once(hooks: Hooks, receiver: Receiver) -> None:
    """After hours of refused connections, errors and cuts each event arrives once, in order per request."""
    hooks.set(receiver.url)
    for _ in range(8):
        hooks.moved(*ALL)
    failures = iter([503, None, 500, 302, 404, 429] * 100)
    receiver.answer = lambda _: next(failures)
    for pause in RETRIES[:6]:
        hooks.send()
        hooks.pass_time(seconds=pause.total_seconds() * 1.3)
    assert receiver.taken == []
    receiver.answer = lambda _: 200

    for pause in RETRIES:
        hooks.send()
        hooks.pass_time(seconds=pause.total_seconds() * 1.3)

    assert set(map(tuple, by_request(receiver.taken).values())) == {tuple(events(*ALL))}
    assert len(receiver.taken) == 24
    assert len({call.id for call in receiver.calls}) == 24
    assert len({(call.of, call.type) for call in receiver.calls}) == 24
    assert {row["state"] for row in hooks.deliveries()} == {"delivered"}


def test_body_and_id_are_the_same_at_each_try(hooks: Hooks, receiver: Receiver) -> None:
    """A retry has the original body, even if the request has changed since."""
    hooks.set(receiver.url)
    receiver.answer = never
    request = hooks.moved("sent", sent_at=clock.now(), expires_at=clock.now())
    hooks.send()
    hooks.move(request, "verified", verified_at=clock.now(), reason="code_correct")
    hooks.pass_time(minutes=1)
    hooks.send()

    first, second = receiver.calls
    assert (first.id, first.body) == (second.id, second.body)
    assert first.headers["webhook-timestamp"] < second.headers["webhook-timestamp"]


def test_timeout_then_retry_keeps_the_order(hooks: Hooks, receiver: Receiver, make_parts: MakeParts) -> None:
    """An event that timed out delays later ones of its request, but no others."""
    parts = make_parts(OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true", OTPQUEUE_TUNING_WEBHOOK_TIMEOUT_S="0.5")
    hooks = Hooks(parts, hooks.rows)
    hooks.set(receiver.url)
    slow = hooks.moved(*ALL)
    hang = threading.Event()

    def answer(call: Call) -> int:
        if call.of == str(slow.id) and not hang.is_set():
            hang.wait(60)
        return 200

    receiver.answer = answer
    other = hooks.moved(*ALL)
    try:
        hooks.send()
        hooks.send()
        # One at a time while it is failing.
        until(lambda: hooks.send() or len(by_request(receiver.taken).get(str(other.id), [])) == 3)
        assert [call.type for call in receiver.calls if call.of == str(slow.id)] == events("sent")
        (row,) = hooks.deliveries(request_id=slow.id, event="otp_request.sent")
        assert (row["state"], row["problem"], row["http_status"]) == ("pending", "timeout", None)
    finally:
        hang.set()
    hooks.pass_time(minutes=1)
    until(lambda: hooks.send() or len(hooks.deliveries(request_id=slow.id, state="delivered")) == 3)

    assert [call.type for call in receiver.calls if call.of == str(slow.id)] == events("sent", *ALL)


def test_later_event_that_comes_while_one_waits_is_held_back(hooks: Hooks, receiver: Receiver) -> None:
    """A new event waits behind an earlier one of its request that is due again."""
    hooks.set(receiver.url)
    receiver.answer = never
    request = hooks.moved("sent")
    hooks.send()
    receiver.answer = lambda _: 200
    hooks.move(request, "verified")

    hooks.send()
    assert len(receiver.calls) == 1
    sent, verified = hooks.deliveries()
    assert verified["next_try_at"] == sent["next_try_at"]

    hooks.pass_time(seconds=10)
    hooks.send()
    assert receiver.types == events("sent", "verified")


def test_abandoned_event_lets_the_next_pass(hooks: Hooks, receiver: Receiver) -> None:
    """After about a day an event is abandoned, and the next one of its request is sent."""
    hooks.set(receiver.url)
    receiver.answer = lambda call: 500 if call.type == "otp_request.sent" else 200
    hooks.moved("sent", "failed")
    with structlog.testing.capture_logs() as logged:
        for pause in (*RETRIES, timedelta()):
            hooks.sender(disable_after=timedelta(days=30)).run()
            hooks.pass_time(seconds=pause.total_seconds() * 1.3)

    tries = [call for call in receiver.calls if call.type == "otp_request.sent"]
    assert len(tries) == len(RETRIES) + 1
    assert len({call.id for call in tries}) == 1
    assert receiver.types == events("failed")
    sent, failed = hooks.deliveries()
    assert (sent["state"], sent["http_status"], failed["state"]) == ("given_up", 500, "delivered")
    events_logged = Counter(record["event"] for record in logged)
    assert events_logged == {"webhook_failed": len(RETRIES), "webhook_given_up": 1, "webhook_delivered": 1}


def test_pauses_are_those_of_the_table(hooks: Hooks, receiver: Receiver) -> None:
    """Each pause is that of the table, plus a random fifth at most."""
    hooks.set(receiver.url)
    receiver.answer = never
    hooks.moved("sent")
    for pause in RETRIES:
        before = hooks.now()
        hooks.send()
        (row,) = hooks.deliveries()
        assert pause <= row["next_try_at"] - before <= pause * 1.2 + timedelta(seconds=20)
        hooks.pass_time(seconds=(row["next_try_at"] - hooks.now()).total_seconds() - 0.5)
        count = len(receiver.calls)
        if pause < timedelta(minutes=1):
            hooks.send()
            assert len(receiver.calls) == count
        hooks.pass_time(seconds=1)


def test_slow_receiver_does_not_delay_another_client(hooks: Hooks, receiver: Receiver) -> None:
    """A hung receiver uses only its share of the threads, and delays no other client."""
    hang = threading.Event()
    with Receiver() as slow:
        slow.answer = lambda _: 200 if hang.wait(60) else None
        hooks.set(slow.url, client="slow")
        hooks.set(receiver.url)
        for _ in range(8):
            hooks.moved("sent", client="slow")
        mine = [hooks.moved("sent") for _ in range(8)]
        sender = hooks.sender(threads=4, share=2)
        with ThreadPoolExecutor(1) as job:
            running = job.submit(sender.run)
            try:
                until(lambda: len(receiver.taken) == len(mine))
                assert len(slow.calls) == 2
                assert slow.taken == []
                late = hooks.moved("sent")
                until(lambda: len(receiver.taken) == len(mine) + 1)
                assert receiver.taken[-1].of == str(late.id)
            finally:
                hang.set()
            running.result(30)
            assert len(slow.taken) == 8


def test_receiver_that_fails_is_asked_one_at_a_time(hooks: Hooks, receiver: Receiver) -> None:
    """A failing receiver gets one delivery at a time. Once that succeeds all are sent."""
    hooks.set(receiver.url)
    receiver.answer = never
    for _ in range(6):
        hooks.moved("sent")
    hooks.sender(threads=8, share=2).run()
    assert hooks.endpoint()["failing_since"] is not None
    at_once, most = Counter[str](), []

    def answer(_: Call) -> int:
        at_once["now"] += 1
        most.append(at_once["now"])
        threading.Event().wait(0.02)
        at_once["now"] -= 1
        return 500

    receiver.answer = answer
    hooks.pass_time(seconds=10)
    hooks.sender(threads=8, share=4).run()
    assert (len(most), max(most)) == (6, 1)

    receiver.answer = lambda _: 200
    hooks.pass_time(minutes=1)
    hooks.send()
    assert len(receiver.taken) == 6
    assert hooks.endpoint()["failing_since"] is None


def test_worker_that_was_killed_is_taken_over(hooks: Hooks, receiver: Receiver) -> None:
    """A killed worker's deliveries are posted again after their leases expire, with the same id."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    hang = threading.Event()
    receiver.answer = lambda _: 200 if hang.wait(60) else None
    killed = hooks.sender(lease_s=1)
    with ThreadPoolExecutor(1) as job:
        running = job.submit(killed.run)
        until(lambda: receiver.calls)
        # As os._exit does: nothing is recorded.
        assert killed.abandon(within_s=10) == 1
        running.result(10)
        hooks.send()
        assert len(receiver.calls) == 1

        hang.set()
        until(lambda: hooks.send() or len(receiver.calls) == 2)

    first, second = receiver.calls
    assert (first.id, first.body) == (second.id, second.body)
    (row,) = hooks.deliveries()
    assert (row["state"], row["tries"]) == ("delivered", 2)


def test_stopped_worker_finishes(hooks: Hooks, receiver: Receiver) -> None:
    """Deliveries in flight are waited for and recorded. Other claims are given back without an attempt."""
    hooks.set(receiver.url)
    go_on = threading.Event()
    receiver.answer = lambda _: 200 if go_on.wait(60) else None
    sender = hooks.sender(threads=2, share=2)
    for _ in range(4):
        hooks.moved("sent")
    with ThreadPoolExecutor(1) as job:
        running = job.submit(sender.run)
        until(lambda: len(receiver.calls) == 2)
        sender.stop()
        go_on.set()
        running.result(30)

    assert sorted(row["state"] for row in hooks.deliveries()) == ["delivered"] * 2 + ["pending"] * 2
    for row in hooks.deliveries(state="pending"):
        assert (row["tries"], row["lease_until"]) == (0, None)


def test_what_is_given_back_was_not_tried(hooks: Hooks, receiver: Receiver) -> None:
    """A delivery that a worker reaches after half its lease is given back unchanged."""
    hooks.set(receiver.url)
    hooks.moved("sent")

    hooks.sender(lease_s=0, job_s=0.1).run()

    (row,) = hooks.deliveries()
    assert (row["state"], row["tries"], row["tried_at"], row["lease_until"]) == ("pending", 0, None, None)
    hooks.send()
    assert receiver.types == events("sent")


def test_outcome_that_postgres_does_not_take_is_recorded_later(
    hooks: Hooks, receiver: Receiver, make_parts: MakeParts
) -> None:
    """A response that cannot be recorded at first is recorded later, and not posted again."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    impatient = make_parts(
        OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true", OTPQUEUE_TUNING_DATABASE_LOCK_TIMEOUT_S="0.2"
    )
    engine = hooks.parts.engine.execution_options(isolation_level="READ COMMITTED")
    with connection(engine) as other, ThreadPoolExecutor(1) as job:

        def answer(_: Call) -> int:
            other.execute(text("SELECT FROM webhook_deliveries FOR UPDATE"))
            return 200

        receiver.answer = answer
        with structlog.testing.capture_logs() as logged:
            running = job.submit(Hooks(impatient, hooks.rows).send)
            until(lambda: logged)
            other.commit()
            running.result(60)

    assert (logged[0]["event"], logged[0]["deliveries"]) == ("webhooks_not_recorded", 1)
    assert logged[-1]["event"] == "webhook_delivered"
    assert len(receiver.calls) == 1
    assert [(row["state"], row["tries"]) for row in hooks.deliveries()] == [("delivered", 1)]


def test_bug_delays_a_delivery(hooks: Hooks, receiver: Receiver) -> None:
    """An unexpected error is logged, and the delivery posted again after its lease.

    Others are not delayed.
    """
    hooks.set(receiver.url)
    hooks.moved("sent")
    hooks.moved("sent")

    class Broken:
        def __init__(self) -> None:
            self.calls = 0

        def post(self, url: str, *, body: bytes, headers: dict[str, str]) -> int:
            self.calls += 1
            if self.calls == 1:
                raise RuntimeError("unexpected")
            return hooks.parts.outbound.post(url, body=body, headers=headers)

    with structlog.testing.capture_logs() as logged:
        hooks.sender(outbound=Broken(), threads=1).run()

    assert Counter(record["event"] for record in logged) == {"webhook_crashed": 1, "webhook_delivered": 1}
    assert len(receiver.taken) == 1
    hooks.execute("UPDATE webhook_deliveries SET lease_until = now() WHERE lease_until IS NOT NULL")
    hooks.send()
    assert len(receiver.taken) == 2


def test_several_workers_send_each_event_once(hooks: Hooks, receiver: Receiver) -> None:
    """Concurrent workers send no event twice and keep the order of each request."""
    hooks.set(receiver.url)
    for _ in range(30):
        hooks.moved(*ALL)
    with ThreadPoolExecutor(4) as workers:
        for done in [workers.submit(hooks.sender(threads=8, share=8).run) for _ in range(4)]:
            done.result(60)
    until(lambda: hooks.send() or len(receiver.taken) == 90)

    assert len({call.id for call in receiver.calls}) == len(receiver.calls) == 90
    assert set(map(tuple, by_request(receiver.taken).values())) == {tuple(events(*ALL))}
    for earlier, later in pairwise(hooks.deliveries()):
        if earlier["request_id"] == later["request_id"]:
            assert earlier["tried_at"] <= later["tried_at"]


def test_gone_disables_at_once(hooks: Hooks, receiver: Receiver) -> None:
    """A receiver that answers 410 gets nothing more. Waiting deliveries are kept until it is enabled."""
    hooks.set(receiver.url)
    receiver.answer = lambda _: 410
    hooks.moved(*ALL)
    with structlog.testing.capture_logs() as logged:
        hooks.send()

    endpoint = hooks.endpoint()
    assert (endpoint["disabled_reason"], endpoint["disabled_at"] is not None) == ("gone", True)
    (logged_event,) = [record for record in logged if record["event"] == "webhook_disabled"]
    assert (logged_event["log_level"], logged_event["reason"], logged_event["client_id"]) == (
        "error",
        "gone",
        str(hooks.client()),
    )
    hooks.pass_time(days=2)
    hooks.send()
    hooks.moved("sent")
    assert len(receiver.calls) == 1
    assert {row["state"] for row in hooks.deliveries()} == {"pending"}
    assert len(hooks.deliveries()) == 3

    receiver.answer = lambda _: 200
    assert hooks.parts.webhooks.enable(CLIENT, now=hooks.now()) == 3
    hooks.send()
    assert receiver.types == events(*ALL)


def test_persistent_failure_disables(hooks: Hooks, receiver: Receiver) -> None:
    """A day of only failures disables an endpoint. One success in between prevents it."""
    hooks.set(receiver.url)
    receiver.answer = never
    hooks.moved("sent")
    hooks.send()
    hooks.pass_time(hours=12)
    receiver.answer = lambda _: 200
    hooks.send()
    receiver.answer = never
    hooks.moved("sent")
    hooks.send()
    hooks.pass_time(hours=23)
    hooks.send()
    assert hooks.endpoint()["disabled_at"] is None

    hooks.pass_time(hours=2)
    hooks.moved("sent")
    with structlog.testing.capture_logs() as logged:
        hooks.send()

    assert hooks.endpoint()["disabled_reason"] == "failing"
    assert "webhook_disabled" in [record["event"] for record in logged]
    assert {row["state"] for row in hooks.deliveries()} == {"delivered", "pending"}


def test_answer_of_an_old_url_says_nothing_of_the_new_one(hooks: Hooks, receiver: Receiver) -> None:
    """A 410 of a URL that an operator has just replaced does not disable the new one."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    with Receiver() as other:

        def answer(_: Call) -> int:
            hooks.parts.webhooks.set(CLIENT, other.url, events=(), now=hooks.now())
            return 410

        receiver.answer = answer
        hooks.send()
        assert hooks.endpoint()["disabled_at"] is None

        hooks.pass_time(minutes=1)
        hooks.send()
        assert other.types == events("sent")


def test_secret_is_nowhere_in_clear(
    hooks: Hooks, receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    """The secret is in no row and no log record, even after failures. Nor is the number."""
    secret = hooks.set(receiver.url)
    found = leaks.Secrets({"secret": secret, "key": secret.removeprefix("whsec_")})
    found.add_number("+447700900001")
    answers = iter([None, 500, 410])
    receiver.answer = lambda _: next(answers)
    hooks.moved(*ALL)
    with structlog.testing.capture_logs() as logged:
        for _ in range(3):
            hooks.send()
            hooks.pass_time(hours=1)
        hooks.parts.webhooks.rotate_secret(CLIENT, overlap=timedelta(hours=1), now=hooks.now())

    url = hooks.parts.settings.require("database_url")
    assert "webhook_disabled" in [record["event"] for record in logged]
    assert found.found_in(leaks.every_row(url)) == []
    assert found.found_in(repr(logged).encode()) == []
    assert found.found_in("".join(capsys.readouterr()).encode()) == []
    key = base64.b64decode(secret.removeprefix("whsec_"))
    assert key.hex().encode() not in leaks.every_row(url)


def test_rotated_secret(hooks: Hooks, receiver: Receiver) -> None:
    """During a rotation both secrets sign. Afterwards only the new one does."""
    old = hooks.set(receiver.url)
    new = hooks.parts.webhooks.rotate_secret(CLIENT, overlap=timedelta(hours=1), now=hooks.now())
    hooks.moved("sent")
    hooks.send()
    hooks.pass_time(hours=2)
    hooks.moved("sent")
    hooks.send()

    both, one = receiver.calls
    assert Webhook(new).verify(both.body, both.headers) == Webhook(old).verify(both.body, both.headers)
    assert len(both.headers["webhook-signature"].split(" ")) == 2
    assert len(one.headers["webhook-signature"].split(" ")) == 1


def test_erased_number_takes_its_deliveries_along(hooks: Hooks, receiver: Receiver) -> None:
    """No event of an erased number is sent, not even that of its cancellation."""
    hooks.set(receiver.url)
    request = hooks.moved("sent", "delivered")
    other = hooks.moved("sent")

    counts = hooks.parts.erase("+447700900001", country=None, client_id=None, now=clock.now())

    assert counts["webhook_deliveries"] == 3
    assert [row["request_id"] for row in hooks.deliveries()] == [other.id]
    hooks.send()
    assert [call.of for call in receiver.calls] == [str(other.id)]
    assert request.id != other.id


def test_number_that_is_erased_while_its_receiver_answers(hooks: Hooks, receiver: Receiver) -> None:
    """A delivery in flight during an erasure is not recorded, and does not fail."""
    hooks.set(receiver.url)
    hooks.moved("sent")

    def answer(_: Call) -> int:
        hooks.parts.erase("+447700900001", country=None, client_id=None, now=clock.now())
        return 200

    receiver.answer = answer
    hooks.send()

    assert hooks.deliveries() == []


def test_old_deliveries_go_with_their_request(hooks: Hooks, receiver: Receiver) -> None:
    """Deliveries past the retention are deleted, delivered or not. Newer ones stay."""
    hooks.set(receiver.url)
    old = hooks.moved("sent", "expired")
    young = hooks.moved("sent", "expired")
    hooks.send()
    for request, days in ((old, 31), (young, 29)):
        hooks.rows.change(request.id, finished_at=clock.now() - timedelta(days=days))

    hooks.parts.purge(now=clock.now())

    assert {row["request_id"] for row in hooks.deliveries()} == {young.id}


def test_private_address_is_not_posted_to(hooks: Hooks, receiver: Receiver, make_parts: MakeParts) -> None:
    """A private address is not posted to unless it is allowed. The delivery fails and is retried."""
    hooks.set(receiver.url.replace("http:", "https:"))
    hooks.moved("sent")

    Hooks(make_parts(), hooks.rows).send()

    (row,) = hooks.deliveries()
    assert (row["state"], row["problem"]) == ("pending", "address_refused")
    assert receiver.calls == []


def test_number_that_cannot_be_opened_is_left_out(hooks: Hooks, receiver: Receiver) -> None:
    """An event of a request without a readable number is sent without it."""
    hooks.set(receiver.url)
    request = hooks.moved("sent")
    hooks.rows.change(request.id, seal_key_id="gone")

    hooks.send()

    assert receiver.calls[0].payload["data"]["phone_number"] is None


def test_secret_that_cannot_be_opened(hooks: Hooks, receiver: Receiver, make_parts: MakeParts) -> None:
    """Nothing is sent unsigned: with an unreadable secret a delivery fails, and is retried."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    other_key = "k2:" + base64.b64encode(b"x" * 32).decode()
    keyless = make_parts(OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true", OTPQUEUE_SEAL_KEYS=other_key)

    with structlog.testing.capture_logs() as logged:
        Hooks(keyless, hooks.rows).send()

    assert receiver.calls == []
    assert hooks.deliveries()[0]["problem"] == "secret_not_opened"
    assert logged[0]["event"] == "webhook_secret_not_opened"


def test_long_job_hands_over(hooks: Hooks, receiver: Receiver) -> None:
    """A job at its maximum run time wakes a successor, and waits for what it has in flight."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    woken: list[bool] = []

    hooks.sender(job_s=0, wake=lambda: woken.append(True) or True).run()

    assert woken == [True]
    assert receiver.calls == []


@pytest.mark.parametrize("listens", [True, False])
def test_worker_is_woken_only_for_subscribers(hooks: Hooks, receiver: Receiver, listens: bool) -> None:
    """A status change wakes a worker only if it has written a delivery."""
    hooks.set(receiver.url, client=CLIENT if listens else "other")
    request = hooks.ask()

    hooks.parts.cancel(request.id, client_id=request.client_id, now=clock.now())

    waiting = hooks.parts.redis.llen(jobs.SEND_WEBHOOKS.queue)
    assert waiting == (1 if listens else 0)
    assert hooks.parts.redis.exists("otpqueue:wake:send_webhooks") == waiting
