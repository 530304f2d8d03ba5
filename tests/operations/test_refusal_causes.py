"""The scope of a refusal with 401, 403 or 404: all requests, those with one template, or one number."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
import structlog

from otpqueue import clock
from otpqueue.domain.circuit import CircuitState
from otpqueue.domain.request import Channel, OtpRequest
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, NUMBER, MakeParts, Provider, forget_template
from tests.operations.looking import Rows, numbers

SEND = "/2fa/2/pin"
LONG_PAUSE = {
    "OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "60",
    "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "60",
    "OTPQUEUE_TUNING_CIRCUIT_FAILURES": "4",
}
SHORT_JOB = {"OTPQUEUE_TUNING_JOB_S": "1"}
"""A job that finds the circuit open would wait for its end."""

FRENCH = {"OTPQUEUE_TEMPLATES": '{"fr": "Votre code : {{pin}}"}'}
OTHERS = numbers(20)


@pytest.fixture
def make_paused_long(make_parts: MakeParts, parts: Parts) -> MakeParts:
    """Return a function that makes provisioned parts with a circuit that stays open."""

    def make(**differing: str) -> Parts:
        made = make_parts(**NO_LIMITS, **LONG_PAUSE, **FRENCH, OTPQUEUE_GUARD="off", **differing)
        made.provision(made.transport, now=clock.now())
        return made

    return make


def ask(parts: Parts, client_id: UUID, number: str, **wanted: Any) -> OtpRequest:
    """Request a code."""
    return parts.request(RequestedCode(phone_number=number, **wanted), client_id=client_id, now=clock.now())


@pytest.mark.parametrize("channel", [Channel.SMS, Channel.VOICE])
def test_deleted_template_stops_its_own_language_alone(
    make_paused_long: MakeParts, client_id: UUID, provider: Provider, rows: Rows, channel: Channel
) -> None:
    """Its requests are retried until their deadline. Those in other languages are sent at once."""
    parts = make_paused_long(OTPQUEUE_SEND_WITHIN_S="4")
    forget_template(parts, "fr")
    lost = [ask(parts, client_id, one, language="fr", channel=channel) for one in OTHERS[:7]]
    with structlog.testing.capture_logs() as logs:
        parts.pump.run()
    assert parts.circuit.get_state() is CircuitState.CLOSED

    sent = ask(parts, client_id, NUMBER, channel=channel)
    parts.pump.run()
    parts.sweep(now=clock.now())

    assert rows.request(sent.id)["status"] == "sent"
    assert len(provider.messages()) == 1
    for request in lost:
        row = rows.request(request.id)
        assert (row["status"], row["reason"]) == ("expired", "send_deadline")
        assert row["provider_code"] == "template_not_found:fr"
    (entry, *_) = [one for one in logs if one["event"] == "provider_misconfigured"]
    assert (entry["cause"], entry["template"], entry["log_level"]) == ("template", "fr", "error")


def test_404_of_one_number_stops_no_other(
    make_paused_long: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """A 404 of one number is retried like any refusal, and fails with a code that names the cause."""
    parts = make_paused_long(OTPQUEUE_TUNING_MAX_ATTEMPTS="5")
    provider.fault(match={"path": SEND, "to": NUMBER.removeprefix("+")}, status=404)
    refused = ask(parts, client_id, NUMBER)
    others = [ask(parts, client_id, one) for one in OTHERS]

    with structlog.testing.capture_logs() as logs:
        parts.pump.run()

    assert {rows.request(one.id)["status"] for one in others} == {"sent"}
    row = rows.request(refused.id)
    assert (row["status"], row["reason"]) == ("failed", "attempts_exhausted")
    assert row["provider_code"] == "number_not_found"
    assert parts.circuit.get_state() is CircuitState.CLOSED
    assert "provider_misconfigured" not in {one["event"] for one in logs}


def test_403_of_one_number_stops_no_other(
    make_paused_long: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """A 403 of one number counts once despite retries. It stays due, since our key may be the cause."""
    parts = make_paused_long(OTPQUEUE_SEND_WITHIN_S="4")
    provider.fault(match={"path": SEND, "to": NUMBER.removeprefix("+")}, status=403)
    refused = ask(parts, client_id, NUMBER)
    parts.pump.run()

    assert rows.outcomes(refused.id).count("refused") > parts.settings.circuit_failures
    assert parts.circuit.get_state() is CircuitState.CLOSED
    sent = ask(parts, client_id, OTHERS[0])
    parts.pump.run()
    assert rows.request(sent.id)["status"] == "sent"


@pytest.mark.parametrize("status", [401, 403])
def test_refused_key_opens_the_circuit(
    make_paused_long: MakeParts, client_id: UUID, provider: Provider, rows: Rows, status: int
) -> None:
    """A refused key pauses sending: 401 at once, 403 after the failure threshold of different requests."""
    parts = make_paused_long(**SHORT_JOB)
    provider.fault(match={"path": "/2fa/"}, status=status)
    first = ask(parts, client_id, OTHERS[0])
    parts.pump.run()
    assert parts.circuit.get_state() is (CircuitState.OPEN if status == 401 else CircuitState.CLOSED)
    assert rows.outcomes(first.id)[0] == "refused"

    for one in OTHERS[1 : parts.settings.circuit_failures]:
        ask(parts, client_id, one)
    parts.pump.run()

    assert parts.circuit.get_state() is CircuitState.OPEN


def test_deleted_application_opens_the_circuit_at_once(
    make_paused_long: MakeParts, client_id: UUID, provider: Provider, rows: Rows
) -> None:
    """Infobip reports it as a deleted template.

    It then has no templates of it either, which distinguishes the two.
    """
    parts = make_paused_long(**SHORT_JOB)
    provider.reset()  # deletes all applications
    request = ask(parts, client_id, NUMBER)

    parts.pump.run()

    assert parts.circuit.get_state() is CircuitState.OPEN
    (attempt,) = rows.attempts(request.id)
    assert (attempt["code"], attempt["http_status"]) == ("application_not_found", 404)
