"""What is not a well-formed request for a code gets the documented problem, and nothing is stored."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otpqueue.api.http.bridge import MAX_BODY_BYTES
from tests.api.conftest import Caller, Result
from tests.conftest import NUMBER

ASK = "/v1/otp-requests"
RULED = ("country", "language", "client_ip")
"""What these may hold is said in fewer words than what they may not."""
TEXTS = ("phone_number", "country", "language", "session_id", "client_ip", "client_reference")
ALL_FIELDS = (*TEXTS, "channel")


def nothing_stored(caller: Caller) -> bool:
    """Return whether neither a request nor a refusal of this caller's has a row."""
    return not caller.stored("otp_requests") and not caller.stored("refusals")


def refused(answer: Result, code: str, *fields: str) -> bool:
    """Return whether an answer is this problem, about these fields."""
    named = [error["field"] for error in answer.json.get("errors", [])]
    return answer.json["code"] == code and named == list(fields)


def with_field(field: str, value: object) -> dict[str, Any]:
    """Return a good body but for one field."""
    return {"phone_number": NUMBER, field: value}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"not json",
        b"{'phone_number': '+447700900123'}",
        b'{"phone_number": "+447700900123"',
        b'{"phone_number": "+447700900123"} {}',
        b'{"phone_number": "+447700900123",}',
        b'\xef\xbb\xbf{"phone_number": "+447700900123"}',
        '{"phone_number": "+447700900123"}'.encode("utf-16"),
        b'{"phone_number": "+447700900123", "session_id": "\xe2\x82"}',
        b'{"phone_number": "+447700900123", "session_id": "\xff"}',
        b'{"phone_number": "+447700900123", "session_id": "\xed\xa0\x80"}',
        rb'{"phone_number": "+447700900123", "session_id": "\ud800"}',
        rb'{"phone_number": "+447700900123", "session_id": "\udc00x"}',
        rb'{"phone_number": "+447700900123", "\ud800": 1}',
        b'{"phone_number": "+447700900123", "session_id": "a\x00b"}',
        b'{"phone_number": "+447700900123", "session_id": "a\nb"}',
        b"[]",
        b'[{"phone_number": "+447700900123"}]',
        b"7",
        b"1e999",
        b"null",
        b"true",
        b'"+447700900123"',
        b"NaN",
        b"[" * 8000,
        b'{"a":' * 3000,
        b'{"phone_number": 1' + b"0" * 5000 + b"}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_no_json_object(caller: Caller, body: bytes) -> None:
    """What is not one JSON object in UTF-8 is malformed_json."""
    answer = caller.send_bytes(ASK, body)

    assert answer.status_code == 400
    assert refused(answer, "malformed_json")
    assert nothing_stored(caller)


@pytest.mark.parametrize("field", TEXTS)
@pytest.mark.parametrize("character", ["\x00", "\n", "\x1b", "\x7f", "\x85"], ids=ascii)
def test_control_characters(caller: Caller, field: str, character: str) -> None:
    """A NUL or another control character is refused in every text, wherever it stands."""
    forms = (character, f"x{character}", f"{character}x", f"::1%{character}", f"en{character}")

    answers = [caller.post(ASK, json=with_field(field, form)) for form in forms]

    for answer in answers:
        assert answer.status_code == 400
        assert refused(answer, "invalid_request", field)
        assert f"U+{ord(character):04X}" in answer.json["errors"][0]["message"] or field in RULED
    assert nothing_stored(caller)


@pytest.mark.parametrize("field", ALL_FIELDS)
@pytest.mark.parametrize("value", [447700900123, 1.5, True, [], {}, [NUMBER], {"a": "b"}], ids=str)
def test_wrong_types(caller: Caller, field: str, value: object) -> None:
    """Types are not guessed: a number is no text."""
    answer = caller.post(ASK, json=with_field(field, value))

    assert answer.status_code == 400
    assert refused(answer, "invalid_request", field)
    assert nothing_stored(caller)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("field", ["phone_number", "session_id", "surprise"])
def test_numbers_that_json_has_not(caller: Caller, literal: str, field: str) -> None:
    """NaN and the infinities are no values of any field."""
    other = "" if field == "phone_number" else f'"phone_number": "{NUMBER}", '

    answer = caller.send_bytes(ASK, f'{{{other}"{field}": {literal}}}')

    assert answer.status_code == 400
    assert answer.json["code"] in {"malformed_json", "invalid_request"}
    assert nothing_stored(caller)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, "") for field in ALL_FIELDS),
        ("phone_number", None),
        ("channel", None),
        ("channel", "email"),
        ("channel", "VOICE"),
        ("channel", "SMS"),
        ("phone_number", "+" + "4" * 64),
        ("session_id", "s" * 129),
        ("client_reference", "r" * 129),
        ("client_reference", "\N{PARTY POPPER}" * 129),
        ("client_ip", "1" * 46),
        ("client_ip", "localhost"),
        ("client_ip", "192.0.2.256"),
        ("client_ip", "192.0.2.1/24"),
        ("client_ip", "192.0.2.01"),
        ("client_ip", "fe80::1%eth0"),
        ("client_ip", " 192.0.2.1"),
        ("client_ip", "0"),
        ("country", "GBR"),
        ("country", "G"),
        ("country", "44"),
        ("country", "ГБ"),
        ("language", "english"),
        ("language", "e"),
        ("language", "en-"),
        ("language", "en_GB_x"),
        ("language", "ен"),
    ],
)
def test_values_that_break_a_rule(caller: Caller, field: str, value: object) -> None:
    """A value that breaks a field's rule is refused, and the problem names the field and how to mend it."""
    answer = caller.post(ASK, json=with_field(field, value))

    assert answer.status_code == 400
    assert refused(answer, "invalid_request", field)
    assert answer.json["errors"][0]["message"]
    assert nothing_stored(caller)


def test_country_that_does_not_exist(caller: Caller) -> None:
    """Two letters that are no country are the country's fault, not the number's."""
    answer = caller.post(ASK, json={"phone_number": "07911123456", "country": "XX"})

    assert answer.status_code == 400
    assert refused(answer, "invalid_phone_number", "country")
    assert nothing_stored(caller)


def test_longest_values_are_taken(caller: Caller) -> None:
    """A limit is the longest text that is taken, counted in characters."""
    answer = caller.post(
        ASK,
        json={"phone_number": NUMBER, "session_id": "s" * 128, "client_reference": "\N{PARTY POPPER}" * 128},
    )

    assert answer.status_code == 202


def test_every_fault_is_named_at_once(caller: Caller) -> None:
    """All that is wrong comes in one answer, missing and unknown fields too, and no value is echoed."""
    answer = caller.post(ASK, json={"session_id": 7, "country": "GBR", "otp_secret": "hunter2"})

    assert answer.status_code == 400
    named = {error["field"]: error["message"] for error in answer.json["errors"]}
    assert set(named) == {"phone_number", "session_id", "country", "otp_secret"}
    assert named["phone_number"] == "is required"
    assert named["session_id"] == "must be a string, in quotation marks"
    assert named["otp_secret"] == "is not a field of this call; remove it"
    assert "hunter2" not in answer.text
    assert nothing_stored(caller)


@pytest.mark.parametrize(
    "typed",
    ["\u202a{}\u202c", "tel:{}", "\u200e {} ", "{}\ufeff"],
    ids=ascii,
)
def test_pasted_number_is_taken(caller: Caller, typed: str) -> None:
    """What a clipboard adds to a number, and nobody sees, is no reason to refuse it."""
    spaced = f"{NUMBER[:3]}\u00a0{NUMBER[3:7]}\u2011{NUMBER[7:]}"

    answer = caller.post(ASK, json={"phone_number": typed.format(spaced)})

    assert answer.status_code == 202
    assert answer.json["phone_number"] == f"+44********{NUMBER[-2:]}"


def test_invisible_character_is_named(caller: Caller) -> None:
    """A person who is told of the code point can find what the eye cannot."""
    answer = caller.post(ASK, json={"phone_number": f"{NUMBER[:5]}\u2028{NUMBER[5:]}"})

    assert refused(answer, "invalid_phone_number", "phone_number")
    assert "U+2028 LINE SEPARATOR" in answer.json["errors"][0]["message"]


def test_rejected_number_is_not_echoed(caller: Caller) -> None:
    """A number that is refused does not come back: answers end up in other people's logs."""
    answer = caller.post(ASK, json={"phone_number": "+447123987654321"})

    assert answer.status_code == 400
    assert "7123" not in answer.text


@pytest.mark.parametrize("field", ["phoneNumber", "Phone_Number", "ip", "__proto__", "model_config", "😀"])
def test_unknown_fields(caller: Caller, field: str) -> None:
    """A field that the call has not is refused: it may be a misspelt one that matters."""
    answer = caller.post(ASK, json=with_field(field, "x"))

    assert answer.status_code == 400
    assert refused(answer, "invalid_request", field)
    assert nothing_stored(caller)


@pytest.mark.parametrize(
    "body",
    [
        f'{{"phone_number": "x", "phone_number": "{NUMBER}"}}',
        f'{{"phone_number": "{NUMBER}", "phone_number": "{NUMBER}"}}',
        f'{{"phone_number": "{NUMBER}", "phone\\u005fnumber": "x"}}',
        f'{{"phone_number": "{NUMBER}", "surprise": {{"a": 1, "a": 2}}}}',
    ],
)
def test_field_given_twice(caller: Caller, body: str) -> None:
    """Which of two counts, readers of JSON do not agree on: none does."""
    answer = caller.send_bytes(ASK, body)

    assert refused(answer, "malformed_json")
    assert "twice" in answer.json["detail"]
    assert NUMBER not in answer.text
    assert nothing_stored(caller)


@pytest.mark.parametrize(
    "nested", ["[" * 17 + "]" * 17, '{"a":' * 17 + "1" + "}" * 17, "[" * 5000 + "]" * 5000], ids=len
)
def test_deep_body(caller: Caller, nested: str) -> None:
    """Lists and objects stand at most 16 deep in one another."""
    answer = caller.send_bytes(ASK, f'{{"phone_number": "{NUMBER}", "surprise": {nested}}}')

    assert answer.status_code == 400
    assert refused(answer, "malformed_json")


def test_body_as_deep_as_may_be(caller: Caller) -> None:
    """Fifteen lists in an object are refused for what they are, not for their depth."""
    answer = caller.send_bytes(ASK, f'{{"phone_number": "{NUMBER}", "surprise": {"[" * 15 + "]" * 15}}}')

    assert refused(answer, "invalid_request", "surprise")


@pytest.mark.parametrize("path", [ASK, "/request-otp", "/verify-otp", f"{ASK}/x/verify", f"{ASK}/x/resend"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json; charset=iso-8859-1"},
        {"Content-Type": 'application/json; x=y; CharSet="UTF-16"'},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/json", "Content-Encoding": "identity, deflate"},
        {"Content-Type": "text/plain"},
    ],
    ids=str,
)
def test_bodies_in_other_codings(caller: Caller, path: str, headers: dict[str, str]) -> None:
    """Every call takes JSON in UTF-8 as it is, also where a body is optional."""
    answer = caller.post(path, body=b"{}", headers=headers)

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_body_where_none_belongs(caller: Caller, method: str) -> None:
    """A body on a call that has none is refused: somebody meant something by it."""
    path = caller.ask()

    answer = caller.call(method, path, body=b"{}", headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json["code"]) == (400, "bad_http")
    assert caller.get(path).json["status"] == "queued"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ASK),
        ("DELETE", f"{ASK}/x"),
        ("POST", f"{ASK}/x/verify"),
        ("POST", f"{ASK}/x/resend"),
        ("GET", f"{ASK}/x/history"),
        ("POST", "/v1/infobip/receipts"),
        ("POST", "/request-otp"),
        ("POST", "/verify-otp"),
    ],
)
@pytest.mark.parametrize("query", ["phone_number=%2B447700900123", "wait=1", "a&b", "=x"])
def test_query_parameters_that_are_none(caller: Caller, method: str, path: str, query: str) -> None:
    """A parameter that a call has not is refused, and its value does not come back."""
    answer = caller.call(method, path, query_string=query)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert answer.json["errors"][0]["message"] == "is not a parameter of this call; remove it"
    assert "7700" not in answer.text


def test_query_of_a_probe(caller: Caller) -> None:
    """Probes may carry what they like in their query."""
    assert caller.get("/health/live", query_string="t=17").status_code == 200


@pytest.mark.parametrize("path", [ASK, "/request-otp", "/nowhere"])
def test_long_query(caller: Caller, path: str) -> None:
    """Path and query over 8 KiB are refused, whatever they are of."""
    answer = caller.post(path, query_string="a=" + "x" * 8192)

    assert (answer.status_code, answer.json["code"]) == (414, "uri_too_long")


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
        "application",
        "💥/json",
    ],
)
def test_other_content_types(caller: Caller, content_type: str | None) -> None:
    """A body that does not say that it is JSON is refused."""
    headers = {} if content_type is None else {"Content-Type": content_type.encode().decode("latin-1")}

    answer = caller.post(ASK, body=json.dumps({"phone_number": NUMBER}), headers=headers)

    assert answer.status_code == 415
    assert refused(answer, "unsupported_media_type")
    assert nothing_stored(caller)


@pytest.mark.parametrize(
    "content_type", ["application/json; charset=utf-8", "Application/JSON", "application/json ;x=y"]
)
def test_content_types_of_json(caller: Caller, content_type: str) -> None:
    """Parameters and case of the media type do not matter."""
    answer = caller.post(
        ASK, body=json.dumps({"phone_number": NUMBER}), headers={"Content-Type": content_type}
    )

    assert answer.status_code == 202


@pytest.mark.parametrize("size", [MAX_BODY_BYTES + 1, 1_000_000])
def test_body_too_large(caller: Caller, size: int) -> None:
    """A body over 16 KiB is refused."""
    body = json.dumps({"phone_number": NUMBER}).ljust(size)

    answer = caller.send_bytes(ASK, body)

    assert answer.status_code == 413
    assert refused(answer, "body_too_large")
    assert nothing_stored(caller)


def test_largest_body_is_taken(caller: Caller) -> None:
    """A body of exactly 16 KiB is taken."""
    answer = caller.send_bytes(ASK, json.dumps({"phone_number": NUMBER}).ljust(MAX_BODY_BYTES))

    assert answer.status_code == 202


def test_bad_input_comes_after_the_key(caller: Caller) -> None:
    """Nothing of a body is looked at before the key is."""
    caller.key = None

    answer = caller.send_bytes(ASK, "not json")

    assert answer.status_code == 401
