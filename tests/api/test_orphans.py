"""A main process of the API that is killed takes its children along, and no second one shares its port."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from otpqueue.api.http.sockets import check_address
from otpqueue.cli.exits import ExitCode
from otpqueue.parent import STARTED_BY
from otpqueue.wiring import Parts
from tests.api.conftest import free_port
from tests.operations.looking import heartbeats, until

Serve = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def serve(module_settings: Mapping[str, str], tmp_path: Path) -> Iterator[Serve]:
    """Yield a function that starts `otpqueue api` in a group of its own, which is killed in the end."""
    started: list[subprocess.Popen[bytes]] = []
    # What a shell without job control starts in the background ignores SIGQUIT, and so do its children.
    quit_action = signal.signal(signal.SIGQUIT, signal.SIG_DFL)

    def start(port: int, **differing: str) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "otpqueue", "api", f"--port={port}"],
                env={**os.environ, **module_settings, **differing},
                cwd=tmp_path,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start
    signal.signal(signal.SIGQUIT, quit_action)
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stderr
        process.stderr.close()


def answers(port: int) -> bool:
    """Return whether somebody answers on a port."""
    try:
        return requests.get(f"http://127.0.0.1:{port}/health/live", timeout=1).ok
    except requests.RequestException:
        return False


def children(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)
    pairs = (line.split() for line in listed.stdout.splitlines())
    return [int(child) for child, parent in pairs if int(parent) == pid]


def lives(pid: int) -> bool:
    """Return whether a process has not ended."""
    listed = subprocess.run(
        ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout.strip()[:1] not in {"", "Z"}


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        *(pytest.param(one, marks=pytest.mark.full) for one in (signal.SIGQUIT, signal.SIGUSR1)),
    ],
)
def test_children_end_with_their_main_process(serve: Serve, number: signal.Signals) -> None:
    """Killed in whichever way, it leaves nobody behind: started again, only the new settings answer."""
    port = free_port()
    main = serve(port, OTPQUEUE_API_PROCESSES="2", OTPQUEUE_CONSOLE="false")
    until(lambda: answers(port), within_s=60)
    workers = until(lambda: found if len(found := children(main.pid)) >= 2 else [])

    os.kill(main.pid, number)
    main.wait(60)
    until(lambda: not [pid for pid in workers if lives(pid)], within_s=15)
    serve(port, OTPQUEUE_API_PROCESSES="2", OTPQUEUE_CONSOLE="true")
    until(lambda: answers(port), within_s=60)

    url = f"http://127.0.0.1:{port}/console/log-in"
    assert {requests.get(url, timeout=5).status_code for _ in range(20)} == {200}


@pytest.mark.parametrize(
    "host",
    ["localhost", *(pytest.param(one, marks=pytest.mark.full) for one in ("127.0.0.1", "0.0.0.0"))],  # noqa: S104
)
def test_port_that_is_taken(serve: Serve, host: str) -> None:
    """A second start says so and ends; the first one goes on."""
    port = free_port()
    serve(port)
    until(lambda: answers(port), within_s=60)

    second = serve(port, OTPQUEUE_HOST=host)

    assert second.wait(60) == ExitCode.REFUSED
    assert second.stderr
    said = second.stderr.read().decode().strip().splitlines()[-1]
    assert said == f"Error: Cannot listen on {host} port {port}: {os.strerror(errno.EADDRINUSE)}"
    assert answers(port)


def test_address_of_another_machine() -> None:
    """What cannot be listened on is no free address."""
    with pytest.raises(OSError, match="assign"):
        check_address("192.0.2.1", free_port())
    with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
        check_address("nobody.invalid", free_port())
    check_address("127.0.0.1", free_port())
    check_address("localhost", free_port())


def test_port_of_connections_that_have_ended() -> None:
    """They wait for a minute in the kernel, and are in nobody's way: a restart takes the port at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()

    check_address("127.0.0.1", port)


@pytest.mark.parametrize("command", [("worker", "--queues=send"), ("beat",)])
def test_parts_of_dev_end_with_it(
    module_settings: Mapping[str, str], module_parts: Parts, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """Where the kernel does not see to that, they watch the process that has started them."""
    program = f"""
import os, subprocess, sys, time
child = subprocess.Popen(
    [sys.executable, "-m", "otpqueue", *{command!r}],
    env=os.environ | {{{STARTED_BY!r}: str(os.getpid())}}, stderr=open("child.log", "w"),
)
print(child.pid, flush=True)
time.sleep(600)
"""
    supervisor = subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, **module_settings},
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    assert supervisor.stdout
    child = int(supervisor.stdout.readline())
    until(lambda: any(one.process.endswith(f":{child}") for one in heartbeats(module_parts)), within_s=60)

    supervisor.kill()
    supervisor.communicate()

    until(lambda: not lives(child), within_s=15)
    assert "parent_gone" in (tmp_path / "child.log").read_text()
