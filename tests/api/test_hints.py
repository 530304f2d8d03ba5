"""A session id that was left out or is wrong: a hint in development, and none anywhere else."""

from __future__ import annotations

import pytest

from tests.api.conftest import Caller, MakeCaller, wrong

WRONG_CODE = "The code is wrong."


@pytest.fixture
def developer(make_caller: MakeCaller) -> Caller:
    """Return a caller of an API with hints."""
    return make_caller(OTPQUEUE_DEVELOPER_HINTS="true")


def explain(caller: Caller, path: str, code: str, **fields: str) -> str:
    """Check a code, which is refused as wrong, and return the detail."""
    answer = caller.verify(path, code, **fields)
    assert (answer.status_code, answer.json["code"]) == (422, "code_incorrect")
    assert caller.get(path).json["checks_left"] >= 4
    return str(answer.json["detail"])


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({}, "the request was made with a session id, and this call has none. Send the same session id."),
        ({"session_id": "b"}, "the session id is not that of the request."),
        ({"phone_number": "+447700900001"}, "with a session id, or for another number."),
        ({"session_id": "a", "phone_number": "+447700900001"}, "the session id or number is not that of"),
    ],
)
def test_hint(developer: Caller, fields: dict[str, str], hint: str) -> None:
    """The detail names what is missing or wrong, and that no check was used."""
    path, code = developer.sent(session_id="a")

    said = explain(developer, path, code, **fields)

    assert said.startswith("The code was not checked: ")
    assert hint in said
    assert developer.verify(path, code, session_id="a").status_code == 200


def test_no_hint_for_a_wrong_code(developer: Caller) -> None:
    """A wrong code of the right session is just wrong."""
    path, code = developer.sent(session_id="a")

    assert explain(developer, path, wrong(code), session_id="a") == WRONG_CODE


@pytest.mark.parametrize("fields", [{}, {"session_id": "b"}])
def test_no_hint_elsewhere(caller: Caller, fields: dict[str, str]) -> None:
    """Without the setting, a missing session reads as a wrong code: an attacker must not learn of it."""
    path, code = caller.sent(session_id="a")

    assert explain(caller, path, code, **fields) == WRONG_CODE


@pytest.mark.parametrize("hints", ["true", "false"])
def test_guide(make_caller: MakeCaller, hints: str) -> None:
    """The guide's call says it too, for callers with a key and without one."""
    caller = make_caller(OTPQUEUE_DEVELOPER_HINTS=hints, OTPQUEUE_GUIDE_CLIENT="guests")
    _, code = caller.sent(session_id="a")
    keyed = caller.post("/verify-otp", json={"phoneNumber": caller.number, "otp": code})
    caller.key = None
    keyless = caller.post("/verify-otp", json={"phoneNumber": caller.number, "otp": code})

    assert (keyed.json["errorCode"], keyless.json["errorCode"]) == ("WRONG_PIN", "PIN_NOT_FOUND")
    has_hints = hints == "true"
    assert ("with a session id" in keyed.json["error"]) == has_hints
    assert ("send the same one." in keyless.json["error"]) == has_hints
