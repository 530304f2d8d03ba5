"""The provider's evidence on a send with an unknown outcome. It does not affect retries."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog

from otpqueue import clock
from otpqueue.domain.sending import OutcomeEvidence
from otpqueue.operations.request import RequestedCode
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import running
from otpqueue.wiring import Parts
from tests.conftest import INFOBIP_KEY, NUMBER, Ask, MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows, numbers

SEND = "/2fa/2/pin"
ASKING = "/verifications"


def evidence(rows: Rows, request_id: UUID) -> list[tuple[str, str | None]]:
    """Return outcome and evidence of each attempt, in order."""
    return [(row["outcome"], row["evidence"]) for row in rows.attempts(request_id)]


def test_cut_after_sending(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A code that was sent before the connection was cut is found."""
    provider.fault(match={"path": SEND, "method": "POST"}, drop="after", times=1)
    request = ask()

    parts.pump.run()

    assert evidence(rows, request.id) == [("unknown", "left"), ("accepted", None)]


def test_time_out_after_sending(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A code that was sent after our timeout is found."""
    provider.fault(match={"path": SEND, "method": "POST"}, latency_ms=1300, times=1)
    request = ask()

    parts.pump.run()

    assert evidence(rows, request.id) == [("unknown", "left"), ("accepted", None)]


def test_cut_before_sending(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A code that was never sent is not found, and is sent again."""
    provider.fault(match={"path": SEND, "method": "POST"}, drop="before", times=1)
    request = ask()

    parts.pump.run()

    assert evidence(rows, request.id) == [("unknown", "not_seen"), ("accepted", None)]
    assert len(provider.messages(NUMBER)) == 1


SILENCES: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 404},
    {"status": 429},
    {"drop": "before"},
    {"latency_ms": 700},
    {"form": "html"},
    {"form": "empty"},
    {"form": "huge"},
    {"status": 200, "body": {"verifications": "none"}},
]


def test_provider_that_does_not_say(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """If the query also fails, that is recorded, and the code is sent again."""
    for number, fault in zip(numbers(len(SILENCES)), SILENCES, strict=True):
        provider.clear_faults()
        provider.fault(match={"path": SEND, "method": "POST"}, drop="after", times=1)
        provider.fault(match={"path": ASKING}, **fault)
        request = ask(number)

        parts.pump.run()

        assert evidence(rows, request.id) == [("unknown", "no_answer"), ("accepted", None)], fault


def test_an_older_code_is_no_evidence(
    make_parts: MakeParts, ask_sent: AskSent, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """An earlier code to the number is distinguished by its time."""
    ask_sent()
    parts = make_parts()

    ids = parts.provision.ids()
    assert ids is not None
    question = {"to": NUMBER[1:], "application_id": ids.application_id}
    long_ago, just_now = clock.now() - timedelta(seconds=60), clock.now() + timedelta(seconds=30)

    assert parts.infobip.query_sent_since(**question, since=long_ago) is OutcomeEvidence.LEFT
    assert parts.infobip.query_sent_since(**question, since=just_now) is OutcomeEvidence.NOT_SEEN
    stranger = question | {"to": "447700900999"}
    assert parts.infobip.query_sent_since(**stranger, since=long_ago) is OutcomeEvidence.NOT_SEEN


@pytest.fixture(scope="module")
def seconds_url() -> Iterator[str]:
    """Yield a simulator with times in seconds."""
    with running(Options(api_keys=(INFOBIP_KEY,), verification_times="s")) as simulator:
        yield simulator.url


@pytest.mark.parametrize("drop", ["after", "before"])
def test_times_in_seconds(
    make_parts: MakeParts, client_id: UUID, rows: Rows, seconds_url: str, drop: str
) -> None:
    """Times in seconds are parsed like those in milliseconds."""
    provider = Provider(seconds_url)
    provider.reset()
    parts = make_parts(INFOBIP_BASE_URL=seconds_url)
    parts.provision(parts.transport, now=clock.now())
    provider.fault(match={"path": SEND, "method": "POST"}, drop=drop, times=1)
    request = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    parts.pump.run()
    provider.close()

    expected = "left" if drop == "after" else "not_seen"
    assert evidence(rows, request.id) == [("unknown", expected), ("accepted", None)]


@pytest.mark.parametrize("drop", ["after", "before"])
@pytest.mark.parametrize("allowed", [0, 1])
def test_policy_is_unchanged(
    make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows, drop: str, allowed: int
) -> None:
    """Evidence does not change how often an unknown outcome is retried."""
    parts = make_parts(OTPQUEUE_UNKNOWN_RESENDS=str(allowed))
    provider.fault(match={"path": SEND, "method": "POST"}, drop=drop)
    request = parts.request(RequestedCode(phone_number=NUMBER), client_id=client_id, now=clock.now())

    parts.pump.run()

    expected = "left" if drop == "after" else "not_seen"
    assert evidence(rows, request.id) == [("unknown", expected)] * (allowed + 1)
    assert rows.request(request.id)["reason"] == "outcome_unknown"


def test_nothing_is_asked_of_what_is_known(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """A known outcome needs no query."""
    provider.fault(match={"path": SEND, "method": "POST"}, status=503, times=1)
    ask()

    parts.pump.run()

    requests = provider.call("GET", "/_simulator/stats").json()["requests"]
    assert not [name for name in requests if "verif" in name.lower()]


def test_evidence_is_logged(parts: Parts, ask: Ask, provider: Provider) -> None:
    """The log record of the attempt has the evidence."""
    provider.fault(match={"path": SEND, "method": "POST"}, drop="after", times=1)
    ask()

    with structlog.testing.capture_logs() as logs:
        parts.pump.run()

    assert [entry["evidence"] for entry in logs if "evidence" in entry] == ["left"]


def test_evidence_of_a_resend(parts: Parts, ask_sent: AskSent, provider: Provider, rows: Rows) -> None:
    """A resend without a response is queried too."""
    request = ask_sent()
    provider.fault(match={"path": "/resend"}, drop="after", times=1)
    rows.change(request.id, resend_after=clock.now())
    parts.resend(request.id, client_id=request.client_id, channel=None, now=clock.now())

    parts.pump.run()

    assert evidence(rows, request.id)[1:] == [("unknown", "left"), ("accepted", None)]
