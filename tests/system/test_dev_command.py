"""`otpqueue dev` as a command: how it starts, refuses, stops and dies."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable

import pytest

from tests.system.conftest import COMMAND, Dev, alive, until

pytestmark = pytest.mark.system
MakeDev = Callable[..., Dev]


def test_sigterm_leaves_no_process_and_keeps_the_data(make_dev: MakeDev) -> None:
    """SIGTERM ends every process and removes dev.json; the next start finds the data and the keys."""
    dev = make_dev()
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


def test_kill_leaves_no_process(make_dev: MakeDev) -> None:
    """`kill -9` of `dev` leaves no process after a few seconds, and the folder can be used again."""
    dev = make_dev()
    family = dev.family()

    dev.stop(signal.SIGKILL)

    until(lambda: not alive(family), seconds=10, told=lambda: f"still alive: {alive(family)}")
    dev.start()
    assert dev.call("GET", "/health").json()["status"] == "ok"


def test_second_instance_is_refused(make_dev: MakeDev) -> None:
    """Two instances on one folder, or on one port, are refused with what to do."""
    dev = make_dev()
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
    assert f"port {port} is taken" in same_port.stderr


def test_settings_pass_through(make_dev: MakeDev) -> None:
    """Settings of the environment reach the parts: a lower number of checks shows in the answers."""
    dev = make_dev(OTPQUEUE_MAX_CHECKS="2", OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS="false")

    accepted = dev.ask("+447911123456")
    refused = dev.call("POST", "/v1/otp-requests", json={"phone_number": "+447700900123"})

    assert accepted["checks_left"] == 2
    assert refused.status_code == 422
    assert refused.json()["code"] == "number_not_allowed"
