"""`otpqueue dev` from outside. Nothing here or in the tests beside it imports otpqueue."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

COMMAND = Path(sys.executable).with_name("otpqueue")
READY_S = 60


class Dev:
    """One running `otpqueue dev` and what a user can do with it."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        self.folder, self._arguments = folder, arguments
        self._environment = {**os.environ, **environment}
        self._log = folder / "dev.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.session = requests.Session()

    def start(self) -> Dev:
        """Start it on a free port and wait until it says that it is ready."""
        self.described.unlink(missing_ok=True)  # one that was killed leaves it behind
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [COMMAND, "dev", "--port", "0", *self._arguments],
                cwd=self.folder,
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self.described.is_file() or self.process.poll() is not None, seconds=READY_S)
        assert self.process.poll() is None, self.output()
        return self

    @property
    def described(self) -> Path:
        """The file that tells programs where everything is."""
        return self.folder / ".otpqueue" / "dev.json"

    @property
    def about(self) -> dict[str, Any]:
        """What that file says."""
        found: dict[str, Any] = json.loads(self.described.read_text())
        return found

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.poll() is None

    def output(self) -> str:
        """Return all that it printed."""
        return self._log.read_text()

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Call the API with its development key."""
        about = self.about
        headers = {"Authorization": f"Bearer {about['api_key']}", **kwargs.pop("headers", {})}
        return requests.request(method, about["api_url"] + path, headers=headers, timeout=40, **kwargs)

    def ask(self, phone_number: str, **fields: str) -> dict[str, Any]:
        """Ask for a code."""
        answer = self.call("POST", "/v1/otp-requests", json={"phone_number": phone_number, **fields})
        assert answer.status_code == 202, answer.text
        accepted: dict[str, Any] = answer.json()
        return accepted

    def becomes(self, request_id: str, status: str, *, seconds: float = 20) -> dict[str, Any]:
        """Poll a request until it has a status. A code that was delivered meanwhile was sent, too."""
        seen: dict[str, Any] = {}
        wanted = {status, "delivered"} if status == "sent" else {status}

        def reached() -> bool:
            seen.update(self.call("GET", f"/v1/otp-requests/{request_id}").json())
            return seen.get("status") in wanted

        until(reached, seconds=seconds, told=lambda: str(seen))
        return seen

    def verify(self, request_id: str, code: str, **fields: str) -> requests.Response:
        """Check a code."""
        return self.call("POST", f"/v1/otp-requests/{request_id}/verify", json={"code": code, **fields})

    def messages(self, phone_number: str | None = None) -> list[dict[str, Any]]:
        """Return what the simulator sent (to one number), newest first."""
        url = f"{self.about['simulator_url']}/_simulator/messages"
        query = {"to": phone_number.removeprefix("+")} if phone_number else {}
        answer = requests.get(url, params=query, timeout=10)
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    def fault(self, **fault: Any) -> None:
        """Order a fault at the simulator."""
        url = f"{self.about['simulator_url']}/_simulator/faults"
        assert requests.post(url, json=fault, timeout=10).status_code == 201

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Ask Postgres."""
        url = self.about["database_url"].replace("+psycopg", "")
        with psycopg.connect(url) as connection:
            return connection.execute(statement, values).fetchall()

    def family(self) -> set[int]:
        """Return the ids of every process that this one started, with its own."""
        assert self.process is not None
        return {self.process.pid} | _descendants(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        assert self.process is not None
        if self.running:
            self.process.send_signal(number)
        return self.process.wait(40)


def until(condition: Callable[[], bool], *, seconds: float, told: Callable[[], str] = lambda: "") -> None:
    """Wait until a condition holds; fail with what `told` returns when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {told()}"
        time.sleep(0.05)


def alive(pids: set[int]) -> set[int]:
    """Return those of these processes that still run."""
    return {pid for pid in pids if (state := _state(pid)) is not None and state != "Z"}


def _state(pid: int) -> str | None:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return None


def _descendants(pid: int) -> set[int]:
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            parents.setdefault(parent, []).append(int(entry.name))
    found, left = set(), [pid]
    while left:
        for child in parents.get(left.pop(), []):
            found.add(child)
            left.append(child)
    return found


@pytest.fixture
def make_dev(tmp_path: Path) -> Iterator[Callable[..., Dev]]:
    """Yield a function that starts `otpqueue dev`: arguments, and environment variables by keyword."""
    made: list[Dev] = []

    def make(*arguments: str, **environment: str) -> Dev:
        made.append(Dev(tmp_path, *arguments, **environment))
        return made[-1].start()

    yield make
    for dev in made:
        dev.stop()
