"""Webhooks by real workers: woken, killed during a delivery, stopped."""

from __future__ import annotations

import os
import signal
import threading

from sqlalchemy import text

from otpqueue import clock
from otpqueue.settings import load
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from otpqueue.worker.schedule import build_beat_schedule
from tests.conftest import Ask
from tests.operations.looking import Rows, until
from tests.operations.receiver import Receiver
from tests.operations.webhooking import Hooks
from tests.worker.conftest import Start

SLOW = ("worker", "--queues=slow")
PRIVATE = {"OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}


def test_beat_looks_for_webhooks() -> None:
    """Beat starts the delivery of due webhooks every ten seconds, or as configured."""
    usual, often = (
        build_beat_schedule(load(given, dotenv=None))
        for given in ({}, {"OTPQUEUE_TUNING_WEBHOOKS_EVERY_S": "2"})
    )

    assert (usual["send_webhooks"]["schedule"], often["send_webhooks"]["schedule"]) == (10, 2)
    assert usual["send_webhooks"]["options"]["queue"] == "slow"


def test_workers_that_end_while_a_receiver_answers(
    start: Start, parts: Parts, ask: Ask, rows: Rows, environment: dict[str, str]
) -> None:
    """A killed worker's delivery is repeated with the same id. A stopped worker finishes."""
    hooks = Hooks(Parts(load(environment | PRIVATE, dotenv=None)), rows)
    go_on = threading.Event()

    def until_woken(count: int) -> None:
        until(lambda: hooks.parts.webhook_waker.wake() and len(receiver.calls) >= count, within_s=60)

    with Receiver() as receiver:
        receiver.answer = lambda _: 200 if go_on.wait(90) else None
        hooks.set(receiver.url)
        hooks.move(ask(), "sent")
        killed = start(*SLOW, **PRIVATE)
        until_woken(1)
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait(10)
        (row,) = hooks.deliveries()
        assert (row["state"], row["tries"]) == ("pending", 1)
        assert row["lease_until"] > clock.now()
        with connection(parts.engine) as conn:
            conn.execute(text("UPDATE webhook_deliveries SET lease_until = now()"))  # time passes

        successor = start(*SLOW, **PRIVATE)
        until_woken(2)
        os.kill(successor.pid, signal.SIGTERM)
        threading.Timer(0.5, go_on.set).start()

        assert successor.wait(30) == 0
        (row,) = hooks.deliveries()
        assert (row["state"], row["tries"], row["http_status"]) == ("delivered", 2, 200)
        first, second = receiver.calls
        assert (first.id, first.body) == (second.id, second.body)
    hooks.parts.close()
