"""POST /v1/otp-requests: a request is accepted at once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from otpqueue import clock
from tests.api.conftest import Caller, MakeCaller
from tests.api.contract import TIME_TEXT, UUID_TEXT

ASK = "/v1/otp-requests"
FIELDS = {
    "id",
    "status",
    "reason",
    "provider_code",
    "phone_number",
    "channel",
    "client_reference",
    "created_at",
    "send_by",
    "sent_at",
    "expires_at",
    "verified_at",
    "checks_left",
    "sends_left",
    "resend_after",
    "resend",
}


def test_accepted_request(caller: Caller) -> None:
    """202 comes with where to poll, when to poll, and the request as it stands."""
    before = clock.now()

    answer = caller.post(ASK, json={"phone_number": caller.number})

    assert answer.status_code == 202
    body = answer.json
    assert set(body) == FIELDS
    assert UUID_TEXT.fullmatch(body["id"])
    assert answer.headers["Location"] == f"{ASK}/{body['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert (body["status"], body["reason"], body["channel"]) == ("queued", None, "sms")
    assert (body["sent_at"], body["expires_at"], body["verified_at"]) == (None, None, None)
    assert body["checks_left"] == 5
    assert (body["sends_left"], body["resend_after"], body["resend"]) == (4, None, None)
    assert TIME_TEXT.fullmatch(body["created_at"])
    assert TIME_TEXT.fullmatch(body["send_by"])
    created = datetime.fromisoformat(body["created_at"])
    assert before - timedelta(milliseconds=1) <= created <= clock.now()
    assert datetime.fromisoformat(body["send_by"]) - created == timedelta(seconds=90)


def test_number_is_masked(caller: Caller) -> None:
    """The whole number stands nowhere in an answer, only its country code and its last two digits."""
    answer = caller.post(ASK, json={"phone_number": caller.number})

    assert answer.json["phone_number"] == f"+44********{caller.number[-2:]}"
    assert "7700900" not in answer.text + str(answer.headers)


def test_accepted_request_is_sent(caller: Caller) -> None:
    """What is accepted leaves with the next run of the pump, once."""
    path = caller.ask()

    caller.parts.pump.run()

    assert len(caller.provider.messages(caller.number)) == 1
    assert caller.get(path).json["status"] == "sent"


@pytest.mark.parametrize("written", ["07911 123456", "(07911) 123-456", "+44 7911 123456", "00447911123456"])
def test_national_number_with_its_country(caller: Caller, written: str) -> None:
    """A number as people of a country write it is read by that country's rules."""
    before = len(caller.provider.messages("+447911123456"))

    path = caller.ask(phone_number=written, country="gb")

    caller.parts.pump.run()
    assert caller.get(path).json["phone_number"] == "+44********56"
    assert len(caller.provider.messages("+447911123456")) == before + 1


def test_every_field(caller: Caller) -> None:
    """All fields may be given; the reference comes back, session and address do not."""
    answer = caller.post(
        ASK,
        json={
            "phone_number": caller.number,
            "country": None,
            "channel": "sms",
            "language": "en-GB",
            "session_id": "login-1 \N{LOCK}",
            "client_ip": "2001:db8::1",
            "client_reference": "Bestellung Nº 7 \N{PARTY POPPER}",
        },
    )

    assert answer.status_code == 202
    assert answer.json["client_reference"] == "Bestellung Nº 7 \N{PARTY POPPER}"
    assert "login-1" not in answer.text
    assert "2001" not in answer.text


def test_newer_request_replaces_the_older(caller: Caller) -> None:
    """Of two requests for one number and session the newer one lives, whatever other sessions do."""
    first, other = caller.ask(session_id="a"), caller.ask(session_id="b")

    second = caller.ask(session_id="a")

    ended = caller.get(first).json
    assert (ended["status"], ended["reason"], ended["checks_left"]) == ("cancelled", "replaced", 0)
    assert caller.get(second).json["status"] == "queued"
    assert caller.get(other).json["status"] == "queued"


def test_documentation_numbers_need_a_setting(make_caller: MakeCaller) -> None:
    """A number set aside for documentation is refused unless a setting allows it; the refusal is noted."""
    caller = make_caller(OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")

    answer = caller.post(ASK, json={"phone_number": caller.number})

    assert (answer.status_code, answer.json["code"]) == (422, "number_not_allowed")
    assert "documentation" in answer.json["detail"]
    assert not caller.stored("otp_requests")
    assert caller.stored("refusals", "reason") == [("documentation_number",)]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        ("+18002530000", "toll_free"),
        ("+449012345678", "premium_rate"),
        ("+4918012345", "shared_cost"),
        ("+445512345678", "uan"),
        ("+447640123456", "pager"),
        ("+41860123456789", "voicemail"),
    ],
)
def test_refused_kinds_of_number(caller: Caller, number: str, kind: str) -> None:
    """Numbers that cost the caller of them, or reach no handset, are refused, and the refusal is noted."""
    answer = caller.post(ASK, json={"phone_number": number, "client_ip": "192.0.2.1"})

    assert (answer.status_code, answer.json["code"]) == (422, "number_not_allowed")
    assert answer.json["detail"] == "The phone number is valid, but codes are not sent to it."
    assert number not in answer.text
    assert not caller.stored("otp_requests")
    assert caller.stored("refusals", "reason") == [(f"{kind}_number",)]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        ("+441", "too short"),
        ("+4479111234567890", "too long"),
        ("+999123456789", "country code"),
        ("07911123456", "must start with +"),
        ("+44791112345x", "digits"),
        ("+44++7911", None),
        ("+447911123456;ext=1", "digits"),
        ("+", None),
        ("   ", "digits"),
        ("+0000000000", None),
        ("+" + "4" * 31, None),
    ],
)
def test_impossible_numbers(caller: Caller, number: str, said: str | None) -> None:
    """What cannot be a number is named as the field at fault, and nothing is stored."""
    answer = caller.post(ASK, json={"phone_number": number})

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_phone_number")
    (error,) = answer.json["errors"]
    assert error["field"] == "phone_number"
    assert said is None or said in error["message"]
    assert not caller.stored("otp_requests")
    assert not caller.stored("refusals")
