"""Waking for webhooks: only where something was written, and at no cost where nobody listens."""

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
    """Counts wake-ups, and the statements that were asked for them."""

    def __init__(self, hooks: Hooks, **differing: Any) -> None:
        self.count = 0
        self.statements = 0
        engine = hooks.parts.engine
        event.listen(engine, "before_cursor_execute", self._count_statement)
        self.tell = WakeWebhooks(engine=engine, wake=self._wake, **differing)

    def _wake(self) -> bool:
        self.count += 1
        return True

    def _count_statement(self, *_: Any) -> None:
        self.statements += 1


def test_only_moves_that_are_told_wake(hooks: Hooks) -> None:
    """A client with an endpoint wakes a worker, by the events it is told of alone."""
    hooks.set(URL, "verified", "expired")
    woken, me = Woken(hooks), hooks.client()

    for moves in ([], [(uuid4(), Status.VERIFIED)], [(me, Status.SENT)], [(me, Status.QUEUED)]):
        woken.tell(moves)
    assert woken.count == 0

    woken.tell([(uuid4(), Status.VERIFIED), (me, Status.SENT), (me, Status.VERIFIED), (me, Status.EXPIRED)])
    assert woken.count == 1


def test_where_nobody_listens_nothing_is_asked(hooks: Hooks) -> None:
    """A thousand moves cost one look at who wants to be told; their list is not even made."""
    woken = Woken(hooks)

    def moves() -> Any:
        raise AssertionError("looked at")
        yield

    for _ in range(1000):
        woken.tell(moves())

    assert (woken.count, woken.statements) == (0, 1)


def test_new_endpoint_is_noticed(hooks: Hooks) -> None:
    """Who wants to be told is looked up again after a while; one that is disabled does not."""
    woken, me = Woken(hooks, look_again_s=0), hooks.client()
    woken.tell([(me, Status.SENT)])
    hooks.set(URL)
    woken.tell([(me, Status.SENT)])
    assert woken.count == 1

    hooks.execute("UPDATE webhook_endpoints SET disabled_at = now(), disabled_reason = 'gone'")
    woken.tell([(me, Status.SENT)])
    assert woken.count == 1


def test_outage_harms_nobody(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    """While Postgres is away moves are told by what was known, and nothing is raised."""
    hooks.set(URL)
    woken = Woken(hooks, look_again_s=0)
    me = hooks.client(CLIENT)
    woken.tell([(me, Status.SENT)])
    nowhere = make_engine("postgresql://nobody@127.0.0.1:1/none", pool_size=1)
    monkeypatch.setattr(woken.tell, "_engine", nowhere)

    woken.tell([(me, Status.SENT)])

    assert woken.count == 2
    nowhere.dispose()
