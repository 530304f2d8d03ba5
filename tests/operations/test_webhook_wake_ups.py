"""Wake-ups of webhook workers: only for subscribed events, and without cost otherwise."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import event

from otpqueue.domain.request import Status
from otpqueue.operations.webhooks.wake import WakeWebhooks
from otpqueue.store.engine import make_engine
from tests.operations.webhooking import CLIENT, Hooks

URL = "https://shop.example/"


class Woken:
    """Counts wake-ups, and the statements for them."""

    def __init__(self, hooks: Hooks, **differing: Any) -> None:
        self.count = 0
        self.statements = 0
        engine = hooks.parts.engine
        event.listen(engine, "before_cursor_execute", self._count_statement)
        self.wake = WakeWebhooks(engine=engine, wake=self._wake, **differing)

    def _wake(self) -> bool:
        self.count += 1
        return True

    def _count_statement(self, *_: Any) -> None:
        self.statements += 1


def test_only_subscribed_events_wake(hooks: Hooks) -> None:
    """Only a client with an endpoint wakes a worker, and only for its subscribed events."""
    hooks.set(URL, "verified", "expired")
    woken, me = Woken(hooks), hooks.client()

    for moves in ([], [(uuid4(), Status.VERIFIED)], [(me, Status.SENT)], [(me, Status.QUEUED)]):
        woken.wake(moves)
    assert woken.count == 0

    woken.wake([(uuid4(), Status.VERIFIED), (me, Status.SENT), (me, Status.VERIFIED), (me, Status.EXPIRED)])
    assert woken.count == 1


def test_without_endpoints_nothing_is_queried(hooks: Hooks) -> None:
    """A thousand status changes cost one query of the subscriptions. Their list is not even built."""
    woken = Woken(hooks)

    def moves() -> Any:
        raise AssertionError("looked at")
        yield

    for _ in range(1000):
        woken.wake(moves())

    assert (woken.count, woken.statements) == (0, 1)


def test_new_endpoint_is_noticed(hooks: Hooks) -> None:
    """The subscriptions are queried again after a while. A disabled endpoint does not count."""
    woken, me = Woken(hooks, look_again_s=0), hooks.client()
    woken.wake([(me, Status.SENT)])
    hooks.set(URL)
    woken.wake([(me, Status.SENT)])
    assert woken.count == 1

    hooks.execute("UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'gone'")
    woken.wake([(me, Status.SENT)])
    assert woken.count == 1


def test_outage_raises_nothing(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres is down the cached subscriptions apply, and nothing is raised."""
    hooks.set(URL)
    woken = Woken(hooks, look_again_s=0)
    me = hooks.client(CLIENT)
    woken.wake([(me, Status.SENT)])
    nowhere = make_engine("postgresql://unknown@127.0.0.1:1/none", pool_size=1)
    monkeypatch.setattr(woken.wake, "_engine", nowhere)

    woken.wake([(me, Status.SENT)])

    assert woken.count == 2
    nowhere.dispose()
