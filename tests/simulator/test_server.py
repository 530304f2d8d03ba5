import http.client
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner

from otpqueue.simulator.command import simulator as command
from otpqueue.simulator.faults import FaultBody
from otpqueue.simulator.magic import MAGIC_NUMBERS
from otpqueue.simulator.options import Options
from otpqueue.simulator.receipts import ReceiptRuleBody
from otpqueue.simulator.server import running

API_KEY = "test-key"
HEADERS = {"Authorization": f"App {API_KEY}", "Content-Type": "application/json"}


def test_slow_requests_do_not_wait_for_each_other(client):
    """A hundred sends at 300 ms each run side by side."""
    body = client.ready(sendPinPerApplicationLimit="1000/1d")
    client.fault(latency_ms=300)

    def send(number: int) -> int:
        to = f"4179{number:07}"
        return requests.post(
            f"{client.url}/2fa/2/pin", json={**body, "to": to}, headers=HEADERS, timeout=10
        ).status_code

    with ThreadPoolExecutor(100) as pool:
        started = time.monotonic()
        statuses = list(pool.map(send, range(100)))
        took = time.monotonic() - started
    assert statuses == [200] * 100
    assert len({message["to"] for message in client.inbox()}) == 100
    assert took < 3


def test_idle_it_sleeps_until_it_is_stopped(monkeypatch):
    """A stop wakes the server between its ticks; answers have a date from the first one on."""
    monkeypatch.setattr("otpqueue.simulator.server.TICK_S", 600)
    with running(Options()) as simulator:
        answer = requests.get(f"{simulator.url}/_simulator/stats", timeout=5)
        started = time.monotonic()
    assert time.monotonic() - started < 30
    assert answer.headers["Date"].endswith("GMT")


def test_connections_are_kept(client):
    """Many requests, refused ones too, are served over one connection."""
    host = client.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=5)
    try:
        connection.connect()
        sock = connection.sock
        for headers in (HEADERS, {}, HEADERS):
            connection.request("GET", "/2fa/2/applications", headers=headers)
            connection.getresponse().read()
            assert connection.sock is sock
    finally:
        connection.close()


def test_kept_connections_answer_at_once(client):
    """Answers on a kept connection do not wait for the client's delayed acknowledgement."""
    body = client.ready(sendPinPerApplicationLimit="1000/1d")
    started = time.monotonic()
    for _ in range(50):
        client.send_pin(body)
    assert time.monotonic() - started < 50 * 0.03


def test_drop_sends_no_byte(client):
    """A cut connection has carried no part of an answer."""
    client.fault(drop="after", times=1)
    host, _, port = client.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as sock:
        head = f"GET /2fa/2/applications HTTP/1.1\r\nHost: x\r\nAuthorization: App {API_KEY}\r\n\r\n"
        sock.sendall(head.encode())
        assert sock.recv(100) == b""


def test_two_simulators_share_nothing(client):
    """Simulators in one process have memories of their own."""
    client.application()
    with running(Options(api_keys=(API_KEY,))) as other:
        url = f"{other.url}/2fa/2/applications"
        assert requests.get(url, headers=HEADERS, timeout=5).json() == []
        assert other.state.applications == {}


def test_stopping_cuts_what_still_waits():
    """Stopping takes less than a second, also while a slow answer is due."""
    seen: list[Exception] = []

    def wait(url: str) -> None:
        try:
            requests.get(f"{url}/2fa/2/applications", timeout=20)
        except requests.ConnectionError as error:
            seen.append(error)

    with running(Options()) as simulator:
        requests.post(f"{simulator.url}/_simulator/faults", json={"latency_ms": 60_000}, timeout=5)
        waiting = threading.Thread(target=wait, args=(simulator.url,))
        waiting.start()
        while not simulator.state.faults.all()[0].used:
            time.sleep(0.01)
        started = time.monotonic()
    assert time.monotonic() - started < 1
    waiting.join()
    assert len(seen) == 1


def test_taken_port_is_an_oserror(simulator):
    """A port that is taken is reported as OSError."""
    port = int(simulator.url.rpartition(":")[2])
    with pytest.raises(OSError, match="in use"), running(Options(), port=port):
        pass


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_command_serves_until_it_is_stopped(stop):
    """The command says in one line where it listens, takes its key, and ends well on a signal."""
    arguments = [sys.executable, "-m", "otpqueue.simulator", "--port", "0", "--api-key", "k"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stderr.readline()
        match = re.fullmatch(r"Infobip simulator listens on (http://127\.0\.0\.1:\d+)\n", line)
        assert match
        url = f"{match[1]}/2fa/2/applications"
        assert requests.get(url, headers={"Authorization": "App k"}, timeout=5).json() == []
        started = time.monotonic()
        process.send_signal(stop)
        assert process.wait(5) == 0
        assert time.monotonic() - started < 2
        assert process.stdout.read() == process.stderr.read() == ""


def test_help_names_every_choice():
    """Each option of the simulator can be set from the command line, and is explained there."""
    answer = CliRunner().invoke(command, ["--help"])
    assert answer.exit_code == 0
    for switch in ("--host", "--port", "--api-key", "--basic-user", "--create-status", "--no-resend-counts"):
        assert switch in answer.output
    for name in set(Options.model_fields) - {"api_keys", "basic_users"}:
        assert f"--{name.replace('_', '-')}" in answer.output
    assert "--state" in answer.output


def test_help_is_enough_to_use_it_alone():
    """Help names every path of its own, every word of a fault and of a rule, and every magic number."""
    shown = CliRunner().invoke(command, ["--help"]).output
    paths = ("messages", "faults", "receipts", "clock", "reset", "stats", "magic-numbers")
    for word in (
        *(f"/_simulator/{path}" for path in paths),
        *FaultBody.model_fields,
        *ReceiptRuleBody.model_fields,
    ):
        assert word in shown
    for entry in MAGIC_NUMBERS:
        assert f"{entry.number}  {entry.meaning}\n" in shown


def test_the_guide_has_the_same_table():
    """The magic numbers of the documentation are those of the code."""
    guide = Path(__file__).parents[2] / "docs" / "simulator.md"
    rows = re.findall(r"^\| `(\d{12})` \| (.*) \|$", guide.read_text(), re.MULTILINE)
    assert rows == [(entry.number, entry.meaning) for entry in MAGIC_NUMBERS]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--api-key", ""], "api_keys.0"),
        (["--basic-user", "ann"], "basic_users.0"),
        (["--inbox-size", "0"], "inbox_size"),
        (["--create-status", "204"], "--create-status"),
        (["--scoped-key", "k"], "scoped_keys.0"),
        (["--receipts-url", "ftp://x"], "receipts_url"),
        (["--receipts-currency", "euro"], "receipts_currency"),
        (["--receipts-delay-ms", "x"], "--receipts-delay-ms"),
    ],
)
def test_bad_switches_are_usage_errors(arguments, words):
    """A bad value is a usage error that names the switch."""
    answer = CliRunner().invoke(command, arguments)
    assert answer.exit_code == 2
    assert words in answer.output


def test_command_on_a_taken_port(simulator):
    """A taken port ends the command with an error."""
    answer = CliRunner().invoke(command, ["--port", simulator.url.rpartition(":")[2]])
    assert answer.exit_code == 1
    assert "cannot listen on 127.0.0.1" in answer.output
