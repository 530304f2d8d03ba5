"""The pump sends each due request once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from itertools import accumulate
from typing import Any
from uuid import UUID

import pytest
import structlog
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.errors import RequestCancelled
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.domain.sending import Outcome, OutcomeEvidence, OutgoingMessage
from otpqueue.embedded import Postgres
from otpqueue.operations.request import RequestedCode
from otpqueue.operations.verify import TypedCode
from otpqueue.store.claims import PumpTurn, take_turn
from otpqueue.store.engine import connection, make_engine
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts
from tests.conftest import INFOBIP_KEY, NUMBER, Ask, Engines, MakeParts, Provider
from tests.operations.conftest import MakePump
from tests.operations.looking import Rows, at_once, numbers, until

Ages = Callable[[float], OtpRequest]


@pytest.fixture
def ask_ago(parts: Parts, client_id: UUID) -> Ages:
    """Return a function that requests a code as if some seconds ago."""

    def ask_ago(seconds: float) -> OtpRequest:
        then = clock.now() - timedelta(seconds=seconds)
        return parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=then)

    return ask_ago


def test_due_request_is_sent(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A due request is sent by the provider and can then be verified."""
    request = ask()

    parts.pump.run()

    sent = parts.status(request.id, client_id=request.client_id)
    assert sent.status is Status.SENT
    (message,) = provider.messages(NUMBER)
    row, (attempt,) = rows.request(request.id), rows.attempts(request.id)
    assert (row["send_state"], row["lease_until"], row["pin_id"]) == ("idle", None, message["pinId"])
    assert (attempt["number"], attempt["outcome"], attempt["code"]) == (1, "accepted", "MESSAGE_SENT")
    assert (attempt["http_status"], attempt["pin_id"]) == (200, message["pinId"])
    assert attempt["latency_ms"] >= 0


def test_times_of_a_sent_code(parts: Parts, ask: Ask, rows: Rows) -> None:
    """The code's life starts when the provider is called, so that ours ends before the provider's."""
    request = ask()

    parts.pump.run()

    row, (attempt,) = rows.request(request.id), rows.attempts(request.id)
    assert row["created_at"] <= attempt["claimed_at"] <= attempt["started_at"] <= attempt["finished_at"]
    assert row["sent_at"] == attempt["finished_at"]
    assert row["expires_at"] == attempt["started_at"] + timedelta(minutes=5)


def test_eight_pumps_send_twenty_rows_once(
    parts: Parts, ask: Ask, make_parts: MakeParts, provider: Provider, rows: Rows
) -> None:
    """Concurrent pumps in many processes send each request exactly once."""
    pumps = [make_parts().pump for _ in range(8)]
    at_once([pump.run for pump in pumps])  # already connected, so that they compete for the rows

    for total in range(20, 120, 20):
        for number in numbers(120)[total:][:20]:
            ask(number)
        at_once([pump.run for pump in pumps])

        assert len(provider.messages()) == len(rows.attempts()) == total
    assert len({message["to"] for message in provider.messages()}) == 100
    assert {row["status"] for row in rows.requests()} == {"sent"}


def test_late_and_repeated_wake_ups_send_nothing(
    parts: Parts, ask: Ask, make_parts: MakeParts, provider: Provider, rows: Rows
) -> None:
    """A job after everything is sent, or a concurrent second one, finds nothing to do."""
    ask()
    parts.pump.run()

    parts.pump.run()
    at_once([parts.pump.run, parts.pump.run, make_parts().pump.run])

    assert len(provider.messages()) == 1
    assert len(rows.attempts()) == 1


def test_jobs_of_one_process_miss_nothing(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A row that is committed while another job ends is sent, and none is sent twice."""

    def ask_and_run(number: str, pause_s: float) -> None:
        time.sleep(pause_s)
        ask(number)
        parts.pump.run()

    for asked in range(0, 120, 4):
        moments = [random.random() * 0.03 for _ in range(4)]
        at_once(
            [
                partial(ask_and_run, number, moment)
                for number, moment in zip(numbers(120)[asked:], moments, strict=False)
            ]
        )

        assert {row["status"] for row in rows.requests()} == {"sent"}
    assert len(provider.messages()) == len(rows.attempts()) == 120


def test_row_committed_between_last_look_and_end_is_sent(
    ask: Ask,
    rows: Rows,
    background: ThreadPoolExecutor,
    make_pump: MakePump,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A job that starts just after the last query of another one makes that one query again."""
    pump = make_pump()
    late: list[OtpRequest] = []

    def commit_after_the_last_look(*args: Any, **kwargs: Any) -> PumpTurn:
        turn = take_turn(*args, **kwargs)
        if not turn.claims and not turn.next_due and kwargs["slots"] and not late:
            late.append(ask(numbers(1)[0]))
            background.submit(pump.run).result(10)
        return turn

    monkeypatch.setattr("otpqueue.operations.send.claims.take_turn", commit_after_the_last_look)
    ask()

    pump.run()

    assert rows.request(late[0].id)["status"] == "sent"
    assert len(rows.attempts()) == 2


def test_never_more_in_flight_than_threads(
    patient_parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """With a slow provider and more rows than threads all are sent, one per thread at a time."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=300)
    for number in numbers(24):
        ask(number)

    at_once([patient_parts.pump.run, patient_parts.pump.run])

    attempts = rows.attempts()
    assert [row["outcome"] for row in attempts] == ["accepted"] * 24
    steps = [(row["started_at"], 1) for row in attempts] + [(row["finished_at"], -1) for row in attempts]
    in_flight = list(accumulate(step for _, step in sorted(steps)))
    assert 5 <= max(in_flight) <= patient_parts.settings.sender_threads == 8


def test_job_waits_quietly_for_a_free_thread(
    ask: Ask,
    provider: Provider,
    background: ThreadPoolExecutor,
    make_pump: MakePump,
    statements: list[str],
) -> None:
    """A job that finds all threads busy with another job's sends does not poll the database."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=900, times=2)
    pump = make_pump(threads=2, job_s=0.1, wake=lambda: False)
    for number in numbers(3):
        ask(number)
    jobs = [background.submit(pump.run)]
    until(lambda: len(provider.messages()) == 2)
    time.sleep(0.2)  # past the first job's time: it now only waits for what is in flight

    statements.clear()
    jobs.append(background.submit(pump.run))

    until(lambda: len(provider.messages()) == 3)
    for job in jobs:
        job.result(10)
    assert 0 < len(statements) < 20


def test_job_hands_over_what_falls_due_after_it(
    parts: Parts, ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump
) -> None:
    """A retry that is due after the job's time does not wait for the sweep: the job wakes a successor."""
    woken: list[int] = []

    def wake() -> bool:
        woken.append(1)
        return True

    provider.fault(latency_ms=400, status=429, headers={"Retry-After": "1"}, times=1)
    pump = make_pump(job_s=1.2, wake=wake)
    request = ask()

    pump.run()
    while rows.request(request.id)["status"] == "queued":
        assert woken, "the job ended with a request due and woke no worker"
        woken.clear()
        pump.run()

    assert rows.outcomes(request.id) == ["refused", "accepted"]


def test_nothing_leaves_after_the_deadline(
    parts: Parts, ask_ago: Ages, provider: Provider, rows: Rows
) -> None:
    """A request that was not claimed by `send_by` is not sent, even if the wake-up is late."""
    request = ask_ago(90)

    parts.pump.run()

    assert provider.messages() == []
    assert rows.attempts() == []
    assert rows.request(request.id)["status"] == "queued"  # the sweep ends it


def test_claimed_request_is_not_sent_after_the_deadline(
    ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump
) -> None:
    """A sender checks the deadline again just before it sends. A late claim is given back, and expires."""
    request = ask()
    deadline = clock.now() + timedelta(seconds=1.5)
    rows.change(request.id, send_by=deadline)

    def held_up_after_the_claim() -> bool:
        time.sleep(max(0, (deadline - clock.now()).total_seconds()))
        return False

    make_pump(threads=1, wake=held_up_after_the_claim).run()

    assert provider.messages() == []
    assert rows.outcomes(request.id) == ["returned"]
    row = rows.request(request.id)
    assert (row["status"], row["reason"], row["send_state"]) == ("expired", "send_deadline", "idle")


def test_stale_claim_is_given_back(ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump) -> None:
    """A claim older than half its lease is not sent, because the lease might expire meanwhile."""
    held_up_s = iter([1.2])
    request = ask()

    def held_up_after_the_claim() -> bool:
        time.sleep(next(held_up_s, 0))
        return False

    make_pump(threads=1, lease_s=2, wake=held_up_after_the_claim).run()

    assert rows.outcomes(request.id) == ["returned", "accepted"]
    assert rows.request(request.id)["tries"] == 1
    assert len(provider.messages()) == 1


def test_stop_finishes_what_is_in_flight_and_gives_back_the_rest(
    ask: Ask, provider: Provider, rows: Rows, background: ThreadPoolExecutor, make_pump: MakePump
) -> None:
    """A stopped pump records what it is sending.

    Its other claims are due again, and the attempt is not counted.
    """
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=800)
    pump = make_pump(threads=4, wake=lambda: bool(pump.stop()))
    first = [ask(number) for number in numbers(3)]
    job = background.submit(pump.run)
    until(lambda: len(provider.messages()) == 3)

    # The claim that fills the last thread wakes another worker. This one stops at that moment.
    last = ask()
    job.result(10)

    assert [rows.outcomes(request.id) for request in first] == [["accepted"]] * 3
    assert {rows.request(request.id)["status"] for request in first} == {"sent"}
    row, (attempt,) = rows.request(last.id), rows.attempts(last.id)
    assert (attempt["outcome"], attempt["started_at"], attempt["latency_ms"]) == ("returned", None, None)
    assert (row["status"], row["send_state"], row["attempt"], row["tries"]) == ("queued", "due", 1, 0)
    assert row["next_attempt_at"] < row["send_by"]
    assert len(provider.messages()) == 3


def test_given_back_request_is_sent_by_the_next_worker(
    parts: Parts, ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump
) -> None:
    """A claim that a stopped worker gave back is sent by another, as a new attempt.

    A stopped one claims nothing.
    """
    stopped = make_pump(threads=1, wake=lambda: bool(stopped.stop()))
    request = ask()
    stopped.run()
    stopped.run()

    parts.pump.run()

    assert rows.outcomes(request.id) == ["returned", "accepted"]
    assert rows.request(request.id)["tries"] == 1
    assert len(provider.messages()) == 1


def test_nothing_is_claimed_before_provisioning(
    ask: Ask, make_parts: MakeParts, provider: Provider, rows: Rows
) -> None:
    """Without the provider's ids nothing is claimed and no attempt is used. Requests keep their deadlines."""
    request = ask()
    unprovisioned = make_parts(INFOBIP_APP_NAME="not provisioned")

    unprovisioned.pump.run()

    row = rows.request(request.id)
    assert (row["status"], row["send_state"], row["attempt"]) == ("queued", "due", 0)
    assert provider.messages() == []


def test_cancelled_request_is_not_sent(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A request that is cancelled before it is claimed is never sent."""
    request = ask()
    parts.cancel(request.id, client_id=request.client_id, now=clock.now())

    parts.pump.run()

    assert provider.messages() == []
    assert rows.attempts() == []


def test_cancelled_while_sending_stays_cancelled(
    patient_parts: Parts, ask: Ask, provider: Provider, rows: Rows, background: ThreadPoolExecutor
) -> None:
    """A late success of a cancelled request is only recorded on the attempt."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=500)
    request = ask()
    job = background.submit(patient_parts.pump.run)
    until(provider.messages)
    sending = patient_parts.status(request.id, client_id=request.client_id)

    patient_parts.cancel(request.id, client_id=request.client_id, now=clock.now())
    job.result(10)

    assert sending.shown_status == "sending"
    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("cancelled", "cancelled_by_client")
    assert (row["send_state"], row["lease_until"]) == ("idle", None)
    assert (row["pin_id"], row["sent_at"], row["expires_at"]) == (None, None, None)
    assert rows.outcomes(request.id) == ["accepted"]


def test_replaced_while_sending(
    patient_parts: Parts, ask: Ask, provider: Provider, rows: Rows, background: ThreadPoolExecutor
) -> None:
    """A newer request replaces one that is being sent, and only the newer code is valid."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=500, times=1)
    older = ask()
    job = background.submit(patient_parts.pump.run)
    until(provider.messages)

    newer = ask()
    job.result(10)
    patient_parts.pump.run()

    assert rows.request(older.id)["reason"] == "replaced"
    assert rows.outcomes(older.id) == ["accepted"]
    code = TypedCode(code=provider.code())
    with pytest.raises(RequestCancelled):
        patient_parts.verify(older.id, code, client_id=older.client_id, now=clock.now())
    verified = patient_parts.verify(newer.id, code, client_id=newer.client_id, now=clock.now())
    assert verified.status is Status.VERIFIED


def test_lost_connections_do_not_lose_an_outcome(
    patient_parts: Parts,
    ask: Ask,
    provider: Provider,
    rows: Rows,
    background: ThreadPoolExecutor,
    engines: Engines,
) -> None:
    """If Postgres cuts its connections during a send, the outcome is still recorded."""
    provider.fault(match={"path": "/2fa/2/pin"}, latency_ms=600)
    request = ask()
    job = background.submit(patient_parts.pump.run)
    until(provider.messages)

    rows.engine.dispose()
    _cut_connections(engines.postgres, patient_parts)
    job.result(20)

    assert rows.outcomes(request.id) == ["accepted"]
    assert rows.request(request.id)["status"] == "sent"
    assert len(provider.messages()) == 1


def test_logs_hold_no_secret(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """The logs of a whole request have its id, and never number, code, pinId or key."""
    with structlog.testing.capture_logs() as logs:
        provider.fault(match={"path": "/2fa/2/pin"}, status=503, times=1)
        request = ask(session_id="session-of-ann", client_ip="203.0.113.77")
        parts.pump.run()
        code = provider.code()
        parts.sweep(now=clock.now())
        attempted = TypedCode(code=code, session_id="session-of-ann", phone_number=NUMBER)
        parts.verify(request.id, attempted, client_id=request.client_id, now=clock.now())

    events = [entry["event"] for entry in logs]
    assert {"otp_requested", "otp_send_refused", "otp_sent", "otp_verified"} <= set(events)
    assert {entry["otp_id"] for entry in logs if entry["event"] == "otp_sent"} == {str(request.id)}
    said = "\n".join(map(str, logs)).replace(str(request.id), "").replace(str(request.client_id), "")
    pin_id = rows.request(request.id)["pin_id"]
    for secret in (
        NUMBER[1:],
        NUMBER[-9:],
        f"'{code}'",
        pin_id,
        INFOBIP_KEY,
        "session-of-ann",
        "203.0.113.77",
    ):
        assert secret not in said


def _cut_connections(postgres: Postgres, parts: Parts) -> None:
    other = make_engine(postgres.url, pool_size=1)
    with connection(other) as conn:
        database = str(parts.engine.url.database)
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :database"
        conn.execute(text(cut), {"database": database}).all()
    other.dispose()


def test_row_that_cannot_be_opened_does_not_hold_up_the_others(
    ask: Ask, provider: Provider, rows: Rows, make_pump: MakePump
) -> None:
    """A number without a usable seal key is reported. The others of its batch are sent."""
    lost, kept = ask("+447700900001"), ask("+447700900002")
    rows.change(lost.id, seal_key_id="gone")

    with structlog.testing.capture_logs() as logs:
        make_pump().run()

    assert [message["to"] for message in provider.messages()] == ["447700900002"]
    assert rows.outcomes(kept.id) == ["accepted"]
    assert any(one["event"] == "number_not_opened" and one["otp_id"] == str(lost.id) for one in logs)


def test_attempt_that_crashes_logs_its_request(make_pump: MakePump, ask: Ask, rows: Rows) -> None:
    """An unexpected error is logged with its request. The sweep finds the request by its lease."""

    class Broken:
        def send(self, _: OutgoingMessage) -> Outcome:
            raise RuntimeError("unexpected")

        def query_sent_since(self, **_: object) -> OutcomeEvidence:
            return OutcomeEvidence.NO_ANSWER

    request = ask()
    pump = make_pump(sms=Broken(), job_s=0.2)

    with structlog.testing.capture_logs(processors=[logs.add_fields]) as records:
        pump.run()

    (crash,) = [one for one in records if one["event"] == "send_crashed"]
    assert (crash["otp_id"], crash["client_id"]) == (str(request.id), str(request.client_id))
    assert crash["attempt"] == 1
    assert rows.request(request.id)["send_state"] == "claimed"
