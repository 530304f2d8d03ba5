"""Voice calls, resends and undocumented identifiers on the wire."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.sending import OutcomeKind
from otpqueue.infobip.transport import NotConnected, ProviderResponse
from otpqueue.infobip.wire import parse_judgement, parse_resend, parse_send, parse_sent_times


def old(message_id: str) -> dict[str, Any]:
    """Return an error in the envelope of the 2FA API."""
    return {"requestError": {"serviceException": {"messageId": message_id, "text": "t"}}}


def reply(status: int, body: Any = None) -> ProviderResponse:
    """Return an answer."""
    return ProviderResponse(status=status, body=body, retry_after_s=None)


@pytest.mark.parametrize(
    ("message_id", "verdict"),
    [
        ("PIN_EXPIRED", CheckVerdict.EXPIRED),
        ("PIN_NOT_FOUND", CheckVerdict.EXPIRED),
        ("MAX_ATTEMPTS_EXCEEDED", CheckVerdict.EXHAUSTED),
        ("TOO_MANY_REQUESTS", CheckVerdict.UNJUDGED),
        ("THROTTLE_EXCEPTION", CheckVerdict.UNJUDGED),
        ("BAD_REQUEST", CheckVerdict.UNJUDGED),
        ("OF_TOMORROW", CheckVerdict.UNJUDGED),
    ],
)
@pytest.mark.parametrize("status", [400, 404, 429])
def test_guides_words_on_a_check(message_id: str, verdict: CheckVerdict, status: int) -> None:
    """The guide's ids are understood if Infobip says them; none is ever a right code."""
    judged = parse_judgement(reply(status, old(message_id)))

    assert (judged.verdict, judged.code, judged.http_status) == (verdict, message_id, status)
    assert parse_judgement(reply(status, {"errorCode": message_id})).verdict is CheckVerdict.UNJUDGED


@pytest.mark.parametrize("message_id", ["PIN_EXPIRED", "MAX_ATTEMPTS_EXCEEDED"])
def test_guides_words_with_a_server_error(message_id: str) -> None:
    """An undocumented identifier in a server error gives no verdict."""
    assert parse_judgement(reply(500, old(message_id))).verdict is CheckVerdict.UNJUDGED


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("PENDING_ACCEPTED", OutcomeKind.ACCEPTED),
        ("PENDING_ENROUTE", OutcomeKind.ACCEPTED),
        ("PROCESSING", OutcomeKind.ACCEPTED),
        ("PROCESSED", OutcomeKind.ACCEPTED),
        ("ANSWERED_MACHINE", OutcomeKind.ACCEPTED),
        ("OF_TOMORROW", OutcomeKind.ACCEPTED),
        ("BAD_REQUEST", OutcomeKind.REFUSED),
        ("REJECTED_PREFIX_MISSING", OutcomeKind.REFUSED),
        ("FAILED", OutcomeKind.REFUSED),
        ("UNDELIVERABLE_NOT_DELIVERED", OutcomeKind.REFUSED),
        ("", OutcomeKind.UNKNOWN),
        (None, OutcomeKind.UNKNOWN),
        (7, OutcomeKind.UNKNOWN),
    ],
)
def test_words_of_a_call(word: Any, kind: OutcomeKind) -> None:
    """What a call may be is an open list, of which only refusals are refusals; no word is no knowledge."""
    outcome = parse_send(reply(200, {"pinId": "P", "to": "44", "callStatus": word}))

    assert outcome.kind is kind
    assert outcome.pin_id == ("P" if kind is OutcomeKind.ACCEPTED else None)


@pytest.mark.parametrize(
    "body",
    [
        {"pinId": "P", "smsStatus": "MESSAGE_NOT_SENT", "callStatus": "PENDING_ACCEPTED"},
        {"pinId": "P", "smsStatus": "MESSAGE_NOT_SENT", "ncStatus": "NC_DESTINATION_NOT_REACHABLE"},
        {"pinId": "P", "smsStatus": "MESSAGE_NOT_SENT", "ncStatus": "NC_NOT_REACHABLE"},
    ],
    ids=str,
)
def test_message_that_was_not_sent(body: dict[str, Any]) -> None:
    """A 200 that says that nothing was sent is a refusal, whatever else it says."""
    outcome = parse_send(reply(200, body))

    assert (outcome.kind, outcome.retryable) == (OutcomeKind.REFUSED, False)


def test_id_for_reports() -> None:
    """The id that reports carry is kept where there is one."""
    body = {"pinId": "P", "smsStatus": "MESSAGE_SENT", "externalMessageId": "E"}

    assert parse_send(reply(200, body)).external_message_id == "E"
    assert parse_send(reply(200, body | {"externalMessageId": 7})).external_message_id is None
    assert parse_send(reply(200, body | {"externalMessageId": None})).kind is OutcomeKind.ACCEPTED


@pytest.mark.parametrize(
    ("body", "pin_id"),
    [
        ({"pinId": "NEW", "smsStatus": "MESSAGE_SENT"}, "NEW"),
        ({"pinId": "", "smsStatus": "MESSAGE_SENT"}, "OLD"),
        ({"pinId": None, "smsStatus": "MESSAGE_SENT"}, "OLD"),
        ({"smsStatus": "MESSAGE_SENT"}, "OLD"),
        ({"callStatus": "PENDING_ACCEPTED"}, "OLD"),
    ],
    ids=str,
)
def test_pin_id_of_a_resend(body: dict[str, Any], pin_id: str) -> None:
    """The pinId that a resend names is the one to check; where it names none, the old one."""
    outcome = parse_resend(reply(200, body), "OLD")

    assert (outcome.kind, outcome.pin_id) == (OutcomeKind.ACCEPTED, pin_id)


@pytest.mark.parametrize("body", [None, {}, [], "MESSAGE_SENT", {"pinId": "P"}], ids=repr)
def test_resend_with_an_incomplete_answer(body: Any) -> None:
    """A known pinId does not make an incomplete answer a success."""
    assert parse_resend(reply(200, body), "OLD").kind is OutcomeKind.UNKNOWN


@pytest.mark.parametrize(
    "body",
    [None, "", "<html>no such host</html>", {"errorCode": "NOT_FOUND"}, {"message": "no Route matched"}],
    ids=repr,
)
def test_404_of_a_gateway_on_a_resend(body: Any) -> None:
    """Only a 404 from Infobip itself shows that a code is gone."""
    outcome = parse_resend(reply(404, body), "OLD")

    assert (outcome.kind, outcome.pin_unknown, outcome.retryable) == (OutcomeKind.REFUSED, False, True)
    assert (outcome.by_provider, outcome.is_misconfigured) == (False, False)


@pytest.mark.parametrize(
    "body", [old("NOT_FOUND"), old("RESOURCE_NOT_FOUND"), {"errorCode": "E404"}], ids=repr
)
def test_code_that_is_not_known_any_more(body: Any) -> None:
    """A 404 on a resend means that the code is gone, not that our settings are wrong."""
    outcome = parse_resend(reply(404, body), "OLD")

    assert (outcome.kind, outcome.pin_unknown) == (OutcomeKind.REFUSED, True)
    assert (outcome.is_misconfigured, outcome.pin_id) == (False, None)


@pytest.mark.parametrize("status", [400, 401, 403, 429, 500, 502, 503])
def test_resend_that_fails_as_a_send_does(status: int) -> None:
    """Everything but a 404 means for a resend what it means for a send."""
    answer = reply(status, old("WORD"))

    assert parse_resend(answer, "OLD") == parse_send(answer)
    assert not parse_resend(answer, "OLD").pin_unknown


AT = datetime(2014, 12, 12, 21, 4, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("body", "times"),
    [
        ({"verifications": [{"sentAt": 1418418246}]}, [AT]),
        ({"verifications": [{"sentAt": 1418418246000}]}, [AT]),
        ([{"sentAt": 1418418246}], [AT]),
        ({"verifications": []}, []),
        ({"verifications": [{"sentAt": 0}, {"sentAt": -1}, {"sentAt": None}, {"sentAt": "x"}, {}, 7]}, []),
        ({"verifications": [{"sentAt": True}, {"sentAt": 10**30}, {"sentAt": 1418418246}]}, [AT]),
        ({"verifications": None}, None),
        ({}, None),
        (None, None),
        ("x", None),
    ],
    ids=str,
)
def test_when_codes_were_sent(body: Any, times: list[datetime] | None) -> None:
    """Ten digits are seconds, thirteen milliseconds, nought is never; what is no list is no answer."""
    assert parse_sent_times(reply(200, body)) == times


def test_no_answer_about_codes() -> None:
    """An error or no connection is no answer, not an empty one."""
    assert parse_sent_times(reply(404, old("NOT_FOUND"))) is None
    assert parse_sent_times(NotConnected(code="connection_failed")) is None
