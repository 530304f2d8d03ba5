import json
import signal
import subprocess
import sys
import time

import pytest
import requests
from click.testing import CliRunner

from otpqueue.simulator.command import simulator as command
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import running
from otpqueue.simulator.storage import StateFileError

API_KEY = "test-key"
TO = "41793026727"


@pytest.fixture
def path(tmp_path):
    """Return where the state is kept."""
    return tmp_path / "state.json"


@pytest.fixture
def kept(path):
    """Return a way to get a client of a simulator that keeps its state."""

    def start(**options):
        return running(Options(api_keys=(API_KEY,), oauth_clients=("a:b",), **options), state_file=path)

    return start


def written(path, words):
    """Wait until a file holds some words."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        if path.exists() and words in path.read_text():
            return
        time.sleep(0.02)
    raise AssertionError(words)


def test_everything_outlives_a_restart(kept, hook, client_at):
    """Applications, templates, PINs, limits, messages, subscriptions, reports, tokens and clock are kept."""
    form = {"client_id": "a", "client_secret": "b", "grant_type": "client_credentials"}
    with kept() as simulator, client_at(simulator.url) as client:
        client.advance(86_400)
        body = client.ready(sendPinPerPhoneNumberLimit="2/1d", pinAttempts=3, verifyPinLimit="2/1h")
        path = f"/2fa/2/applications/{body['applicationId']}"
        mail = client.post(f"{path}/email/messages", json={"emailTemplateId": 5}).json()
        pin_id = client.send_pin(body)
        client.check(pin_id, client.wrong_pin())
        client.receipts(delay_ms=7_200_000)
        message_id = client.tracked(body)
        subscription = {
            "subscriptionId": "s",
            "events": ["DELIVERY"],
            "profile": {"profileId": "p", "webhook": {"notifyUrl": hook.url}},
        }
        client.post("/subscriptions/1/subscription/SMS", json=subscription)
        token = client.post("/auth/1/oauth2/token", data=form).json()["access_token"]
        before = [
            client.get(url).json()
            for url in (path, f"{path}/messages", "/_simulator/messages", f"{path}/verifications?msisdn={TO}")
        ]
        pin = client.inbox()[1]["pin"]
    with kept() as simulator, client_at(simulator.url) as client:
        after = [
            client.get(url).json()
            for url in (path, f"{path}/messages", "/_simulator/messages", f"{path}/verifications?msisdn={TO}")
        ]
        assert after == before
        assert mail in after[1]
        assert client.post("/2fa/2/pin", json=body).status_code == 429
        assert client.check(pin_id, pin).json()["verified"] is True
        assert client.check(pin_id, pin).status_code == 429
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get("/2fa/2/applications", headers=bearer).status_code == 200
        assert client.get("/_simulator/faults").json() == {"faults": []}
        pulled = client.get("/sms/3/reports").json()["results"]
        assert [report["messageId"] for report in pulled] == [message_id] * 2
        client.advance(7201)
        deadline = time.monotonic() + 5
        while "DELIVERED_TO_HANDSET" not in hook.names() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert hook.names(message_id)[-1] == "DELIVERED_TO_HANDSET"


def test_written_shortly_after_a_change(kept, path, client_at):
    """The file follows the state while the simulator runs, and holds one JSON document at any time."""
    with kept() as simulator, client_at(simulator.url) as client:
        client.application()
        written(path, "shop")
        client.post("/2fa/2/applications", json={"name": "second"})
        written(path, "second")
        assert [entry["body"]["name"] for entry in json.loads(path.read_text())["applications"]] == [
            "shop",
            "second",
        ]
        stamp = path.stat().st_mtime_ns
        client.get("/2fa/2/applications")
        time.sleep(0.7)
        assert path.stat().st_mtime_ns == stamp
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "\n"])
def test_an_empty_file_is_a_fresh_start(kept, path, text, client_at):
    """An empty file holds nothing."""
    path.write_text(text)
    with kept() as simulator, client_at(simulator.url) as client:
        assert client.get("/2fa/2/applications").json() == []


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"version": 2}'])
def test_a_file_that_is_no_state(kept, path, text):
    """A file that holds something else stops the start, and stays as it is."""
    path.write_text(text)
    with pytest.raises(StateFileError, match=r"state\.json is not a state file"), kept():
        pass
    assert path.read_text() == text
    answer = CliRunner().invoke(command, ["--state", str(path), "--port", "0"])
    assert answer.exit_code == 1
    assert "is not a state file" in answer.output


def test_a_file_that_cannot_be_read(kept, path):
    """A folder in the file's place stops the start."""
    path.mkdir()
    with pytest.raises(StateFileError, match="directory"), kept():
        pass


def test_a_file_that_cannot_be_written(kept, path, capsys, client_at):
    """A folder that is gone is said, and does not stop the simulator."""
    with kept() as simulator, client_at(simulator.url) as client:
        simulator.state.touch()
        path.parent.rmdir()
        client.application()
    assert f"Cannot write {path}" in capsys.readouterr().err
    path.parent.mkdir()


def test_command_with_a_state_file(path):
    """The command keeps its state, and writes it when told to stop."""
    arguments = [sys.executable, "-m", "otpqueue.simulator", "--port", "0", "--api-key", "k"]
    for expected in (0, 1):
        with subprocess.Popen(
            [*arguments, "--state", str(path)], stderr=subprocess.PIPE, text=True
        ) as process:
            url = process.stderr.readline().split()[-1] + "/2fa/2/applications"
            headers = {"Authorization": "App k"}
            assert len(requests.get(url, headers=headers, timeout=5).json()) == expected
            requests.post(url, json={"name": "a"}, headers=headers, timeout=5)
            process.send_signal(signal.SIGTERM)
            assert process.wait(5) == 0
