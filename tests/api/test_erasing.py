"""`POST /v1/phone-numbers/erase`: for operators, over all clients, idempotent, and never a word too much."""

from __future__ import annotations

from typing import Any

import pytest

from otpqueue.store.privacy.erasing import COUNTED
from tests.api.conftest import Caller, wrong

PATH = "/v1/phone-numbers/erase"
NOTHING = dict.fromkeys(COUNTED, 0)


def erase(caller: Caller, **body: Any) -> Any:
    """Erase with an admin's key; return the answer."""
    key = caller.new_key("admin", client="operators")
    return caller.post(PATH, json=body, headers={"Authorization": f"Bearer {key}"})


def test_erasure(caller: Caller) -> None:
    """A live request and its trail go, it is a 404 from then on, and the second time counts nothing."""
    path, code = caller.sent(session_id="s")
    caller.verify(path, wrong(code), session_id="s")

    first = erase(caller, phone_number=caller.number)
    second = erase(caller, phone_number=caller.number)

    assert (first.status_code, first.json) == (
        200,
        NOTHING | {"requests": 1, "attempts": 1, "checks": 1, "moves": 2},
    )
    assert (second.status_code, second.json) == (200, NOTHING)
    for answer in (caller.get(path), caller.verify(path, code, session_id="s")):
        assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")
    assert caller.stored("otp_requests") == []


def test_national_number(caller: Caller) -> None:
    """With a country the number may be national."""
    caller.ask()

    answer = erase(caller, phone_number="0" + caller.number.removeprefix("+44"), country="gb")

    assert answer.json["requests"] == 1


@pytest.mark.parametrize("path", [PATH, "/v1/otp-requests/search"])
def test_number_of_a_former_plan(caller: Caller, path: str) -> None:
    """A number that its country has changed since is looked up, and not refused as one that cannot be."""
    key = caller.new_key("admin", client="operators")

    answer = caller.post(
        path, json={"phone_number": "+22961234567"}, headers={"Authorization": f"Bearer {key}"}
    )

    assert answer.status_code == 200


def test_erased_and_asked_again(caller: Caller) -> None:
    """An erased number is as good as new."""
    caller.ask()
    erase(caller, phone_number=caller.number)

    path, code = caller.sent()

    assert caller.verify(path, code).status_code == 200


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"phone_number": "+44"}, "invalid_phone_number"),
        ({"phone_number": "+447700900123x"}, "invalid_phone_number"),
        ({"phone_number": "07700900123", "country": "XX"}, "invalid_phone_number"),
        ({"phone_number": "07700900123", "country": "Britain"}, "invalid_request"),
        ({}, "invalid_request"),
        ({"phone_number": 447700900123}, "invalid_request"),
        ({"phone_number": "+447700900123", "session_id": "s"}, "invalid_request"),
    ],
)
def test_bad_input(caller: Caller, body: dict[str, Any], code: str) -> None:
    """What names no number is refused and says why."""
    answer = erase(caller, **body)

    assert (answer.status_code, answer.json["code"]) == (400, code)


def test_only_operators_may(caller: Caller) -> None:
    """Without a key it is 401, with one for sending and checking 403; nothing is erased."""
    path = caller.ask()
    refused = caller.post(PATH, json={"phone_number": caller.number})
    caller.key = None
    unknown = caller.post(PATH, json={"phone_number": caller.number})

    assert (refused.status_code, refused.json["code"]) == (403, "missing_scope")
    assert (unknown.status_code, unknown.json["code"]) == (401, "unauthenticated")
    assert len(caller.stored("otp_requests")) == 1
    assert path


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_other_methods(caller: Caller, method: str) -> None:
    """A number stands in no URL: there is one way to erase it."""
    assert caller.call(method, PATH).status_code == 405
