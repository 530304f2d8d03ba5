"""A code travels from request to verified, through real processes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from tests.system.conftest import COMMAND, Dev, until

pytestmark = pytest.mark.system


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
    lines = dev.output().split("Paste this")[1].splitlines()
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
