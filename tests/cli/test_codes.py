"""`otpqueue send`, `status` and `verify`: a code by hand, over HTTP like any caller."""

from __future__ import annotations

import json
import os
import re
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
from sqlalchemy import text

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.domain.templates import ProviderIds
from otpqueue.embedded import EngineHome
from otpqueue.settings import Settings
from otpqueue.store.engine import connection
from otpqueue.store.provider_ids import store_ids
from tests.api.serving import Served
from tests.cli.conftest import Shell
from tests.cli.forking import Forking

NIL = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def user(forking: Forking, served: Served, tmp_path: Path) -> Shell:
    """Return the shell of somebody who has the API's URL and a key."""
    return Shell(forking, tmp_path, {"OTPQUEUE_URL": served.url, "OTPQUEUE_API_KEY": served.key})


def ask(shell: Shell, *arguments: str, **differing: str | None) -> Result:
    """Run a command that prints JSON."""
    return shell.invoke(*arguments, "--json", **differing)


def answered(result: Result, code: int = 0) -> dict[str, Any]:
    """Return the JSON that a command printed."""
    assert result.exit_code == code, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


def test_code_by_hand(user: Shell, served: Served) -> None:
    """A code is asked for, waited for, and checked: exit code 0 only for the right one."""
    number = "+447700900101"

    asked = answered(ask(user, "send", number, "--session-id", "s"))
    served.parts.pump.run()
    shown = answered(ask(user, "status", asked["id"], "--wait", "1"))
    code = served.provider.code(number)
    no_session = answered(ask(user, "verify", asked["id"], code), ExitCode.REFUSED)
    wrong = answered(
        ask(user, "verify", asked["id"], f"{(int(code) + 1) % 10**6:06}", "--session-id", "s"),
        ExitCode.REFUSED,
    )
    right = answered(ask(user, "verify", asked["id"], code, "--session-id", "s"))
    again = answered(ask(user, "verify", asked["id"], code, "--session-id", "s"), ExitCode.REFUSED)

    assert (asked["status"], shown["status"]) == ("queued", "sent")
    assert no_session["code"] == wrong["code"] == "code_incorrect"
    assert right["verified"] is True
    assert again["code"] == "already_verified"


def test_national_number(user: Shell) -> None:
    """`--country` reads a national number."""
    asked = answered(ask(user, "send", "07700 900102", "--country", "GB"))

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
    expected = ExitCode.NOT_FOUND if code == "request_not_found" else ExitCode.REFUSED
    assert answered(ask(user, *arguments), expected)["code"] == code


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
    refused = answered(ask(user, "send", "+447700900103", OTPQUEUE_API_KEY="oq_x"), ExitCode.DENIED)
    impossible = user.invoke("send", "+447700900103", OTPQUEUE_API_KEY="ключ")

    assert refused["code"] == "unauthenticated"
    assert (impossible.exit_code, impossible.output[:7]) == (ExitCode.UNREACHABLE, "Error: ")


def test_options_win(user: Shell, served: Served) -> None:
    """`--url` and `--api-key` win over the environment; a slash at the URL's end does not matter."""
    result = user.invoke(
        *("send", "+447700900104", "--url", f"{served.url}/", "--api-key", served.key, "--json"),
        OTPQUEUE_URL="http://127.0.0.1:1",
        OTPQUEUE_API_KEY="oq_x",
    )

    assert answered(result)["status"] == "queued"


def test_beside_a_running_dev(bare_shell: Shell, served: Served) -> None:
    """Beside `otpqueue dev` nothing needs to be set: its dev.json says where the API is, and a key."""
    with _describe(bare_shell, {"api_url": served.url, "api_key": served.key}):
        assert answered(ask(bare_shell, "send", "+447700900105"))["status"] == "queued"


def test_dev_that_was_killed(bare_shell: Shell, served: Served) -> None:
    """A dev.json without the lock of a running instance is ignored."""
    _describe(bare_shell, {"api_url": served.url, "api_key": served.key}).release()

    result = bare_shell.invoke("send", "+447700900105")

    assert result.exit_code == ExitCode.CONFIGURATION
    assert "No API to call" in result.output


def test_dev_that_runs_elsewhere(bare_shell: Shell, served: Served, tmp_path: Path) -> None:
    """A copied dev.json beside a link to the lock of another program is no running instance."""
    folder = bare_shell.folder / ".otpqueue"
    folder.mkdir()
    (folder / "dev.json").write_text(json.dumps({"api_url": served.url, "api_key": served.key}))
    (folder / "lock").symlink_to(tmp_path / "elsewhere" / "lock")
    with EngineHome(tmp_path / "elsewhere"):
        result = bare_shell.invoke("send", "+447700900105")

    assert result.exit_code == ExitCode.CONFIGURATION
    assert "No API to call" in result.output


def test_resend_and_cancel(user: Shell, served: Served) -> None:
    """A code is asked for by voice in a language, resent too soon, and cancelled; people read lines."""
    sent = user.invoke("send", "+447700900120", "--channel", "voice", "--language", "en")
    request_id = re.search(r"^request +(\S+)$", sent.output, re.MULTILINE)
    assert request_id is not None, sent.output
    served.parts.pump.run()

    resent = user.invoke("resend", request_id[1], "--channel", "sms")
    cancelled = user.invoke("cancel", request_id[1])
    late = answered(ask(user, "resend", request_id[1]), ExitCode.REFUSED)
    unknown = user.invoke("cancel", NIL)

    assert (sent.exit_code, cancelled.exit_code) == (0, 0)
    assert re.search(r"^channel +voice$", sent.output, re.MULTILINE)
    assert (resent.exit_code, resent.stdout) == (ExitCode.REFUSED, "")
    assert re.fullmatch(r"Error: .+ \(resend_too_soon\)\n", resent.stderr)
    assert re.search(r"^status +cancelled", cancelled.output, re.MULTILINE)
    assert late["code"] == "cancelled"
    assert (unknown.exit_code, unknown.stdout) == (ExitCode.NOT_FOUND, "")


def test_problems_for_people(user: Shell) -> None:
    """A refusal names the fields that are wrong, on standard error."""
    refused = user.invoke("send", "+441", "--language", "klingon")

    assert (refused.exit_code, refused.stdout) == (ExitCode.REFUSED, "")
    assert "(invalid_request)\n  language " in refused.stderr


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

    assert result.exit_code == ExitCode.CONFIGURATION
    assert result.output.startswith(f"Error: No API to call. Set {missing}")


@pytest.mark.parametrize("arguments", [("send", "+447700900108"), ("status", NIL), ("verify", NIL, "123456")])
def test_url_and_key_come_from_one_place(bare_shell: Shell, arguments: tuple[str, ...]) -> None:
    """A file in the working folder gets no key of ours, and its own key goes nowhere else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with _describe(bare_shell, {"api_url": url, "api_key": "oq_theirs"}):
            ours = bare_shell.invoke(*arguments, OTPQUEUE_API_KEY="oq_ours")
            theirs = bare_shell.invoke(*arguments, OTPQUEUE_URL=url)
            option = bare_shell.invoke(*arguments, "--api-key", "oq_ours")

        with pytest.raises(TimeoutError):
            listener.accept()
    assert [result.exit_code for result in (ours, theirs, option)] == [ExitCode.CONFIGURATION] * 3
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
    with _describe(bare_shell, described):
        result = bare_shell.invoke("send", "+447700900109")

    assert result.exit_code == ExitCode.CONFIGURATION
    assert result.output.startswith("Error: ")
    assert why in result.output


def test_number_and_code_from_standard_input(user: Shell, served: Served) -> None:
    """What must not stand in the process list is read from stdin."""
    number = "+447700900110"
    asked = json.loads(user.run("send", "--session-id", "s", "--json", typed=f"{number}\n").stdout)
    served.parts.pump.run()
    code = served.provider.code(number)

    checked = user.run("verify", asked["id"], "--session-id", "s", "--json", typed=f"{code[:3]} {code[3:]}\n")

    assert checked.returncode == 0
    assert json.loads(checked.stdout)["verified"] is True
    assert json.loads(user.run("send", "--json", typed="").stdout)["code"] == "invalid_request"


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
        ExitCode.USAGE,
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

    assert answered(ask(user, "send", "+447700900112"))["status"] == "queued"
    with _redirecting_to(served.url) as url:
        result = user.invoke("send", "+447700900113", OTPQUEUE_URL=url)
    assert result.output == f"Error: {url} answered HTTP 307 without JSON.\n"


def _describe(shell: Shell, content: object) -> EngineHome:
    """Write a dev.json beside the lock of a running instance, which the caller holds or releases."""
    home = EngineHome(shell.folder / ".otpqueue").acquire()
    (home.path / "dev.json").write_text(json.dumps(content))
    return home


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

    assert result.exit_code == ExitCode.UNREACHABLE
    assert result.output.startswith(f"Error: Cannot reach {url.rstrip('/')} (")


def test_something_else_answers(user: Shell, served: Served) -> None:
    """What answers no JSON is no API of ours."""
    result = user.invoke("status", NIL, OTPQUEUE_URL=f"{served.url}/docs/api?", OTPQUEUE_API_KEY="x")

    assert (result.exit_code, result.output) == (
        ExitCode.UNREACHABLE,
        f"Error: {served.url}/docs/api? answered HTTP 200 without JSON.\n",
    )


@pytest.fixture
def tester(forking: Forking, served: Served, tmp_path: Path) -> Shell:
    """Return the shell of an operator who may load-test the served API."""
    settings = served.parts.settings
    needed = ("database_url", "redis_url", "infobip_base_url", "infobip_api_key", "seal_keys", "hash_key")
    variables = {str(Settings.model_fields[name].alias): settings.require(name) for name in needed}
    target = {"OTPQUEUE_URL": served.url, "OTPQUEUE_API_KEY": served.key}
    return Shell(forking, tmp_path, variables | target)


@contextmanager
def _sending(served: Served) -> Iterator[None]:
    """Send codes as a worker would until the block ends."""
    stopped = threading.Event()

    def send() -> None:
        while not stopped.wait(0.02):
            served.parts.pump.run()

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def test_load(tester: Shell, served: Served) -> None:
    """A second of load: what is accepted is sent, limits are refusals, and each second is shown."""
    with _sending(served):
        result = tester.invoke("load", "--rate", "40", "--connections", "4", "--seconds", "1")
        used = {one.what: one.taken for one in served.parts.switch.status(now=clock.now()).lines}
        served.parts.clients.set("served", "daily_cap", str(used["client served"] + 6))
        found = answered(ask(tester, "load", "--rate", "20", "--seconds", "1"))
        served.parts.clients.unset("served", "daily_cap")

    assert result.exit_code == 0, result.output
    assert re.search(r"^accepted   40 in \d", result.stdout, re.MULTILINE)
    assert "sent       40, 0 accepted but not sent" in result.stdout
    assert re.match(r"accepted \d+/s  p50 [\d.]+ ms  p95 [\d.]+ ms  p99 [\d.]+ ms  sent", result.stderr)
    assert found["accepted"] + found["refused"]["daily_cap_reached"] == 20
    assert found["latency_ms"]["p50"] > 0


@pytest.mark.parametrize(
    ("arguments", "differing", "exit_code", "why"),
    [
        ((), {"INFOBIP_BASE_URL": "https://x.api.infobip.com"}, ExitCode.REFUSED, "is not a simulator"),
        ((), {"INFOBIP_BASE_URL": "http://127.0.0.1:1"}, ExitCode.REFUSED, "There is no simulator"),
        ((), {"OTPQUEUE_API_KEY": "oq_other"}, ExitCode.REFUSED, "is not in this shell's database"),
        ((), {"OTPQUEUE_URL": "http://127.0.0.1:1"}, ExitCode.UNREACHABLE, "Cannot reach"),
        (("--rate", "501"), {}, ExitCode.USAGE, "--rate"),
        (("--connections", "65"), {}, ExitCode.USAGE, "--connections"),
        (("--seconds", "301"), {}, ExitCode.USAGE, "--seconds"),
    ],
)
def test_load_that_may_cost_money(
    tester: Shell, arguments: tuple[str, ...], differing: dict[str, str], exit_code: int, why: str
) -> None:
    """Nothing is requested unless the simulator surely receives it, nor more than the maximum."""
    result = tester.invoke("load", *arguments, **differing)

    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert why in result.stderr


def test_load_of_a_deployment_with_a_real_account(tester: Shell, served: Served) -> None:
    """A database that was ever provisioned at Infobip, stops the test."""
    ids = ProviderIds("app", {"en": "message"})
    with connection(served.parts.engine) as conn:
        store_ids(
            conn, ids, base_url="https://x.api.infobip.com", application_name="otpqueue", now=clock.now()
        )
    real = tester.invoke("load")
    with connection(served.parts.engine) as conn:
        conn.execute(text("DELETE FROM provider_ids WHERE base_url LIKE 'https:%'"))

    assert (real.exit_code, real.stdout) == (ExitCode.REFUSED, "")
    assert "has been provisioned at Infobip" in real.stderr
