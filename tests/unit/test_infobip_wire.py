"""The meaning of each answer of the 2FA API."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from otpqueue.domain.checking import CheckVerdict, Judgement
from otpqueue.domain.sending import Outcome, OutcomeKind, RefusalCause
from otpqueue.infobip.transport import NoResponse, NotConnected, ProviderResponse, Reply
from otpqueue.infobip.wire import clean_word, get_error_code, get_error_text, parse_judgement, parse_send

PIN_ID = "9C817C6F8AF3D48F9FE553282AFA2B67"


def answer(status: int, body: Any = None, retry_after_s: float | None = None) -> ProviderResponse:
    """Return an answer."""
    return ProviderResponse(status=status, body=body, retry_after_s=retry_after_s)


def old(message_id: str, text: str = "words") -> dict[str, Any]:
    """Return an error in the envelope that the 2FA API documents."""
    return {"requestError": {"serviceException": {"messageId": message_id, "text": text}}}


def new(code: str) -> dict[str, Any]:
    """Return an error in the envelope of Infobip's newer APIs."""
    return {"errorCode": code, "description": "words", "action": "wait", "violations": [], "resources": []}


def policy(message_id: str) -> dict[str, Any]:
    """Return an error in the variant that an old client reads."""
    return {"requestError": {"policyException": {"messageId": message_id, "text": "words"}}}


def sent(**fields: Any) -> dict[str, Any]:
    """Return the documented reply to a send, but for `fields`; None takes a field away."""
    reply = {"pinId": PIN_ID, "to": "41793026727", "smsStatus": "MESSAGE_SENT"} | fields
    return {name: value for name, value in reply.items() if value is not None}


def accepted(http_status: int = 200) -> Outcome:
    """Return the outcome of a send that was taken."""
    return Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=http_status, pin_id=PIN_ID)


def refused(code: str, http_status: int | None, **fields: Any) -> Outcome:
    """Return the outcome of a send that was refused for good, but for `fields`."""
    return Outcome(kind=OutcomeKind.REFUSED, code=code, http_status=http_status, **fields)


def unknown(code: str, http_status: int | None = None) -> Outcome:
    """Return the outcome of a send with an unknown result."""
    return Outcome(kind=OutcomeKind.UNKNOWN, code=code, http_status=http_status)


AGAIN: dict[str, Any] = {"retryable": True}
BY_OTHERS: dict[str, Any] = {"retryable": True, "by_provider": False}
BAD_KEY: dict[str, Any] = {"retryable": True, "cause": RefusalCause.KEY}
UNCLEAR: dict[str, Any] = {"retryable": True, "cause": RefusalCause.UNCLEAR}

SENDS: list[tuple[Reply, Outcome]] = [
    # The documented success, its optional fields, and undocumented ones.
    (answer(200, sent()), accepted()),
    (answer(200, sent(ncStatus="NC_DESTINATION_REACHABLE")), accepted()),
    (
        answer(200, sent(ncStatus="NC_NOT_CONFIGURED", externalMessageId="32ddd1a1")),
        replace(accepted(), external_message_id="32ddd1a1"),
    ),
    (answer(200, sent(externalMessageId="x\n")), accepted()),
    (answer(200, sent(externalMessageId=7)), accepted()),
    (answer(200, sent(ncStatus="NC_DESTINATION_UNKNOWN", callStatus=None, extra={"a": 1})), accepted()),
    (answer(201, sent()), accepted(201)),
    # 200 can still mean that nothing was sent; the number look-up's word is the more telling one.
    (answer(200, sent(smsStatus="MESSAGE_NOT_SENT")), refused("MESSAGE_NOT_SENT", 200)),
    (
        answer(200, sent(smsStatus="MESSAGE_NOT_SENT", ncStatus="NC_DESTINATION_NOT_REACHABLE")),
        refused("NC_DESTINATION_NOT_REACHABLE", 200),
    ),
    (answer(200, sent(smsStatus="MESSAGE_NOT_SENT", pinId=None)), refused("MESSAGE_NOT_SENT", 200)),
    (answer(200, sent(smsStatus="SOMETHING_NEW")), refused("SOMETHING_NEW", 200)),
    # 2xx that does not say what became of the code.
    (answer(200, sent(pinId=None)), unknown("answer_not_understood", 200)),
    (answer(200, sent(pinId="")), unknown("answer_not_understood", 200)),
    (answer(200, sent(pinId=12345)), unknown("answer_not_understood", 200)),
    (answer(200, sent(pinId="x\n")), unknown("answer_not_understood", 200)),
    (answer(200, sent(pinId="x" * 201)), unknown("answer_not_understood", 200)),
    (answer(200, sent(smsStatus=None)), unknown("answer_not_understood", 200)),
    (answer(200, sent(smsStatus=True)), unknown("answer_not_understood", 200)),
    (answer(200, {}), replace(unknown("answer_not_understood", 200), by_provider=False)),
    (answer(200, []), replace(unknown("answer_not_understood", 200), by_provider=False)),
    (answer(200, None), replace(unknown("answer_not_understood", 200), by_provider=False)),
    (
        answer(200, "<html>log in to the network</html>"),
        replace(unknown("answer_not_understood", 200), by_provider=False),
    ),
    (answer(204, None), replace(unknown("answer_not_understood", 204), by_provider=False)),
    (answer(200, old("BAD_REQUEST")), unknown("answer_not_understood", 200)),
    # Refused for good.
    (answer(400, old("BAD_REQUEST")), refused("BAD_REQUEST", 400)),
    (answer(400, old("INVALID_ARGUMENT")), refused("INVALID_ARGUMENT", 400)),
    (answer(400, new("E400")), refused("E400", 400)),
    (answer(400, policy("POL0001")), refused("POL0001", 400)),
    (answer(422, old("SOMETHING_NEW")), refused("SOMETHING_NEW", 422)),
    # Our configuration may be wrong: the HTTP status decides, since a 403 may say UNAUTHORIZED.
    (answer(401, old("UNAUTHORIZED")), refused("UNAUTHORIZED", 401, **BAD_KEY)),
    (answer(401, new("E401")), refused("E401", 401, **BAD_KEY)),
    (answer(403, old("UNAUTHORIZED")), refused("UNAUTHORIZED", 403, **UNCLEAR)),
    (answer(403, old("FORBIDDEN")), refused("FORBIDDEN", 403, **UNCLEAR)),
    (answer(404, old("RESOURCE_NOT_FOUND")), refused("RESOURCE_NOT_FOUND", 404, **UNCLEAR)),
    (answer(404, old("NOT_FOUND")), refused("NOT_FOUND", 404, **UNCLEAR)),
    # Rejected by a proxy or gateway: not final, and no signal from Infobip.
    (answer(400, "<html>"), refused("http_400", 400, **BY_OTHERS)),
    (answer(400, None), refused("http_400", 400, **BY_OTHERS)),
    (answer(400, {"errorCode": "InvalidHeader"}), refused("InvalidHeader", 400, **BY_OTHERS)),
    (answer(401, None), refused("http_401", 401, **BY_OTHERS)),
    (answer(403, None), refused("http_403", 403, **BY_OTHERS)),
    (answer(403, "<html>blocked</html>"), refused("http_403", 403, **BY_OTHERS)),
    (answer(404, "<html>no such host</html>"), refused("http_404", 404, **BY_OTHERS)),
    (answer(404, {"message": "no Route matched"}), refused("http_404", 404, **BY_OTHERS)),
    (answer(404, {"requestError": "NOT_FOUND"}), refused("http_404", 404, **BY_OTHERS)),
    (answer(405, None), refused("http_405", 405, **BY_OTHERS)),
    (answer(407, None), refused("http_407", 407, **BY_OTHERS)),
    (answer(408, None), refused("http_408", 408, **BY_OTHERS)),
    # Throttled, whatever the status and the word.
    (answer(429, old("TOO_MANY_REQUESTS")), refused("TOO_MANY_REQUESTS", 429, **AGAIN)),
    (answer(429, old("THROTTLE_EXCEPTION")), refused("THROTTLE_EXCEPTION", 429, **AGAIN)),
    (answer(429, new("E429"), 7), refused("E429", 429, retry_after_s=7, **AGAIN)),
    (answer(429, "slow down", 0), refused("http_429", 429, retry_after_s=0, **AGAIN)),
    (answer(400, old("THROTTLE_EXCEPTION")), refused("THROTTLE_EXCEPTION", 400, **AGAIN)),
    (answer(403, old("TOO_MANY_REQUESTS"), 3), refused("TOO_MANY_REQUESTS", 403, retry_after_s=3, **AGAIN)),
    # The provider's own trouble, said in its own words.
    (answer(503, old("SERVICE_UNAVAILABLE")), refused("SERVICE_UNAVAILABLE", 503, **AGAIN)),
    (answer(503, "<html>", 9), refused("http_503", 503, retry_after_s=9, **AGAIN)),
    (answer(500, old("GENERAL_ERROR")), refused("GENERAL_ERROR", 500, **AGAIN)),
    (answer(500, old("GENERAL_EXCEPTION")), refused("GENERAL_EXCEPTION", 500, **AGAIN)),
    (answer(500, new("E500")), refused("E500", 500, **AGAIN)),
    # A proxy or gateway failed: the code may have been sent.
    (answer(503, "<html>"), unknown("http_503", 503)),
    (answer(503, "upstream connect error or disconnect/reset before headers"), unknown("http_503", 503)),
    (answer(503, {"errorCode": "UPSTREAM"}), unknown("UPSTREAM", 503)),
    (answer(500, {"errorCode": "UPSTREAM"}), unknown("UPSTREAM", 500)),
    (answer(500, None), unknown("http_500", 500)),
    (answer(500, {"error": "x"}), unknown("http_500", 500)),
    (answer(502, None), unknown("http_502", 502)),
    (answer(502, old("GENERAL_ERROR")), unknown("GENERAL_ERROR", 502)),
    (answer(504, None), unknown("http_504", 504)),
    (answer(520, None), unknown("http_520", 520)),
    (answer(302, None), unknown("http_302", 302)),
    (answer(304, sent()), unknown("http_304", 304)),
    # Silence.
    (NotConnected(code="connection_failed"), refused("connection_failed", None, **AGAIN)),
    (NotConnected(code="connect_timeout"), refused("connect_timeout", None, **AGAIN)),
    (NoResponse(code="timeout"), unknown("timeout")),
    (NoResponse(code="connection_cut"), unknown("connection_cut")),
    (NoResponse(code="answer_too_large"), unknown("answer_too_large")),
]


@pytest.mark.parametrize(("reply", "outcome"), SENDS, ids=[f"{i}-{o.code}" for i, (_, o) in enumerate(SENDS)])
def test_outcome_of_a_send(reply: Reply, outcome: Outcome) -> None:
    """Each answer to a send is accepted, rejected (permanently or not) or unknown."""
    assert parse_send(reply) == outcome


def verified(verified: Any = True, **fields: Any) -> dict[str, Any]:
    """Return the documented reply to a verification."""
    return {"pinId": PIN_ID, "msisdn": "41793026727", "verified": verified} | fields


def judged(verdict: CheckVerdict, code: str, http_status: int | None = 200) -> Judgement:
    """Return a judgement."""
    return Judgement(verdict=verdict, code=code, http_status=http_status)


CHECKS: list[tuple[Reply, Judgement]] = [
    # `verified: true` is the only success; the official sample has no attempts remaining.
    (answer(200, verified(attemptsRemaining=0)), judged(CheckVerdict.CORRECT, "VERIFIED")),
    (answer(200, verified(attemptsRemaining=2)), judged(CheckVerdict.CORRECT, "VERIFIED")),
    (answer(200, {"verified": True}), judged(CheckVerdict.CORRECT, "VERIFIED")),
    (answer(200, verified(pinError="NO_ERROR")), judged(CheckVerdict.CORRECT, "NO_ERROR")),
    (answer(200, verified(pinError="", verificationTimeout=5)), judged(CheckVerdict.CORRECT, "VERIFIED")),
    # Wrong, in every word for it.
    (
        answer(200, verified(False, attemptsRemaining=2, pinError="WRONG_PIN")),
        judged(CheckVerdict.WRONG, "WRONG_PIN"),
    ),
    (answer(200, verified(False)), judged(CheckVerdict.WRONG, "WRONG_PIN")),
    (answer(200, verified(False, pinError="")), judged(CheckVerdict.WRONG, "WRONG_PIN")),
    (answer(200, verified(False, pinError=None)), judged(CheckVerdict.WRONG, "WRONG_PIN")),
    (answer(200, verified(False, pinError="NO_ERROR")), judged(CheckVerdict.WRONG, "WRONG_PIN")),
    (answer(200, verified(False, pinError="SOMETHING_NEW")), judged(CheckVerdict.WRONG, "SOMETHING_NEW")),
    (answer(200, verified(False, pinError=["x"])), judged(CheckVerdict.WRONG, "WRONG_PIN")),
    # Expired.
    (answer(200, verified(False, pinError="TTL_EXPIRED")), judged(CheckVerdict.EXPIRED, "TTL_EXPIRED")),
    (answer(200, verified(False, pinError="PIN_EXPIRED")), judged(CheckVerdict.EXPIRED, "PIN_EXPIRED")),
    (answer(404, old("NOT_FOUND")), judged(CheckVerdict.EXPIRED, "NOT_FOUND", 404)),
    (answer(404, old("RESOURCE_NOT_FOUND")), judged(CheckVerdict.EXPIRED, "RESOURCE_NOT_FOUND", 404)),
    (answer(404, new("E404")), judged(CheckVerdict.EXPIRED, "E404", 404)),
    # Exhausted.
    # The try that uses the last attempt may still be called wrong; nothing can follow it.
    (
        answer(200, verified(False, attemptsRemaining=0, pinError="WRONG_PIN")),
        judged(CheckVerdict.EXHAUSTED, "WRONG_PIN"),
    ),
    (
        answer(200, verified(False, attemptsRemaining=0, pinError="NO_MORE_PIN_ATTEMPTS")),
        judged(CheckVerdict.EXHAUSTED, "NO_MORE_PIN_ATTEMPTS"),
    ),
    (
        answer(200, verified(False, pinError="ATTEMPTS_EXCEEDED")),
        judged(CheckVerdict.EXHAUSTED, "ATTEMPTS_EXCEEDED"),
    ),
    (answer(200, verified(False, pinError="NO_ATTEMPTS")), judged(CheckVerdict.EXHAUSTED, "NO_ATTEMPTS")),
    # A 2xx that does not say.
    (answer(200, verified("true")), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, verified(1)), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, verified(None)), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, {}), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, [verified()]), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, True), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    (answer(200, None), judged(CheckVerdict.UNKNOWN, "answer_not_understood")),
    # Not looked at.
    (answer(400, old("BAD_REQUEST")), judged(CheckVerdict.UNJUDGED, "BAD_REQUEST", 400)),
    (answer(404, None), judged(CheckVerdict.UNJUDGED, "http_404", 404)),
    (answer(404, "<html>no such host</html>"), judged(CheckVerdict.UNJUDGED, "http_404", 404)),
    (answer(404, {"errorCode": "NOT_FOUND"}), judged(CheckVerdict.UNJUDGED, "NOT_FOUND", 404)),
    (answer(404, {"message": "no Route matched"}), judged(CheckVerdict.UNJUDGED, "http_404", 404)),
    (answer(404, verified(False, pinError="TTL_EXPIRED")), judged(CheckVerdict.UNJUDGED, "http_404", 404)),
    (answer(410, old("NOT_FOUND")), judged(CheckVerdict.UNJUDGED, "NOT_FOUND", 410)),
    (answer(401, old("UNAUTHORIZED")), judged(CheckVerdict.UNJUDGED, "UNAUTHORIZED", 401)),
    (answer(403, old("UNAUTHORIZED")), judged(CheckVerdict.UNJUDGED, "UNAUTHORIZED", 403)),
    (answer(429, old("TOO_MANY_REQUESTS")), judged(CheckVerdict.UNJUDGED, "TOO_MANY_REQUESTS", 429)),
    (answer(429, old("THROTTLE_EXCEPTION")), judged(CheckVerdict.UNJUDGED, "THROTTLE_EXCEPTION", 429)),
    (answer(429, new("E429")), judged(CheckVerdict.UNJUDGED, "E429", 429)),
    (answer(500, old("GENERAL_ERROR")), judged(CheckVerdict.UNJUDGED, "GENERAL_ERROR", 500)),
    (answer(500, None), judged(CheckVerdict.UNJUDGED, "http_500", 500)),
    (answer(502, "<html>"), judged(CheckVerdict.UNJUDGED, "http_502", 502)),
    (answer(503, None), judged(CheckVerdict.UNJUDGED, "http_503", 503)),
    (answer(302, verified()), judged(CheckVerdict.UNJUDGED, "http_302", 302)),
    (answer(400, verified()), judged(CheckVerdict.UNJUDGED, "http_400", 400)),
    (answer(503, verified()), judged(CheckVerdict.UNJUDGED, "http_503", 503)),
    (NotConnected(code="connect_timeout"), judged(CheckVerdict.UNJUDGED, "connect_timeout", None)),
    # It may have been looked at.
    (NoResponse(code="timeout"), judged(CheckVerdict.UNKNOWN, "timeout", None)),
    (NoResponse(code="connection_cut"), judged(CheckVerdict.UNKNOWN, "connection_cut", None)),
    (NoResponse(code="answer_too_large"), judged(CheckVerdict.UNKNOWN, "answer_too_large", None)),
]


@pytest.mark.parametrize(
    ("reply", "expected"), CHECKS, ids=[f"{i}-{j.code}" for i, (_, j) in enumerate(CHECKS)]
)
def test_judgement_of_a_code(reply: Reply, expected: Judgement) -> None:
    """Each answer to a verification is one verdict; only `verified: true` in a 2xx is a success."""
    assert parse_judgement(reply) == expected


@pytest.mark.parametrize(
    ("body", "code", "text"),
    [
        (old("BAD_REQUEST", "Bad request"), "BAD_REQUEST", "Bad request"),
        (new("E404"), "E404", "words"),
        (policy("POL0001"), "POL0001", None),
        ({"requestError": {"serviceException": {}}}, None, None),
        ({"requestError": {"serviceException": "BAD"}}, None, None),
        ({"requestError": []}, None, None),
        ({"requestError": None, "errorCode": "E1", "description": "d"}, "E1", "d"),
        ({"errorCode": 404, "description": 5}, None, None),
        (old("X" * 100, "t" * 300), "X" * 64, "t" * 200),
        (old("BAD\nLINE"), None, "words"),
        (old("Ошибка"), None, "words"),
        ("text", None, None),
        ([old("X")], None, None),
        (None, None, None),
    ],
)
def test_error_is_read_from_either_envelope(body: Any, code: str | None, text: str | None) -> None:
    """The provider's identifier is short and printable, its words are bounded, whatever it sends."""
    assert get_error_code(body) == code
    assert get_error_text(body) == text


FIELDS = [
    "requestError",
    "serviceException",
    "policyException",
    "messageId",
    "text",
    "errorCode",
    "description",
    "pinId",
    "smsStatus",
    "ncStatus",
    "callStatus",
    "externalMessageId",
    "verified",
    "pinError",
    "attemptsRemaining",
]
words = st.sampled_from(
    [
        "MESSAGE_SENT",
        "MESSAGE_NOT_SENT",
        "PENDING_ACCEPTED",
        "REJECTED_NETWORK",
        "TTL_EXPIRED",
        "NO_MORE_PIN_ATTEMPTS",
        PIN_ID,
    ]
)
absurd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=300) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)
replies = st.builds(
    ProviderResponse,
    status=st.sampled_from([200, 201, 299]) | st.integers(100, 999),
    body=absurd,
    retry_after_s=st.none(),
)


@settings(max_examples=100, deadline=None)
@given(replies)
def test_no_answer_is_mistaken_for_a_success(reply: ProviderResponse) -> None:
    """No JSON raises, and only `verified: true` in a 2xx is a success."""
    expected = (
        200 <= reply.status < 300 and isinstance(reply.body, dict) and reply.body.get("verified") is True
    )

    said = parse_judgement(reply)

    assert (said.verdict is CheckVerdict.CORRECT) == expected
    assert_storable(said.code)


@settings(max_examples=100, deadline=None)
@given(replies)
def test_no_answer_is_mistaken_for_a_sent_code(reply: ProviderResponse) -> None:
    """Whatever JSON comes, nothing raises, and a send is accepted only with a status and a pinId."""
    outcome = parse_send(reply)

    assert_storable(outcome.code)
    if outcome.kind is OutcomeKind.ACCEPTED:
        assert 200 <= reply.status < 300
        sms, call = (clean_word(reply.body.get(name)) for name in ("smsStatus", "callStatus"))
        assert outcome.code == sms == "MESSAGE_SENT" or (sms is None and outcome.code == call)
        assert not outcome.code.startswith("REJECTED")
        assert reply.body["pinId"] == outcome.pin_id
    else:
        assert outcome.pin_id is None


def assert_storable(code: str) -> None:
    """Check that it may go into tables and logs: short, printable ASCII."""
    assert 0 < len(code) <= 64
    assert code.isascii()
    assert code.isprintable()
