"""The consequence of each outcome of a send: responses, refusals and network failures."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import structlog

from otpqueue import clock
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import NUMBER, Ask, MakeParts, Provider
from tests.operations.looking import Rows, numbers

SEND = "/2fa/2/pin"


@dataclass(frozen=True)
class Case:
    """A fault, and the expected attempts and request."""

    fault: dict[str, Any]
    outcomes: list[str]
    status: str
    reason: str | None = None
    provider_code: str | None = None
    messages: int = 0
    attempts: dict[str, Any] = field(default_factory=dict)
    """The expected columns of all but the accepted attempts."""


UNAVAILABLE = {"status": 503}
GENERAL_ERROR = {"requestError": {"serviceException": {"messageId": "GENERAL_ERROR", "text": "Sorry"}}}
REJECTED = {
    "pinId": "P",
    "to": "44",
    "ncStatus": "NC_DESTINATION_UNREACHABLE",
    "smsStatus": "MESSAGE_NOT_SENT",
}
UNKNOWN_TWICE = {"outcomes": ["unknown", "unknown"], "status": "failed", "reason": "outcome_unknown"}

CASES = {
    # Refused, but can be retried: the third attempt succeeds.
    "503 twice": Case(
        fault=UNAVAILABLE | {"times": 2},
        outcomes=["refused", "refused", "accepted"],
        status="sent",
        messages=1,
        attempts={"http_status": 503, "code": "SERVICE_UNAVAILABLE", "retryable": True, "pin_id": None},
    ),
    "500 with the provider's envelope": Case(
        fault={"status": 500, "body": GENERAL_ERROR, "times": 1},
        outcomes=["refused", "accepted"],
        status="sent",
        messages=1,
        attempts={"http_status": 500, "code": "GENERAL_ERROR", "retryable": True},
    ),
    "429 without Retry-After": Case(
        fault={"status": 429, "times": 1},
        outcomes=["refused", "accepted"],
        status="sent",
        messages=1,
        attempts={"http_status": 429, "code": "TOO_MANY_REQUESTS", "retryable": True},
    ),
    "404 of a gateway": Case(
        fault={"status": 404, "body": "<html>no such host</html>", "times": 1},
        outcomes=["refused", "accepted"],
        status="sent",
        messages=1,
        attempts={"http_status": 404, "code": "http_404", "retryable": True},
    ),
    "400 of a gateway": Case(
        fault={"status": 400, "body": "", "times": 1},
        outcomes=["refused", "accepted"],
        status="sent",
        messages=1,
        attempts={"http_status": 400, "code": "http_400", "retryable": True},
    ),
    # Refused permanently.
    "400": Case(
        fault={"status": 400},
        outcomes=["refused"],
        status="failed",
        reason="provider_refused",
        provider_code="BAD_REQUEST",
        attempts={"http_status": 400, "code": "BAD_REQUEST", "retryable": False},
    ),
    "MESSAGE_NOT_SENT": Case(
        fault={"status": 200, "body": REJECTED | {"ncStatus": None}},
        outcomes=["refused"],
        status="failed",
        reason="provider_refused",
        provider_code="MESSAGE_NOT_SENT",
        attempts={"http_status": 200, "retryable": False, "pin_id": None},
    ),
    "number cannot be reached": Case(
        fault={"status": 200, "body": REJECTED},
        outcomes=["refused"],
        status="failed",
        reason="provider_refused",
        provider_code="NC_DESTINATION_UNREACHABLE",
    ),
    # Unknown: sent again once, then failed. What had an effect is in the inbox twice.
    "cut after sending": Case(
        fault={"drop": "after"},
        **UNKNOWN_TWICE,
        provider_code="connection_cut",
        messages=2,
        attempts={"http_status": None, "code": "connection_cut", "retryable": None},
    ),
    "cut before sending": Case(fault={"drop": "before"}, **UNKNOWN_TWICE, provider_code="connection_cut"),
    "time-out": Case(fault={"latency_ms": 1500}, **UNKNOWN_TWICE, provider_code="timeout", messages=2),
    "502": Case(fault={"status": 502, "body": "<html>"}, **UNKNOWN_TWICE, provider_code="http_502"),
    "503 of a gateway": Case(
        fault={"status": 503, "body": "upstream connect error or disconnect/reset before headers"},
        **UNKNOWN_TWICE,
        provider_code="http_503",
    ),
    "504": Case(fault={"status": 504, "body": ""}, **UNKNOWN_TWICE, provider_code="http_504"),
    "bare 500": Case(fault={"status": 500, "body": "oops"}, **UNKNOWN_TWICE, provider_code="http_500"),
    "garbage": Case(
        fault={"status": 200, "body": "\x00garbage"}, **UNKNOWN_TWICE, provider_code="answer_not_understood"
    ),
    "200 without a pinId": Case(
        fault={"status": 200, "body": {"smsStatus": "MESSAGE_SENT"}},
        **UNKNOWN_TWICE,
        provider_code="answer_not_understood",
    ),
    "unknown once": Case(
        fault={"drop": "after", "times": 1},
        outcomes=["unknown", "accepted"],
        status="sent",
        messages=2,
    ),
}


@pytest.fixture
def _sent(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    for number, case in zip(numbers(len(CASES)), CASES.values(), strict=True):
        provider.fault(match={"to": number[1:], "path": SEND}, **case.fault)
        ask(number)
    parts.pump.run()


@pytest.mark.usefixtures("_sent")
def test_every_outcome_has_its_consequence(parts: Parts, provider: Provider, rows: Rows) -> None:
    """Refusals are retried or final, unknown outcomes sent again once. Every attempt records its outcome."""
    requests = {row["number_hash"]: row for row in rows.requests()}
    for (name, case), number in zip(CASES.items(), numbers(len(CASES)), strict=True):
        row = requests[parts.vault.number_hash(number)]
        attempts = rows.attempts(row["id"])

        assert [attempt["outcome"] for attempt in attempts] == case.outcomes, name
        assert [attempt["number"] for attempt in attempts] == list(range(1, len(case.outcomes) + 1)), name
        assert (row["status"], row["reason"]) == (case.status, case.reason), name
        assert row["provider_code"] == case.provider_code, name
        assert (row["send_state"], row["lease_until"], row["next_attempt_at"]) == ("idle", None, None), name
        assert (row["finished_at"] is None) == (case.status == "sent"), name
        assert len(provider.messages(number)) == case.messages, name
        for attempt in attempts:
            expected = case.attempts if attempt["outcome"] != "accepted" else {}
            assert {column: attempt[column] for column in expected} == expected, name
        if case.status == "sent":
            assert row["pin_id"] == attempts[-1]["pin_id"] == provider.messages(number)[0]["pinId"], name


def test_retry_after_is_honoured(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """The wait of a 429 is respected to the second."""
    provider.fault(match={"path": SEND}, status=429, headers={"Retry-After": "1"}, times=1)
    request = ask()

    parts.pump.run()

    first, second = rows.attempts(request.id)
    assert (first["outcome"], second["outcome"]) == ("refused", "accepted")
    assert (second["started_at"] - first["finished_at"]).total_seconds() >= 1


def test_retry_after_past_the_deadline_ends_the_request(
    parts: Parts, ask: Ask, provider: Provider, rows: Rows
) -> None:
    """A Retry-After past the deadline expires the request at once."""
    provider.fault(match={"path": SEND}, status=429, headers={"Retry-After": "3600"})
    request = ask()

    parts.pump.run()

    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("expired", "send_deadline")
    assert rows.outcomes(request.id) == ["refused"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_rejection_of_a_gateway_opens_no_circuit(
    parts: Parts, ask: Ask, provider: Provider, status: int
) -> None:
    """One rejection that is not Infobip's opens no circuit and no alert."""
    provider.fault(match={"path": SEND}, status=status, body="<html>not for you</html>", times=1)
    ask()

    with structlog.testing.capture_logs() as logs:
        parts.pump.run()

    assert not {"circuit_opened", "provider_misconfigured"} & {entry["event"] for entry in logs}
    assert len(provider.messages(NUMBER)) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_our_misconfiguration_fails_no_request(
    make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows, status: int
) -> None:
    """While the provider refuses our account, requests stay due for any number of attempts."""
    parts = make_parts(OTPQUEUE_TUNING_MAX_ATTEMPTS="2")
    provider.fault(match={"path": SEND}, status=status, times=4)
    wanted = RequestedCode(phone_number=NUMBER)
    request = parts.request(wanted, client_id=client_id, now=clock.now())

    with structlog.testing.capture_logs() as logs:
        parts.pump.run()

    assert rows.outcomes(request.id) == ["refused"] * 4 + ["accepted"]
    assert rows.request(request.id)["status"] == "sent"
    assert [entry["log_level"] for entry in logs if entry["event"] == "provider_misconfigured"] == [
        "error"
    ] * 4


def test_misconfiguration_ends_at_the_deadline(
    make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """With a wrong key requests expire instead of failing. Nothing is sent after `send_by`."""
    parts = make_parts(OTPQUEUE_SEND_WITHIN_S="1.5", OTPQUEUE_TUNING_MAX_ATTEMPTS="1")
    provider.fault(match={"path": SEND}, status=401)
    wanted = RequestedCode(phone_number=NUMBER)
    request = parts.request(wanted, client_id=client_id, now=clock.now())

    parts.pump.run()
    parts.sweep(now=clock.now())

    row = rows.request(request.id)
    assert (row["status"], row["reason"]) == ("expired", "send_deadline")
    # A late claim was given back without an attempt.
    attempts = [attempt for attempt in rows.attempts(request.id) if attempt["outcome"] != "returned"]
    assert len(attempts) > 1
    assert all(attempt["started_at"] < row["send_by"] for attempt in attempts)


def test_attempts_are_bounded(make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows) -> None:
    """An unavailable provider is called up to the maximum of attempts. Then the request fails."""
    parts = make_parts(OTPQUEUE_TUNING_MAX_ATTEMPTS="3")
    provider.fault(match={"path": SEND}, **UNAVAILABLE)
    wanted = RequestedCode(phone_number=NUMBER)
    request = parts.request(wanted, client_id=client_id, now=clock.now())

    parts.pump.run()

    row = rows.request(request.id)
    assert rows.outcomes(request.id) == ["refused"] * 3
    assert (row["status"], row["reason"]) == ("failed", "attempts_exhausted")
    assert row["provider_code"] == "SERVICE_UNAVAILABLE"


def test_unreachable_provider_is_a_retryable_refusal(
    make_parts: MakeParts, client_id: UUID, rows: Rows, closed_port: int
) -> None:
    """Without a connection the code was not sent, so it can be retried without limit."""
    parts = make_parts(
        INFOBIP_BASE_URL=f"http://127.0.0.1:{closed_port}",
        INFOBIP_APPLICATION_ID="a",
        INFOBIP_MESSAGE_ID="m",
        OTPQUEUE_TUNING_MAX_ATTEMPTS="3",
    )
    wanted = RequestedCode(phone_number=NUMBER)
    request = parts.request(wanted, client_id=client_id, now=clock.now())

    parts.pump.run()

    row = rows.request(request.id)
    assert rows.outcomes(request.id) == ["refused"] * 3
    assert (row["reason"], row["provider_code"]) == ("attempts_exhausted", "connection_failed")


@pytest.mark.parametrize("resends", [0, 2])
def test_unknown_is_resent_as_often_as_the_policy_says(
    make_parts: MakeParts, client_id: UUID, provider: Provider, rows: Rows, resends: int
) -> None:
    """`OTPQUEUE_UNKNOWN_RESENDS` bounds the extra codes that a person can get. 0 means none."""
    parts = make_parts(OTPQUEUE_UNKNOWN_RESENDS=str(resends))
    provider.fault(match={"path": SEND}, drop="after")
    wanted = RequestedCode(phone_number=NUMBER)
    request = parts.request(wanted, client_id=client_id, now=clock.now())

    parts.pump.run()

    assert rows.outcomes(request.id) == ["unknown"] * (resends + 1)
    assert rows.request(request.id)["reason"] == "outcome_unknown"
    assert len(provider.messages()) == resends + 1


def test_refusals_do_not_count_as_unknown(parts: Parts, ask: Ask, provider: Provider, rows: Rows) -> None:
    """Refused attempts between two unknown ones neither count as unknown nor reset that count."""
    for fault in ({"drop": "after"}, {"status": 503}, {"drop": "after"}):
        provider.fault(match={"path": SEND}, times=1, **fault)
    request = ask()

    parts.pump.run()

    assert rows.outcomes(request.id) == ["unknown", "refused", "unknown"]
    assert rows.request(request.id)["reason"] == "outcome_unknown"
