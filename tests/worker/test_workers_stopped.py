"""Real workers while sending is stopped: they claim nothing, and go on at once when it is resumed."""

from __future__ import annotations

from otpqueue import clock
from otpqueue.wiring import Parts
from tests.conftest import Ask, Provider
from tests.operations.looking import Rows, numbers, until
from tests.worker.conftest import Start


def test_stop_and_resume_under_workers(
    start: Start, parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """What is due waits through the stop; resuming wakes a worker, no sweep is needed."""
    start("worker", "--queues=send")
    until(lambda: "send" in parts.presence.queues_served(), within_s=60)
    before = ask()
    until(lambda: rows.request(before.id)["status"] == "sent")
    waiting = [ask(number) for number in numbers(20)[10:15]]
    until(lambda: all(rows.request(one.id)["status"] == "sent" for one in waiting))

    # Accepted before the stop, and looked at after it.
    held = ask(numbers(20)[16])
    until(lambda: rows.request(held.id)["status"] == "sent")
    parts.switch.stop(country="FR", client=None, reason=None, by="ann", now=clock.now())
    rows.change(held.id, status="queued", send_state="due", next_attempt_at=clock.now(), country="FR")
    other = ask(numbers(20)[17])
    until(lambda: rows.request(other.id)["status"] == "sent")

    assert rows.request(held.id)["send_state"] == "due"
    parts.switch.resume(country="FR", client=None, by="ann", now=clock.now())

    until(lambda: rows.request(held.id)["status"] == "sent")
    assert len(provider.messages()) == 9
