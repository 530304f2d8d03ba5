"""`otpqueue send`, `status` and `verify`: a code by hand, over HTTP like any caller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.api.serving import Served
from tests.cli.conftest import Shell
from tests.cli.forking import Forking

NIL = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def user(forking: Forking, served: Served, tmp_path: Path) -> Shell:
    """Return the shell of somebody who has the API's URL and a key."""
    return Shell(forking, tmp_path, {"OTPQUEUE_URL": served.url, "OTPQUEUE_API_KEY": served.key})


def answered(result: Result, code: int = 0) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_code_by_hand(user: Shell, served: Served) -> None:
    """A code is asked for, waited for, and checked: exit code 0 only for the right one."""
    number = "+447700900101"

    asked = answered(user.invoke("send", number, "--session-id", "s"))
    served.parts.pump.run()
    shown = answered(user.invoke("status", asked["id"], "--wait", "1"))
    code = served.provider.code(number)
    no_session = answered(user.invoke("verify", asked["id"], code), 1)
    wrong = answered(
        user.invoke("verify", asked["id"], f"{(int(code) + 1) % 10**6:06}", "--session-id", "s"), 1
    )
    right = answered(user.invoke("verify", asked["id"], code, "--session-id", "s"))
    again = answered(user.invoke("verify", asked["id"], code, "--session-id", "s"), 1)

    assert (asked["status"], shown["status"]) == ("queued", "sent")
    assert no_session["code"] == wrong["code"] == "code_incorrect"
    assert right["verified"] is True
    assert again["code"] == "already_verified"


def test_national_number(user: Shell) -> None:
    """`--country` reads a national number."""
    asked = answered(user.invoke("send", "07700 900102", "--country", "GB"))

    assert asked["phone_number"] == "+44********02"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("send", "+441"), "invalid_phone_number"),
        (("send", ""), "invalid_request"),
        (("send", "0770", "--country", "Britain"), "invalid_request"),
        (("status", NIL), "request_not_found"),
        (("verify", NIL, "123456"), "request_not_found"),
        (("verify", NIL, "12345"), "invalid_request"),
    ],
)
def test_refusals(user: Shell, arguments: tuple[str, ...], code: str) -> None:
    """What the API refuses is printed as it says it, with exit code 1."""
    assert answered(user.invoke(*arguments), 1)["code"] == code


@pytest.mark.parametrize(
    "arguments",
    [("status", "7"), ("verify", "7", "123456"), ("status", NIL, "--wait", "31"), ("verify", NIL)],
)
def test_wrong_usage(user: Shell, arguments: tuple[str, ...]) -> None:
    """What cannot be an id or a time to wait does not get as far as the API."""
    result = user.invoke(*arguments)

    assert result.exit_code == 2
    assert "Usage: " in result.output


def test_wrong_key(user: Shell) -> None:
    """A wrong key is the API's 401, also one that cannot stand in a header."""
    refused = answered(user.invoke("send", "+447700900103", OTPQUEUE_API_KEY="oq_x"), 1)
    impossible = user.invoke("send", "+447700900103", OTPQUEUE_API_KEY="ключ")

    assert refused["code"] == "unauthenticated"
    assert (impossible.exit_code, impossible.output[:7]) == (1, "Error: ")


def test_options_win(user: Shell, served: Served) -> None:
    """`--url` and `--api-key` win over the environment; a slash at the URL's end does not matter."""
    result = user.invoke(
        *("send", "+447700900104", "--url", f"{served.url}/", "--api-key", served.key),
        OTPQUEUE_URL="http://127.0.0.1:1",
        OTPQUEUE_API_KEY="oq_x",
    )

    assert answered(result)["status"] == "queued"


def test_beside_a_running_dev(bare_shell: Shell, served: Served) -> None:
    """Beside `otpqueue dev` nothing needs to be set: its dev.json says where the API is, and a key."""
    described = bare_shell.folder / ".otpqueue" / "dev.json"
    described.parent.mkdir()
    described.write_text(json.dumps({"api_url": served.url, "api_key": served.key}))

    assert answered(bare_shell.invoke("send", "+447700900105"))["status"] == "queued"


@pytest.mark.parametrize("given", [{}, {"OTPQUEUE_URL": "http://127.0.0.1:1"}, {"OTPQUEUE_API_KEY": "oq_x"}])
@pytest.mark.parametrize("arguments", [("send", "+447700900106"), ("status", NIL), ("verify", NIL, "123456")])
def test_no_api(bare_shell: Shell, arguments: tuple[str, ...], given: dict[str, str]) -> None:
    """With no API to call, or no key for it, a message says what to set."""
    result = bare_shell.invoke(*arguments, **given)

    assert result.exit_code == 1
    assert result.output.startswith("Error: no API to call: set OTPQUEUE_URL and OTPQUEUE_API_KEY")


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "nonsense", "http://", "http://[::1"])
def test_api_not_reached(user: Shell, url: str) -> None:
    """An API that cannot be reached is a message with its URL."""
    result = user.invoke("send", "+447700900107", OTPQUEUE_URL=url)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: {url.rstrip('/')} cannot be reached")


def test_something_else_answers(user: Shell, served: Served) -> None:
    """What answers no JSON is no API of ours."""
    result = user.invoke("status", NIL, OTPQUEUE_URL=f"{served.url}/docs?", OTPQUEUE_API_KEY="x")

    assert (result.exit_code, result.output) == (
        1,
        f"Error: {served.url}/docs? answered HTTP 200 and no JSON\n",
    )
