"""`otpqueue send`, `status` and `verify`: a code by hand, over HTTP like any caller."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
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
    [("status", "7"), ("verify", "7", "123456"), ("status", NIL, "--wait", "31"), ("verify",)],
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
    _describe(bare_shell, {"api_url": served.url, "api_key": served.key})

    assert answered(bare_shell.invoke("send", "+447700900105"))["status"] == "queued"


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        ({}, "OTPQUEUE_URL and OTPQUEUE_API_KEY"),
        ({"OTPQUEUE_URL": "http://127.0.0.1:1"}, "OTPQUEUE_API_KEY as well"),
        ({"OTPQUEUE_API_KEY": "oq_x"}, "OTPQUEUE_URL as well"),
    ],
)
@pytest.mark.parametrize("arguments", [("send", "+447700900106"), ("status", NIL), ("verify", NIL, "123456")])
def test_no_api(bare_shell: Shell, arguments: tuple[str, ...], given: dict[str, str], missing: str) -> None:
    """With No API to call, or no key for it, a message says what to set."""
    result = bare_shell.invoke(*arguments, **given)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: No API to call. Set {missing}")


@pytest.mark.parametrize("arguments", [("send", "+447700900108"), ("status", NIL), ("verify", NIL, "123456")])
def test_url_and_key_come_from_one_place(bare_shell: Shell, arguments: tuple[str, ...]) -> None:
    """A file in the working folder gets no key of ours, and its own key goes nowhere else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        _describe(bare_shell, {"api_url": url, "api_key": "oq_theirs"})

        ours = bare_shell.invoke(*arguments, OTPQUEUE_API_KEY="oq_ours")
        theirs = bare_shell.invoke(*arguments, OTPQUEUE_URL=url)
        option = bare_shell.invoke(*arguments, "--api-key", "oq_ours")

        with pytest.raises(TimeoutError):
            listener.accept()
    assert [result.exit_code for result in (ours, theirs, option)] == [1, 1, 1]
    for result in (ours, theirs, option):
        assert "No API to call" in result.output


@pytest.mark.parametrize(
    ("described", "why"),
    [
        ({"api_url": "http://192.0.2.1:8000", "api_key": "oq_x"}, "names another machine"),
        ({"api_url": "http://nobody.invalid", "api_key": "oq_x"}, "names another machine"),
        ({"api_url": "", "api_key": "oq_x"}, "names another machine"),
        ({"api_url": "http://[::1", "api_key": "oq_x"}, "Cannot read"),
        ({"api_key": "oq_x"}, "Cannot read"),
        (["x"], "Cannot read"),
    ],
)
def test_dev_of_another_user(bare_shell: Shell, described: object, why: str) -> None:
    """`otpqueue dev` runs on this machine: no number goes to another one because a file says so."""
    _describe(bare_shell, described)

    result = bare_shell.invoke("send", "+447700900109")

    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert why in result.output


def test_number_and_code_from_standard_input(user: Shell, served: Served) -> None:
    """What must not stand in the process list is read from stdin."""
    number = "+447700900110"
    asked = json.loads(user.run("send", "--session-id", "s", typed=f"{number}\n").stdout)
    served.parts.pump.run()
    code = served.provider.code(number)

    checked = user.run("verify", asked["id"], "--session-id", "s", typed=f"{code[:3]} {code[3:]}\n")

    assert checked.returncode == 0
    assert json.loads(checked.stdout)["verified"] is True
    assert json.loads(user.run("send", typed="").stdout)["code"] == "invalid_request"


def test_number_in_another_encoding(user: Shell) -> None:
    """A file that is not in UTF-8 is a message."""
    found = subprocess.run(
        [sys.executable, "-m", "otpqueue", "send"],
        env=os.environ | user.environment | {"PYTHONUTF8": "1"},
        cwd=user.folder,
        input="+447700900111\n".encode("utf-16"),
        capture_output=True,
        check=False,
    )

    assert (found.returncode, found.stderr) == (
        1,
        b"Error: The phone number (E.164) on standard input is not valid UTF-8.\n",
    )


def test_key_is_not_replaced_nor_taken_elsewhere(
    user: Shell, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry of `.netrc` does not take the key's place, and a redirect is not followed."""
    netrc = user.folder / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))

    assert answered(user.invoke("send", "+447700900112"))["status"] == "queued"
    with _redirecting_to(served.url) as url:
        result = user.invoke("send", "+447700900113", OTPQUEUE_URL=url)
    assert result.output == f"Error: {url} answered HTTP 307 without JSON.\n"


def _describe(shell: Shell, content: object) -> None:
    described = shell.folder / ".otpqueue" / "dev.json"
    described.parent.mkdir()
    described.write_text(json.dumps(content))


@contextmanager
def _redirecting_to(target: str) -> Iterator[str]:
    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(307)
            self.send_header("Location", target + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Redirect) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1", "nonsense", "http://", "http://[::1"])
def test_api_not_reached(user: Shell, url: str) -> None:
    """An API that cannot be reached is a message with its URL."""
    result = user.invoke("send", "+447700900107", OTPQUEUE_URL=url)

    assert result.exit_code == 1
    assert result.output.startswith(f"Error: Cannot reach {url.rstrip('/')} (")


def test_something_else_answers(user: Shell, served: Served) -> None:
    """What answers no JSON is no API of ours."""
    result = user.invoke("status", NIL, OTPQUEUE_URL=f"{served.url}/docs?", OTPQUEUE_API_KEY="x")

    assert (result.exit_code, result.output) == (
        1,
        f"Error: {served.url}/docs? answered HTTP 200 without JSON.\n",
    )
