"""`otpqueue dev` as a user sees it: the way of a code, and how it starts, refuses, stops and dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.system.conftest import COMMAND, Dev, alive, until

pytestmark = pytest.mark.system
MakeDev = Callable[..., Dev]
MOST_MB = 400


@pytest.fixture(scope="module")
def _dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    dev = Dev(
        tmp_path_factory.mktemp("a folder with spaces"),
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="2",
        OTPQUEUE_TUNING_SEND_LEASE_S="4",
        OTPQUEUE_TUNING_SWEEP_EVERY_S="1",
        OTPQUEUE_TUNING_BACKOFF_BASE_S="0.1",
        OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S="2",
    )
    yield dev
    dev.stop()


@pytest.fixture
def dev(_dev: Dev) -> Dev:
    """Return the running instance of these tests, which some stop and start; each uses numbers of its own."""
    if not _dev.running:
        _dev.start()
    return _dev


def test_code_travels_from_request_to_verified(dev: Dev) -> None:
    """A request over HTTP is sent by a worker, polled, and verified once."""
    number = "+447700900001"

    accepted = dev.ask(number, session_id="login-1", client_reference="order 7")
    sent = dev.becomes(accepted["id"], "sent")
    code = dev.messages(number)[0]["pin"]
    first = dev.verify(accepted["id"], code, session_id="login-1")
    second = dev.verify(accepted["id"], code, session_id="login-1")

    assert accepted["status"] == "queued"
    assert accepted["phone_number"] == "+44********01"
    assert sent["expires_at"] is not None
    assert first.status_code == 200
    assert first.json()["verified"] is True
    assert first.json()["client_reference"] == "order 7"
    assert second.status_code == 409
    assert second.json()["code"] == "already_verified"


def test_code_is_reported_as_delivered(dev: Dev) -> None:
    """The simulator's reports reach the API, so that requests become delivered; the console counts them."""
    accepted = dev.ask("+447700900019")

    dev.becomes(accepted["id"], "delivered")

    until(
        lambda: dev.rows("SELECT sum(n) FROM stats_minutes WHERE metric = 'delivered'")[0][0] is not None,
        seconds=40,
    )
    page = requests.get(dev.about["console_url"], timeout=10)
    assert page.url.endswith("/console/log-in")
    assert dev.about["admin_api_key"] in dev.output()


@pytest.mark.skipif(not shutil.which("curl"), reason="the commands that dev prints use curl")
def test_printed_commands_work_when_pasted(dev: Dev) -> None:
    """Pasting what `otpqueue dev` prints leads to a verified code."""
    lines = dev.output().split("Paste this")[-1].splitlines()
    commands = [line for line in lines if line.startswith("  ")][:5]

    pasted = subprocess.run(
        ["bash", "-c", "\n".join(commands)], capture_output=True, text=True, timeout=60, check=True
    )

    assert '"verified":true' in pasted.stdout


def test_guides_front_end_needs_no_key(dev: Dev) -> None:
    """The guide's two calls work without a key in development."""
    number, url = "+447700900002", dev.about["api_url"]

    asked = requests.post(f"{url}/request-otp", json={"phoneNumber": number}, timeout=10)
    until(lambda: bool(dev.messages(number)), seconds=10)
    dev.becomes(asked.json()["requestId"], "sent")
    right = {"phoneNumber": number, "otp": dev.messages(number)[0]["pin"]}
    wrong = right | {"otp": f"{(int(right['otp']) + 1) % 1_000_000:06}"}
    refused = requests.post(f"{url}/verify-otp", json=wrong, timeout=10)
    verified = requests.post(f"{url}/verify-otp", json=right, timeout=10)

    assert asked.status_code == 202
    assert asked.json()["success"] is True
    assert refused.status_code == 400
    assert refused.json()["success"] is False
    assert refused.json()["errorCode"] == "WRONG_PIN"
    assert verified.status_code == 200
    assert verified.json()["success"] is True


def test_provider_that_recovers_is_asked_again(dev: Dev) -> None:
    """Two refusals and then a success end `sent`, with three attempts on record."""
    number = "+447700900003"
    dev.fault(match={"to": number.removeprefix("+"), "path": "/2fa/2/pin"}, times=2, status=503)

    accepted = dev.ask(number)
    dev.becomes(accepted["id"], "sent")

    statement = "SELECT outcome, http_status FROM send_attempts WHERE request_id = %s ORDER BY number"
    attempts = dev.rows(statement, accepted["id"])
    assert attempts == [("refused", 503), ("refused", 503), ("accepted", 200)]
    assert len(dev.messages(number)) == 1


def test_number_that_the_provider_refuses_fails(dev: Dev) -> None:
    """A permanent refusal ends `failed` with the provider's code."""
    number = "+447700900004"
    dev.fault(match={"to": number.removeprefix("+")}, times=None, status=400)

    accepted = dev.ask(number)
    failed = dev.becomes(accepted["id"], "failed")

    assert failed["reason"] == "provider_refused"
    assert failed["provider_code"] == "BAD_REQUEST"


def test_right_code_is_accepted_once_of_fifty(dev: Dev) -> None:
    """Fifty concurrent checks of one right code: one 200, the rest 409."""
    number = "+447700900005"
    accepted = dev.ask(number)
    dev.becomes(accepted["id"], "sent")
    code = dev.messages(number)[0]["pin"]

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: dev.verify(accepted["id"], code).status_code, range(50)))

    assert sorted(answers) == [200] + [409] * 49


def test_numbers_and_codes_stay_out_of_the_logs(dev: Dev) -> None:
    """What the processes print holds no whole number, no code and no key of the provider."""
    number = "+447700900006"
    accepted = dev.ask(number, session_id="a-secret-session")
    dev.becomes(accepted["id"], "sent")
    message = dev.messages(number)[0]

    dev.verify(accepted["id"], message["pin"], session_id="a-secret-session")

    printed = dev.output()
    assert accepted["id"] in printed
    for secret in (number[1:], message["pinId"], "a-secret-session", dev.about["infobip_api_key"]):
        assert secret not in printed


def test_killed_worker_loses_nothing(dev: Dev) -> None:
    """A worker killed while the provider answers: its attempt ends unknown, the code is sent again."""
    number = "+447700900007"
    dev.fault(match={"to": number.removeprefix("+")}, times=1, latency_ms=1800)
    accepted = dev.ask(number)
    until(lambda: bool(dev.messages(number)), seconds=10)

    killed = dev.about["pids"]["worker"]
    os.kill(killed, signal.SIGKILL)
    dev.becomes(accepted["id"], "sent", seconds=30)

    statement = "SELECT outcome FROM send_attempts WHERE request_id = %s ORDER BY number"
    assert dev.rows(statement, accepted["id"]) == [("unknown",), ("accepted",)]
    assert dev.about["pids"]["worker"] != killed


@pytest.mark.full
def test_operator_beside_a_running_dev(dev: Dev) -> None:
    """Without any setting, commands find the instance, and a webhook to loopback is notified."""
    arrived: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, *arguments], cwd=dev.folder, capture_output=True, text=True, timeout=60, check=False
        )

    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            made = run("webhooks", "set", "dev", f"http://127.0.0.1:{server.server_port}/")
            accepted = dev.ask("+447700900077")
            until(lambda: any(accepted["id"] in json.dumps(one) for one in arrived), seconds=20)
            examined = run("doctor", "--json")
        finally:
            server.shutdown()
            thread.join()

    assert made.returncode == 0, made.stderr
    findings = json.loads(examined.stdout)["findings"]
    assert [one for one in findings if one["level"] == "failure"] == []
    assert {one["what"] for one in findings if one["check"] == "processes"} >= {"1 x API", "1 x beat"}
    assert dev.about["environment"]["DATABASE_URL"] == dev.about["database_url"]


def test_sigterm_leaves_no_process_and_keeps_the_data(dev: Dev) -> None:
    """SIGTERM ends every process and removes dev.json; the next start finds the data and the keys."""
    accepted = dev.ask("+447700900010")
    dev.becomes(accepted["id"], "sent")
    family, key = dev.family(), dev.about["api_key"]

    exit_code = dev.stop(signal.SIGTERM)

    assert exit_code == 0
    assert len(family) >= 9
    assert alive(family) == set()
    assert not dev.described.exists()

    dev.start()

    assert dev.about["api_key"] == key
    assert dev.call("GET", f"/v1/otp-requests/{accepted['id']}").json()["status"] in {"sent", "delivered"}


def test_kill_leaves_no_process(dev: Dev) -> None:
    """`kill -9` of `dev` leaves no process after a few seconds, and the folder can be used again."""
    family = dev.family()

    dev.stop(signal.SIGKILL)

    until(lambda: not alive(family), seconds=10, told=lambda: f"still alive: {alive(family)}")
    dev.start()
    until(lambda: _status(dev) == "healthy", seconds=20, told=dev.output)


def test_second_instance_is_refused(dev: Dev) -> None:
    """Two instances on one folder, or on one port, are refused with what to do."""
    port = dev.about["api_url"].rpartition(":")[2]

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [COMMAND, "dev", *arguments],
            cwd=dev.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    same_folder = start("--port", "0")
    same_port = start("--port", port, "--data-dir", "elsewhere")

    assert same_folder.returncode == 1
    assert "in use by another instance" in same_folder.stderr
    assert same_port.returncode == 1
    assert f"Port {port} is in use" in same_port.stderr


def test_no_fork_beside_a_thread(dev: Dev, tmp_path: Path) -> None:
    """Where something else runs threads in the process, as a debugger does, it says how to start instead."""
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "
        "from otpqueue.cli import main; main(['dev', '--port', '0', '--fork'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        # It comes to the first fork without engines of its own.
        env={**os.environ, "DATABASE_URL": dev.about["database_url"], "REDIS_URL": dev.about["redis_url"]},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 1
    assert "Start with --no-fork." in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_settings_pass_through(make_dev: MakeDev) -> None:
    """Settings of the environment reach the parts: a lower number of checks shows in the answers."""
    dev = make_dev(OTPQUEUE_MAX_CHECKS="2", OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")

    accepted = dev.ask("+447911123456")
    refused = dev.call("POST", "/v1/otp-requests", json={"phone_number": "+447700900123"})

    assert accepted["checks_left"] == 2
    assert refused.status_code == 422
    assert refused.json()["code"] == "number_not_allowed"


@pytest.mark.parametrize("part", ["api", "periodic", "beat", "simulator", "redis", "postgres"])
def test_killed_part_is_restarted(dev: Dev, part: str) -> None:
    """A part that is killed is started again, and then codes are sent."""
    before = dev.about["pids"]

    os.kill(before[part], signal.SIGKILL)

    until(lambda: dev.described.is_file() and dev.about["pids"][part] != before[part], seconds=30)
    until(lambda: _status(dev) == "healthy", seconds=60, told=dev.output)
    assert {name for name, pid in dev.about["pids"].items() if pid != before[name]} == {part}
    dev.becomes(dev.ask(f"+4477009001{len(part):02}", session_id=part)["id"], "sent", seconds=30)


def _status(dev: Dev) -> str:
    try:
        return str(dev.call("GET", "/health").json()["status"])
    except (requests.RequestException, ValueError):
        return "no answer"


@pytest.mark.full
def test_memory_is_shared(make_dev: MakeDev) -> None:
    """Idle, all processes together take up no more than 400 MB, each shared page counted once."""
    if not Path("/proc/self/smaps_rollup").exists():
        pytest.skip("only Linux tells what processes share")
    dev = make_dev()

    shares = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in dev.family()]

    used_mb = sum(int(re.search(r"^Pss:\s+(\d+)", share, re.MULTILINE)[1]) for share in shares) / 1024
    assert used_mb <= MOST_MB


@pytest.mark.full
def test_parts_started_as_commands(make_dev: MakeDev) -> None:
    """With `--no-fork` each part is a program of its own, and all else is the same."""
    dev = make_dev("--no-fork")
    accepted = dev.ask("+447700900011")
    dev.becomes(accepted["id"], "sent")
    family = dev.family()
    worker = subprocess.run(
        ["ps", "-ww", "-o", "command=", "-p", str(dev.about["pids"]["worker"])],
        capture_output=True,
        text=True,
        check=True,
    )

    assert dev.stop(signal.SIGTERM) == 0
    assert "-m otpqueue worker --queues=send" in worker.stdout
    assert alive(family) == set()
