"""Administration of webhooks."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from standardwebhooks import Webhook

from otpqueue import clock, jobs
from otpqueue.domain.audit import AuditFilters, OperatorAction
from otpqueue.domain.errors import InvalidRequest
from otpqueue.domain.webhooks import WebhookState
from tests.api import contract
from tests.conftest import MakeParts
from tests.operations.receiver import Receiver, never
from tests.operations.webhooking import CLIENT, Hooks

HOUR = timedelta(hours=1)
OTHER_KEY = "k2:" + base64.b64encode(b"x" * 32).decode()


def test_setting_again_keeps_the_secret(hooks: Hooks, receiver: Receiver) -> None:
    """A second URL replaces the first. Secret and events stay unless they are given."""
    hooks.client()
    secret = hooks.parts.webhooks.set(CLIENT, "https://old.example/", events=["sent"], now=hooks.now())
    again = hooks.parts.webhooks.set(CLIENT, receiver.url, events=[], now=hooks.now())
    assert (secret is None, again) == (False, None)

    hooks.moved("sent", "delivered")
    hooks.send()
    assert receiver.types == ["otp_request.sent"]
    assert secret
    Webhook(secret).verify(receiver.calls[0].body, receiver.calls[0].headers)

    hooks.parts.webhooks.set(CLIENT, receiver.url, events=["delivered"], now=hooks.now())
    hooks.moved("sent", "delivered")
    hooks.send()
    assert receiver.types == ["otp_request.sent", "otp_request.delivered"]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://shop.example/", "must begin with https://"),
        ("https://user:secret@shop.example/", "must not contain a user or password"),
        ("https://shop.example:25/", "must use port 443, 80"),
        ("shop.example", "must be a URL like"),
        ("https://shop.example/ x", "must be a URL like"),
    ],
)
def test_url_is_refused(make_parts: MakeParts, hooks: Hooks, url: str, why: str) -> None:
    """A URL that would never be posted to is rejected."""
    hooks.client()

    with pytest.raises(InvalidRequest) as raised:
        make_parts().webhooks.set(CLIENT, url, events=(), now=clock.now())

    assert raised.value.errors[0].field == "url"
    assert why in raised.value.errors[0].message


def test_unknown_names_are_refused(hooks: Hooks) -> None:
    """An unknown client, one without a webhook, and an unknown event have different errors."""
    with pytest.raises(InvalidRequest) as unknown:
        hooks.parts.webhooks.set("unknown", "https://shop.example/", events=(), now=hooks.now())
    hooks.client()
    with pytest.raises(InvalidRequest) as none:
        hooks.parts.webhooks.show(CLIENT, now=hooks.now())
    with pytest.raises(InvalidRequest) as event:
        hooks.parts.webhooks.set(CLIENT, "https://shop.example/", events=["sold"], now=hooks.now())

    assert "does not exist" in unknown.value.errors[0].message
    assert "has no webhook" in none.value.errors[0].message
    assert event.value.errors[0].field == "events"


def test_test_event(hooks: Hooks, receiver: Receiver) -> None:
    """A test is signed like any delivery, has a new id each time, and its response is returned."""
    secret = hooks.set(receiver.url)
    receiver.answer = lambda _: 204 if len(receiver.calls) == 1 else None

    first = hooks.parts.webhooks.test(CLIENT, now=clock.now())
    second = hooks.parts.webhooks.test(CLIENT, now=clock.now())

    assert [str(one.answer) for one in (first, second)] == ["HTTP 204", "connection_cut"]
    call, other = receiver.calls
    said = Webhook(secret).verify(call.body, call.headers)
    assert (said["type"], said["data"]) == ("otpqueue.test", {"client": CLIENT})
    contract.check_webhook(call.headers, call.body)
    assert call.id != other.id
    assert hooks.deliveries() == []


def test_show_counts_what_is_left(hooks: Hooks, receiver: Receiver) -> None:
    """Waiting and abandoned deliveries are counted, and the endpoint shows no secret."""
    secret = hooks.set(receiver.url)
    receiver.answer = never
    hooks.moved("sent")
    hooks.moved("sent", "verified")
    hooks.send()

    endpoint, left = hooks.parts.webhooks.show(CLIENT, now=hooks.now())

    assert left == {WebhookState.PENDING: 3, WebhookState.GIVEN_UP: 0}
    assert endpoint.failing_since is not None
    assert (endpoint.client, endpoint.url, endpoint.secrets) == (CLIENT, receiver.url, (secret,))
    assert secret not in repr(endpoint)
    assert [one.client for one in hooks.parts.webhooks.every(now=hooks.now())] == [CLIENT]


def test_deliveries_are_listed(hooks: Hooks, receiver: Receiver) -> None:
    """Newest first, optionally of one request, or those with a failed last attempt."""
    hooks.set(receiver.url)
    first = hooks.moved("sent", "delivered")
    receiver.answer = lambda call: 500 if call.of != str(first.id) else 200
    second = hooks.moved("sent")
    hooks.send()
    third = hooks.moved("sent")

    def listed(**filters: object) -> list[tuple[object, ...]]:
        found = hooks.parts.webhooks.deliveries(
            CLIENT, **({"failed": False, "request_id": None, "limit": 10} | filters)
        )
        return [(one.request_id, one.event.partition(".")[2], one.state.value) for one in found]

    delivered = [(first.id, "delivered", "delivered"), (first.id, "sent", "delivered")]
    failed = [(second.id, "sent", "pending")]
    assert listed() == [(third.id, "sent", "pending"), *failed, *delivered]
    assert listed(failed=True) == failed
    assert listed(request_id=first.id) == delivered
    assert listed(limit=1) == [(third.id, "sent", "pending")]


def test_retry(hooks: Hooks, receiver: Receiver) -> None:
    """Waiting and abandoned deliveries are retried now and wake a worker. Delivered ones are not."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    hooks.send()
    receiver.answer = never
    waits, given_up = hooks.moved("sent"), hooks.moved("sent")
    sender = hooks.sender()
    sender.run()
    hooks.pass_time(minutes=1)
    (row,) = hooks.deliveries(request_id=given_up.id)
    hooks.execute(
        "UPDATE webhook_deliveries SET state = 'given_up', next_try_at = NULL WHERE id = :id", id=row["id"]
    )
    receiver.answer = lambda _: 200

    assert hooks.parts.webhooks.retry(CLIENT, ids=[row["id"]], now=hooks.now()) == 1
    assert hooks.parts.redis.llen(jobs.SEND_WEBHOOKS.queue) == 1
    hooks.execute(
        "UPDATE webhook_deliveries SET next_try_at = next_try_at + interval '9 h' WHERE id <> :id",
        id=row["id"],
    )
    hooks.send()
    assert [call.of for call in receiver.taken[1:]] == [str(given_up.id)]

    assert hooks.parts.webhooks.retry(CLIENT, ids=(), now=hooks.now()) == 1
    hooks.send()
    assert [call.of for call in receiver.taken[2:]] == [str(waits.id)]
    assert hooks.parts.webhooks.retry(CLIENT, ids=(), now=hooks.now()) == 0
    assert [row["tries"] for row in hooks.deliveries()] == [1, 1, 1]
    # An interrupted retry leaves an entry, too: it has several transactions.
    retries = AuditFilters(action=OperatorAction.WEBHOOK_RETRIED)
    entries = hooks.parts.audit.list(retries, cursor=None, limit=9).entries
    assert [one.outcome.value for one in entries] == ["done", "started"] * 3
    assert [one.details.get("deliveries") for one in entries[::2]] == [0, 1, 1]
    assert {one.client for one in entries} == {CLIENT}


def test_retry_leaves_what_is_in_flight(hooks: Hooks, receiver: Receiver) -> None:
    """A delivery that a worker is posting is not posted a second time."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    counts: list[int] = []

    def answer(_: object) -> int:
        counts.append(hooks.parts.webhooks.retry(CLIENT, ids=(), now=hooks.now()))
        return 200

    receiver.answer = answer
    hooks.send()

    assert (counts, len(receiver.calls)) == ([0], 1)


def test_remove(hooks: Hooks, receiver: Receiver) -> None:
    """Waiting deliveries are abandoned, and not sent to a later endpoint of the client."""
    hooks.set(receiver.url)
    hooks.moved("sent", "delivered")

    assert hooks.parts.webhooks.remove(CLIENT, now=hooks.now()) == 2

    hooks.moved("sent")
    hooks.set(receiver.url)
    hooks.send()
    assert receiver.calls == []
    assert [row["state"] for row in hooks.deliveries()] == ["given_up", "given_up"]


def test_rotating_without_overlap(hooks: Hooks, receiver: Receiver) -> None:
    """Without an overlap the old secret no longer signs. After two rotations the newest two remain."""
    first = hooks.set(receiver.url)
    second = hooks.parts.webhooks.rotate_secret(CLIENT, overlap=HOUR, now=hooks.now())
    third = hooks.parts.webhooks.rotate_secret(CLIENT, overlap=HOUR, now=hooks.now())
    endpoint, _ = hooks.parts.webhooks.show(CLIENT, now=hooks.now())
    assert endpoint.secrets == (third, second)

    fourth = hooks.parts.webhooks.rotate_secret(CLIENT, overlap=timedelta(), now=hooks.now())
    endpoint, _ = hooks.parts.webhooks.show(CLIENT, now=hooks.now())
    assert endpoint.secrets == (fourth,)
    assert len({first, second, third, fourth}) == 4


def test_sealing_key_is_replaced(hooks: Hooks, receiver: Receiver, make_parts: MakeParts) -> None:
    """Secrets are sealed again with the numbers, so that the old key is removable."""
    secret = hooks.set(receiver.url)
    old = hooks.parts.settings.require("seal_keys")
    both = make_parts(OTPQUEUE_SEAL_KEYS=f"{OTHER_KEY},{old}")

    sealed = both.rotate_seal(progress=lambda *_: None)

    assert sealed.counts == {"k2": 1}
    assert both.webhooks.show(CLIENT, now=hooks.now())[0].secrets == (secret,)


def test_sealing_key_is_lost(hooks: Hooks, receiver: Receiver, make_parts: MakeParts) -> None:
    """A webhook with an unreadable secret is disabled, and can be enabled with a new one."""
    hooks.set(receiver.url)
    other = make_parts(OTPQUEUE_SEAL_KEYS=OTHER_KEY, OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true")
    assert other.rotate_seal.missing() == {"k1": 1}

    other.rotate_seal.drop("k1")

    assert hooks.endpoint()["disabled_reason"] == "secret_lost"
    with pytest.raises(InvalidRequest) as raised:
        other.webhooks.enable(CLIENT, now=hooks.now())
    assert "rotate-secret" in raised.value.errors[0].message
    secret = other.webhooks.rotate_secret(CLIENT, overlap=HOUR, now=hooks.now())
    other.webhooks.enable(CLIENT, now=hooks.now())
    assert other.webhooks.test(CLIENT, now=clock.now()).answer.is_success
    Webhook(secret).verify(receiver.calls[0].body, receiver.calls[0].headers)
