"""Engines to use in a test, and ways to look at processes from outside."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis

from otpqueue.embedded import Postgres, Valkey


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """Yield a PostgreSQL that is not started yet."""
    server = Postgres(tmp_path / "postgres", durable=False)
    yield server
    server.stop()


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Yield a Valkey that is not started yet."""
    server = Valkey(tmp_path / "valkey", durable=True)
    yield server
    server.stop()


@pytest.fixture
def sql() -> Callable[[str, str], list[tuple[object, ...]]]:
    """Run one statement at a URL and return its rows."""

    def run(url: str, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    return run


@pytest.fixture
def command() -> Callable[..., object]:
    """Send one command to the Valkey at a URL and return its answer."""

    def run(url: str, *words: str) -> object:
        with redis.Redis.from_url(url, decode_responses=True) as client:
            return client.execute_command(*words)

    return run


@pytest.fixture
def gone() -> Callable[..., bool]:
    """Tell whether all the processes have ended, waiting up to five seconds for it; a zombie has ended."""

    def alive(pid: int) -> bool:
        listed = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return bool(listed.stdout.strip()) and not listed.stdout.startswith("Z")

    def ended(*pids: int) -> bool:
        deadline = time.monotonic() + 5
        while any(map(alive, pids)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return not any(map(alive, pids))

    return ended


@pytest.fixture
def stranger(tmp_path: Path) -> Iterator[int]:
    """Yield the process id of a live program that has nothing to do with us."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], cwd="/")
    yield program.pid
    assert program.poll() is None, "a process of somebody else was ended"
    os.kill(program.pid, signal.SIGKILL)
    program.wait()
