"""`otpqueue dev` as a command: how it starts, refuses, stops and dies."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from tests.system.conftest import COMMAND, Dev, alive, until

pytestmark = pytest.mark.system
MakeDev = Callable[..., Dev]
MOST_MB = 400


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
    assert dev.call("GET", "/health").json()["status"] == "healthy"


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
    assert f"Port {port} is in use" in same_port.stderr


def test_no_fork_beside_a_thread(tmp_path: Path) -> None:
    """Where something else runs threads in the process, as a debugger does, it says how to start instead."""
    program = (
        "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "
        "from otpqueue.cli import main; main(['dev', '--port', '0', '--fork'])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
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
def test_killed_part_is_restarted(shared: Dev, part: str) -> None:
    """A part that is killed is started again, and then codes are sent."""
    before = shared.about["pids"]

    os.kill(before[part], signal.SIGKILL)

    until(lambda: shared.described.is_file() and shared.about["pids"][part] != before[part], seconds=30)
    until(lambda: _status(shared) == "healthy", seconds=60, told=shared.output)
    assert {name for name, pid in shared.about["pids"].items() if pid != before[name]} == {part}
    shared.becomes(shared.ask(f"+4477009000{len(part):02}", session_id=part)["id"], "sent", seconds=30)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    """Yield an instance without limits for the tests that kill its parts."""
    dev = Dev(
        tmp_path_factory.mktemp("dev"),
        OTPQUEUE_LIMIT_NUMBER_15M="off",
        OTPQUEUE_TUNING_SWEEP_EVERY_S="1",
        OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S="2",
    ).start()
    yield dev
    dev.stop()


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
