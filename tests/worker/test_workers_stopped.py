"""Real workers while sending is stopped: they claim nothing, and go on at once when it is resumed."""

from __future__ import annotations

from uuid import UUID

from otpqueue import clock
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.looking import Rows, served, until
from tests.worker.conftest import Start

PARIS = "+33612345678"


def test_stop_and_resume_under_workers(
    start: Start,
    parts: Parts,
    make_parts: MakeParts,
    ask: Ask,
    client_id: UUID,
    provider: Provider,
    rows: Rows,
) -> None:
    """What is due waits while others are sent; resuming wakes a worker, no sweep is needed."""
    start("worker", "--queues=send")
    until(lambda: "send" in served(parts), within_s=60)
    # A process of the API that has not learnt of the stop yet.
    caching = make_parts(OTPQUEUE_TUNING_ACCESS_CACHE_S="5")
    caching.access.current()
    parts.switch.stop(country="FR", client=None, reason=None, by="ann", now=clock.now())
    held = caching.request(RequestedCode(phone_number=PARIS), client_id=client_id, now=clock.now())
    other = ask(NUMBER)
    until(lambda: rows.request(other.id)["status"] == "sent")

    assert rows.request(held.id)["send_state"] == "due"
    parts.switch.resume(country="FR", client=None, by="ann", now=clock.now())

    until(lambda: rows.request(held.id)["status"] == "sent")
    assert len(provider.messages()) == 2
