"""The Infobip client against the simulator."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.request import Channel
from otpqueue.domain.sending import Outcome, OutcomeKind, OutgoingMessage, RefusalCause
from otpqueue.infobip.client import InfobipClient
from otpqueue.infobip.transport import Transport
from tests.conftest import INFOBIP_KEY, NUMBER, Provider
from tests.infobip.conftest import Connect, ScriptedServer, http

TO = NUMBER.removeprefix("+")


@pytest.fixture
def client(provider: Provider) -> Iterator[InfobipClient]:
    """Yield a client of the simulator."""
    client = InfobipClient(
        Transport(
            base_url=provider.url, api_key=INFOBIP_KEY, connections=4, connect_timeout_s=1, timeout_s=0.5
        ),
        track_delivery=False,
    )
    yield client
    client.close()


@pytest.fixture
def ids(provider: Provider) -> dict[str, str]:
    """Return the ids of an application that allows many checks and two PINs per number, and its template."""
    configuration = {"verifyPinLimit": "100/1s", "sendPinPerPhoneNumberLimit": "2/1d", "pinAttempts": 3}
    application = provider.call(
        "POST", "/2fa/2/applications", json={"name": "shop", "configuration": configuration}
    ).json()
    template = provider.call(
        "POST",
        f"/2fa/2/applications/{application['applicationId']}/messages",
        json={"messageText": "{{pin}}", "pinType": "NUMERIC", "pinLength": 6},
    ).json()
    return {"application_id": application["applicationId"], "message_id": template["messageId"]}


def sms(ids: dict[str, str]) -> OutgoingMessage:
    """Return a fresh code to send by SMS without a sender."""
    return OutgoingMessage(to=TO, channel=Channel.SMS, sender=None, **ids)


def sent(client: InfobipClient, ids: dict[str, str]) -> str:
    """Send a code and return its pinId."""
    outcome = client.send(sms(ids))
    assert outcome.kind is OutcomeKind.ACCEPTED
    assert outcome.pin_id
    return outcome.pin_id


def wrong(code: str) -> str:
    """Return another code."""
    return f"{(int(code) + 1) % 1_000_000:06}"


def test_code_is_sent(client: InfobipClient, ids: dict[str, str], provider: Provider) -> None:
    """A send delivers one message and returns the PIN id for checks."""
    outcome = client.send(sms(ids))

    (message,) = provider.messages(NUMBER)
    assert outcome == Outcome(
        kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200, pin_id=message["pinId"]
    )


def test_code_is_judged(client: InfobipClient, ids: dict[str, str], provider: Provider) -> None:
    """A wrong code is wrong, the right one correct, and an answered check can be asked for again."""
    pin_id = sent(client, ids)
    code = provider.code()

    judgements = [client.verify(pin_id=pin_id, code=one) for one in (wrong(code), code, code)]

    assert [one.verdict for one in judgements] == [
        CheckVerdict.WRONG,
        CheckVerdict.CORRECT,
        CheckVerdict.CORRECT,
    ]
    assert judgements[0] == Judgement(verdict=CheckVerdict.WRONG, code="WRONG_PIN", http_status=200)


def test_attempts_run_out(client: InfobipClient, ids: dict[str, str], provider: Provider) -> None:
    """After the application's attempts the right code is refused as exhausted."""
    pin_id = sent(client, ids)
    code = provider.code()
    for _ in range(3):
        client.verify(pin_id=pin_id, code=wrong(code))

    assert client.verify(pin_id=pin_id, code=code).verdict is CheckVerdict.EXHAUSTED


def test_code_expires(client: InfobipClient, ids: dict[str, str], provider: Provider) -> None:
    """A code that has outlived its time at the provider is expired."""
    pin_id = sent(client, ids)
    provider.call("POST", "/_simulator/clock", json={"advance_s": 901})

    assert client.verify(pin_id=pin_id, code=provider.code()).verdict is CheckVerdict.EXPIRED


@pytest.mark.parametrize("pin_id", ["unknown", "a/b", "..", "a?b#c", "%2e", "x" * 200])
def test_unknown_pin_is_expired(client: InfobipClient, pin_id: str) -> None:
    """A PIN the provider does not know is expired; whatever is in its id stays one part of the path."""
    judgement = client.verify(pin_id=pin_id, code="123456")

    assert judgement == Judgement(verdict=CheckVerdict.EXPIRED, code="NOT_FOUND", http_status=404)


def test_pin_id_is_one_part_of_the_path(connect: Connect) -> None:
    """No id can change the path of a check."""
    with ScriptedServer(http(b'{"verified": false}')) as server:
        InfobipClient(connect(server.url), track_delivery=False).verify(pin_id="a/../b?c#d e", code="012345")

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /2fa/2/pin/a%2F..%2Fb%3Fc%23d%20e/verify HTTP/1.1")
        assert json.loads(body) == {"pin": "012345"}


def test_send_asks_for_no_number_look_up(connect: Connect) -> None:
    """A send names application, template and number, and asks for nothing that costs extra."""
    with ScriptedServer(http()) as server:
        client = InfobipClient(connect(server.url), track_delivery=False)
        client.send(sms({"application_id": "A", "message_id": "M"}))

        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /2fa/2/pin?ncNeeded=false HTTP/1.1")
        assert json.loads(body) == {"applicationId": "A", "messageId": "M", "to": TO}


def test_limit_is_retryable(client: InfobipClient, ids: dict[str, str]) -> None:
    """A number over the application's limit is refused for now."""
    outcomes = [client.send(sms(ids)) for _ in range(3)]

    assert outcomes[2] == Outcome(
        kind=OutcomeKind.REFUSED, code="TOO_MANY_REQUESTS", http_status=429, retryable=True
    )


def test_unknown_application_is_misconfigured(client: InfobipClient, ids: dict[str, str]) -> None:
    """An unknown application is our misconfiguration."""
    outcome = client.send(sms(ids | {"application_id": "unknown"}))

    assert (outcome.kind, outcome.is_misconfigured) == (OutcomeKind.REFUSED, True)
    assert (outcome.code, outcome.cause) == ("application_not_found", RefusalCause.APPLICATION)


def test_unknown_template_concerns_its_own_sends(client: InfobipClient, ids: dict[str, str]) -> None:
    """The template list distinguishes an unknown application from an unknown template."""
    outcome = client.send(sms(ids | {"message_id": "unknown"}))

    assert (outcome.code, outcome.cause) == ("template_not_found", RefusalCause.TEMPLATE)
    assert (outcome.retryable, outcome.is_misconfigured) == (True, True)


def test_404_of_one_number(client: InfobipClient, ids: dict[str, str], provider: Provider) -> None:
    """If Infobip knows application and template, no operator action can help."""
    provider.fault(match={"to": TO}, status=404)

    outcome = client.send(sms(ids))

    assert (outcome.code, outcome.cause) == ("number_not_found", RefusalCause.NUMBER)
    assert (outcome.retryable, outcome.is_misconfigured) == (True, False)


@pytest.mark.parametrize("fault", [{"status": 403}, {"status": 500}, {"drop": "before"}, {"form": "html"}])
def test_404_of_unclear_cause(
    client: InfobipClient, ids: dict[str, str], provider: Provider, fault: dict[str, Any]
) -> None:
    """Without the template list, a 404 may affect every send or one number."""
    provider.fault(match={"to": TO}, status=404)
    provider.fault(match={"path": "/messages"}, **fault)

    outcome = client.send(sms(ids))

    assert (outcome.code, outcome.cause) == ("NOT_FOUND", RefusalCause.UNCLEAR)
    assert outcome.is_misconfigured


def test_many_404s_ask_for_the_templates_once(
    client: InfobipClient, ids: dict[str, str], provider: Provider
) -> None:
    """A deleted template costs one extra query per process and five seconds."""
    provider.fault(match={"path": "/messages"}, times=1, status=200, body=[])
    provider.fault(match={"path": "/messages"}, status=500)
    with ThreadPoolExecutor(8) as threads:
        missing = sms(ids | {"message_id": "unknown"})
        outcomes = list(threads.map(lambda _: client.send(missing), range(8)))

    assert {outcome.cause for outcome in outcomes} == {RefusalCause.TEMPLATE}


def test_wrong_key_is_misconfigured(connect: Connect, ids: dict[str, str], provider: Provider) -> None:
    """A key that is not valid is our mistake, on a check as on a send, and no guess is spent."""
    client = InfobipClient(connect(provider.url), track_delivery=False)

    outcome, judgement = client.send(sms(ids)), client.verify(pin_id="x", code="123456")

    assert (outcome.code, outcome.is_misconfigured, outcome.retryable) == ("UNAUTHORIZED", True, True)
    assert judgement == Judgement(verdict=CheckVerdict.UNJUDGED, code="UNAUTHORIZED", http_status=401)


@pytest.mark.parametrize(
    ("fault", "kind", "code", "leaves"),
    [
        ({"drop": "before"}, OutcomeKind.UNKNOWN, "connection_cut", 0),
        ({"drop": "after"}, OutcomeKind.UNKNOWN, "connection_cut", 1),
        ({"latency_ms": 2000}, OutcomeKind.UNKNOWN, "timeout", 1),
        ({"status": 502}, OutcomeKind.UNKNOWN, "GENERAL_ERROR", 0),
        ({"status": 503}, OutcomeKind.REFUSED, "SERVICE_UNAVAILABLE", 0),
        ({"status": 200, "body": {}}, OutcomeKind.UNKNOWN, "answer_not_understood", 0),
    ],
    ids=str,
)
def test_trouble_on_the_way_is_an_outcome(
    client: InfobipClient,
    ids: dict[str, str],
    provider: Provider,
    fault: dict[str, object],
    kind: OutcomeKind,
    code: str,
    leaves: int,
) -> None:
    """Network failures give outcomes, unknown if the code may have been sent, and never raise."""
    provider.fault(match={"path": "/2fa/2/pin"}, times=1, **fault)

    outcome = client.send(sms(ids))

    assert (outcome.kind, outcome.code, outcome.pin_id) == (kind, code, None)
    assert len(provider.messages(NUMBER)) == leaves
