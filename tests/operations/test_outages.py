"""Outages of Postgres longer than leases: outcomes are recorded, and nothing is done twice."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from uuid import UUID

import pytest
import structlog
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.operations.request import RequestedCode
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, Ask, Engines, MakeParts, Provider
from tests.operations.looking import Rows, connections_refused, numbers, until
from tests.operations.receiver import Call, Receiver
from tests.operations.webhooking import Hooks

OUTAGE_S = 3.0
LEASE = {
    "OTPQUEUE_TUNING_SEND_LEASE_S": "2",
    "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "1",
    "OTPQUEUE_TUNING_DATABASE_WAIT_S": "0.2",
}


@contextmanager
def sweeping(parts: Parts) -> Iterator[None]:
    """Sweep continuously during the block, far more often than beat does."""
    over = threading.Event()

    def sweep() -> None:
        while not over.wait(0.1):
            with suppress(DatabaseUnavailable):
                parts.sweep(now=clock.now())

    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(sweep)
        yield
        over.set()
        running.result(30)


@pytest.mark.parametrize("is_stopping", [False, True], ids=["working", "stopping"])
def test_known_outcome_outlives_an_outage_longer_than_the_lease(
    parts: Parts,
    make_parts: MakeParts,
    client_id: UUID,
    engines: Engines,
    database_url: str,
    provider: Provider,
    rows: Rows,
    is_stopping: bool,
) -> None:
    """Each person gets one message, even if the worker is stopped meanwhile."""
    worker, beat = (make_parts(**NO_LIMITS, **LEASE, OTPQUEUE_GUARD="off") for _ in range(2))
    asked = [
        worker.request(RequestedCode(phone_number=number), client_id=client_id, now=clock.now())
        for number in numbers(6)
    ]
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=500)

    with ThreadPoolExecutor(1) as job, structlog.testing.capture_logs() as logs, sweeping(beat):
        running = job.submit(worker.pump.run)
        until(lambda: len(provider.messages()) == len(asked))
        with connections_refused(engines, database_url):
            if is_stopping:
                worker.pump.stop()
            time.sleep(OUTAGE_S)
        running.result(60)
        time.sleep(1)
    worker.pump.run()
    beat.pump.run()

    assert "record_failed" in {one["event"] for one in logs}
    assert {rows.request(one.id)["status"] for one in asked} == {"sent"}
    assert sorted(message["to"] for message in provider.messages()) == sorted(
        number.removeprefix("+") for number in numbers(6)
    )


def test_outcome_that_postgres_refuses_takes_no_other_along(
    parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """One row that cannot be written leaves its attempt unknown. The others are recorded."""
    refused, *others = [ask(number) for number in numbers(4)]
    with connection(parts.engine) as conn:
        conn.execute(
            text(
                f"""
                CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                    IF NEW.request_id = '{refused.id}' AND NEW.outcome = 'accepted' THEN
                        RAISE EXCEPTION 'never' USING ERRCODE = 'check_violation';
                    END IF;
                    RETURN NEW;
                END $$
                """
            )
        )
        conn.execute(
            text(
                "CREATE TRIGGER refuse BEFORE UPDATE ON send_attempts FOR EACH ROW EXECUTE FUNCTION refuse()"
            )
        )
    try:
        with structlog.testing.capture_logs() as logs:
            parts.pump.run()
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("DROP FUNCTION refuse CASCADE"))

    assert {rows.request(one.id)["status"] for one in others} == {"sent"}
    assert [one["otp_id"] for one in logs if one["event"] == "outcome_refused"] == [str(refused.id)]
    assert len(provider.messages()) == 4


def test_refused_result_of_a_webhook_takes_no_other_along(hooks: Hooks, receiver: Receiver) -> None:
    """One delivery that cannot be recorded keeps its lease; all others are posted and recorded."""
    hooks.set(receiver.url)
    refused, *others = [hooks.moved("sent") for _ in range(4)]
    hooks.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.request_id = '{refused.id}' AND NEW.state = 'delivered' THEN
                RAISE EXCEPTION 'never' USING ERRCODE = 'check_violation';
            END IF;
            RETURN NEW;
        END $$
        """
    )
    hooks.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON webhook_deliveries FOR EACH ROW EXECUTE FUNCTION refuse()"
    )
    try:
        with structlog.testing.capture_logs() as logs:
            hooks.sender(threads=2).run()
    finally:
        hooks.execute("DROP FUNCTION refuse CASCADE")

    assert [one["otp_id"] for one in logs if one["event"] == "webhook_outcome_refused"] == [str(refused.id)]
    states = {row["request_id"]: row["state"] for row in hooks.deliveries()}
    assert [states[one.id] for one in [refused, *others]] == ["pending"] + ["delivered"] * 3
    assert len(receiver.calls) == 4


def test_webhook_that_arrived_is_not_posted_again(
    hooks: Hooks, receiver: Receiver, engines: Engines, database_url: str
) -> None:
    """A receiver that has answered 200 gets no second delivery, though the lease expires in the outage."""
    hooks.set(receiver.url)
    hooks.moved("sent")
    outage = connections_refused(engines, database_url)

    def answer(_: Call) -> int:
        outage.__enter__()
        return 200

    receiver.answer = answer
    sender = hooks.sender(lease_s=2)
    with ThreadPoolExecutor(1) as job:
        running = job.submit(sender.run)
        until(lambda: receiver.calls)
        time.sleep(OUTAGE_S)
        outage.__exit__(None, None, None)
        running.result(60)
    hooks.sender(lease_s=2).run()

    assert len(receiver.calls) == 1
    assert [(row["state"], row["tries"]) for row in hooks.deliveries()] == [("delivered", 1)]


def test_locked_delivery_holds_up_no_other(hooks: Hooks, receiver: Receiver) -> None:
    """Only the delivery with the locked row is recorded later."""
    hooks.set(receiver.url)
    held, other = hooks.moved("sent"), hooks.moved("sent")
    engine = hooks.parts.engine.execution_options(isolation_level="READ COMMITTED")
    with connection(engine) as conn, ThreadPoolExecutor(1) as job:

        def answer(call: Call) -> int:
            if call.of == str(held.id):
                conn.execute(
                    text("SELECT FROM webhook_deliveries WHERE request_id = :id FOR UPDATE"), {"id": held.id}
                )
            return 200

        receiver.answer = answer
        running = job.submit(hooks.send)
        until(lambda: [row["state"] for row in hooks.deliveries(request_id=other.id)] == ["delivered"])
        assert not running.done()
        conn.rollback()
        running.result(60)

    assert {row["state"] for row in hooks.deliveries()} == {"delivered"}
    assert len(receiver.calls) == 2
