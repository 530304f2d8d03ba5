"""The webhook events of whole requests through the simulator."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from otpqueue import clock, jobs
from otpqueue.domain.errors import CodeIncorrect
from otpqueue.domain.request import OtpRequest
from otpqueue.domain.webhooks import format_time
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from tests import leaks
from tests.api import contract
from tests.conftest import NUMBER, Provider
from tests.operations.looking import until
from tests.operations.receiver import Call, Receiver
from tests.operations.test_delivery_reports import report
from tests.operations.webhooking import Hooks

UNDELIVERED = "+442079460920"
"""The simulator reports that it was not delivered."""


class Life:
    """One request, and the webhook calls about it."""

    def __init__(self, hooks: Hooks, receiver: Receiver, provider: Provider, number: str) -> None:
        self.hooks, self.receiver, self.provider, self.number = hooks, receiver, provider, number
        self.secret = hooks.set(receiver.url)
        self.request = self._ask()
        self.waker_taken()

    def _ask(self) -> OtpRequest:
        wanted = RequestedCode(phone_number=self.number, session_id="s3ss10n", client_reference="order-1")
        return self.hooks.parts.request(wanted, client_id=self.hooks.client(), now=clock.now())

    def waker_taken(self) -> None:
        """Take the pending wake-up, so that the next one is published."""
        self.hooks.parts.webhook_waker.clear_flag()
        self.hooks.parts.redis.delete(jobs.SEND_WEBHOOKS.queue)

    def sent(self) -> None:
        """Have the code sent."""
        self.hooks.parts.pump.run()

    def check(self, code: str) -> None:
        """Verify a code."""
        attempted = TypedCode(code=code, session_id="s3ss10n")
        self.hooks.parts.verify(self.request.id, attempted, client_id=self.request.client_id, now=clock.now())

    def code(self) -> str:
        """Return the code that was sent."""
        return self.provider.code(self.number)

    def guess_wrong(self, times: int) -> None:
        """Verify with wrong codes."""
        for _ in range(times):
            with pytest.raises(CodeIncorrect):
                self.check(f"{(int(self.code()) + 1) % 1_000_000:06}")

    def reported(self) -> None:
        """Pull delivery reports until one has changed the request."""
        parts = self.hooks.parts

        def moved() -> bool:
            parts.receipts.pull(parts.infobip, now=clock.now())
            return bool(self.hooks.rows.request(self.request.id)["status"] != "sent")

        until(moved)

    def arrived(self) -> None:
        """Have a later delivery reported."""
        message_id = self.hooks.rows.attempts(self.request.id)[0]["external_message_id"]
        self.hooks.parts.receipts([report(message_id)], now=clock.now())

    def hear(self, *, woken: bool = True) -> Call:
        """Send due deliveries and return the one resulting call.

        `woken` is whether a worker was woken for it.
        """
        before = len(self.receiver.calls)
        assert self.hooks.parts.redis.llen(jobs.SEND_WEBHOOKS.queue) == (1 if woken else 0)
        self.waker_taken()
        self.hooks.send()
        (call,) = self.receiver.calls[before:]
        Webhook(self.secret).verify(call.body, call.headers)
        contract.check_webhook(call.headers, call.body)
        return call

    def body_of(self, call: Call) -> dict[str, Any]:
        """Return the body of a call, which is about this request."""
        data: dict[str, Any] = call.payload["data"]
        assert call.type == f"otp_request.{data['status']}"
        assert (data["id"], data["client_reference"]) == (str(self.request.id), "order-1")
        return data

    def nothing_leaked(self) -> None:
        """Fail if a receiver got a code, a whole number, a session or an id of the provider."""
        secrets = leaks.Secrets({"session": "s3ss10n", "secret": self.secret})
        secrets.add_number(self.number)
        for message in self.provider.messages(self.number):
            secrets.codes.add(str(message["pin"]))
        row = self.hooks.rows.request(self.request.id)
        secrets.texts["pin id"] = str(row["pin_id"])
        for attempt in self.hooks.rows.attempts(self.request.id):
            secrets.texts["message id"] = str(attempt["external_message_id"])
        heard = b"\n".join(json.dumps(call.headers).encode() + call.body for call in self.receiver.calls)
        assert secrets.found_in(heard) == []


def test_life_that_ends_well(hooks: Hooks, receiver: Receiver, provider: Provider) -> None:
    """Sent, undelivered, delivered, verified: each change is an event and wakes a worker."""
    life = Life(hooks, receiver, provider, UNDELIVERED)
    life.sent()
    sent = life.body_of(life.hear())
    life.reported()
    undelivered = life.body_of(life.hear())
    life.arrived()
    delivered = life.body_of(life.hear())
    life.guess_wrong(1)
    assert hooks.parts.redis.llen(jobs.SEND_WEBHOOKS.queue) == 0
    life.check(life.code())
    verified = life.body_of(life.hear())

    statuses = [one["status"] for one in (sent, undelivered, delivered, verified)]
    assert statuses == ["sent", "undelivered", "delivered", "verified"]
    row = hooks.rows.request(life.request.id)
    assert sent["phone_number"] == "+44********20"
    assert (sent["sent_at"], sent["expires_at"]) == (
        format_time(row["sent_at"]),
        format_time(row["expires_at"]),
    )
    assert (sent["reason"], verified["reason"]) == (None, "code_correct")
    assert len({call.id for call in receiver.calls}) == 4
    life.nothing_leaked()


def test_life_that_fails(hooks: Hooks, receiver: Receiver, provider: Provider) -> None:
    """A permanent refusal is an event with the reason and the provider's code."""
    life = Life(hooks, receiver, provider, NUMBER)
    provider.fault(match={"path": "/2fa/2/pin"}, status=400)
    life.sent()

    failed = life.body_of(life.hear())

    assert (failed["status"], failed["reason"], failed["provider_code"]) == (
        "failed",
        "provider_refused",
        "BAD_REQUEST",
    )
    assert (failed["sent_at"], failed["expires_at"]) == (None, None)
    life.nothing_leaked()


def test_life_that_is_guessed_at(hooks: Hooks, receiver: Receiver, provider: Provider) -> None:
    """The wrong code that locks a request causes an event. Those before it do not."""
    life = Life(hooks, receiver, provider, NUMBER)
    life.sent()
    life.hear()
    life.guess_wrong(4)
    hooks.send()
    assert len(receiver.calls) == 1
    life.guess_wrong(1)

    locked = life.body_of(life.hear())

    assert (locked["status"], locked["reason"]) == ("locked", "checks_exhausted")
    life.nothing_leaked()


def test_life_that_expires(hooks: Hooks, receiver: Receiver, provider: Provider) -> None:
    """An expired code is an event, sent when beat next wakes a worker."""
    life = Life(hooks, receiver, provider, NUMBER)
    life.sent()
    life.hear()
    hooks.parts.expire(now=clock.now() + timedelta(minutes=6))
    hooks.pass_time(minutes=6)

    hooks.send()
    expired = life.body_of(receiver.calls[-1])

    assert (expired["status"], expired["reason"]) == ("expired", "code_lifetime")
    life.nothing_leaked()


def test_life_that_is_called_off(hooks: Hooks, receiver: Receiver, provider: Provider) -> None:
    """A cancelled request is an event, and so is one that a newer request replaced."""
    life = Life(hooks, receiver, provider, NUMBER)
    replaced = life.request
    life.request = life._ask()
    hooks.send()
    assert (
        receiver.calls[0].payload["data"] | {"id": str(replaced.id), "reason": "replaced"}
        == receiver.calls[0].payload["data"]
    )

    hooks.parts.cancel(life.request.id, client_id=life.request.client_id, now=clock.now())
    cancelled = life.body_of(life.hear())

    assert (cancelled["status"], cancelled["reason"]) == ("cancelled", "cancelled_by_client")
