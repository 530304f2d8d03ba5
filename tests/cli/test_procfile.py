"""The Procfile, run by honcho as a user runs it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
from honcho.environ import expand_processes, parse_procfile

from otpqueue.cli import main
from otpqueue.embedded.home import free_port
from otpqueue.jobs import QUEUES
from tests.cli.forking import Forking
from tests.conftest import Engines, Provider


def test_lines_of_the_procfile(project: Path) -> None:
    """Honcho gives the API the `PORT` of `.env`, and every line is a service, which does not end."""
    procfile = parse_procfile((project / "Procfile").read_text(encoding="utf-8"))
    started = list(expand_processes(procfile.processes, env={"PORT": "8123"}, port=8123))

    assert (started[0].name, started[0].env["PORT"]) == ("api.1", "8123")
    queues: list[str] = []
    for process in started:
        program, name, *options = shlex.split(process.cmd)
        parent = main.make_context("otpqueue", [name, *options])
        command = main.get_command(parent, name)
        assert program == "otpqueue"
        assert name in {"api", "worker", "beat"}
        assert command is not None
        queues += command.make_context(name, options, parent=parent).params.get("queues", "").split(",")
    assert sorted(filter(None, queues)) == sorted(QUEUES)


@pytest.mark.full
def test_honcho_runs_every_process(
    engines: Engines,
    redis_url: str,
    provider: Provider,
    environment: dict[str, str],
    forking: Forking,
    project: Path,
    tmp_path: Path,
) -> None:
    """The API is on the port of `.env`; the processes wait for the schema, and end with honcho."""
    port, bin_folder = free_port(), Path(sys.executable).parent
    settings = environment | {
        "DATABASE_URL": engines.postgres.create_database("test_procfile"),
        "REDIS_URL": redis_url,
        "INFOBIP_MESSAGE_TEMPLATE": "'Your code is {{pin}}.'",
        "PORT": str(port),
    }
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    shutil.copy(project / "Procfile", tmp_path)
    with (tmp_path / "log").open("w") as log:
        honcho = subprocess.Popen(
            [bin_folder / "honcho", "start"],
            cwd=tmp_path,
            env=os.environ | {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
            stdout=log,
            stderr=log,
        )
        try:
            wait_for_health(port, honcho, database="not migrated")
            for command in ("migrate", "provision"):
                done = forking.run(command, folder=tmp_path, environment=os.environ, typed=None)
                assert done.returncode == 0, done.stderr
            wait_for_health(port, honcho, status="healthy", workers="running", beat="running")
        finally:
            honcho.send_signal(signal.SIGTERM)
            ended = honcho.wait(60)
            engines.postgres.drop_database("test_procfile")
    assert ended in {0, 128 + signal.SIGTERM, -signal.SIGTERM}
    (application,) = provider.call("GET", "/2fa/2/applications").json()
    (message,) = provider.call("GET", f"/2fa/2/applications/{application['applicationId']}/messages").json()
    assert message["messageText"] == "Your code is {{pin}}."


def wait_for_health(port: int, honcho: subprocess.Popen[bytes], **expected: str) -> None:
    """Wait until the health check of the API has these values; fail if honcho ends before."""
    deadline, seen = time.monotonic() + 90, None
    while time.monotonic() < deadline:
        assert honcho.poll() is None, "honcho has ended"
        try:
            seen = requests.get(f"http://127.0.0.1:{port}/health", timeout=5).json()
        except (requests.RequestException, ValueError):
            seen = None
        if seen is not None and expected.items() <= seen.items():
            return
        time.sleep(0.2)
    raise AssertionError(f"not {expected}, but {seen}")
