"""Real processes of workers and beat, started as the command line does, and what they leave in their logs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otpqueue.embedded import ChildProcess, EngineHome, Valkey
from otpqueue.embedded.process import bare_environment
from otpqueue.wiring import Parts
from tests.conftest import MakeParts
from tests.operations.looking import Rows

Start = Callable[..., ChildProcess]


@pytest.fixture
def rows(parts: Parts) -> Rows:
    """Return the tables."""
    return Rows(parts.engine)


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Yield a function that starts `otpqueue ...`; keyword arguments are environment variables that differ.

    All are stopped at the end of the test.
    """
    children: list[ChildProcess] = []

    def start(*command: str, **differing: str) -> ChildProcess:
        child = ChildProcess(
            command[0],
            [sys.executable, "-m", "otpqueue", *command],
            env=bare_environment() | environment | differing,
            log=tmp_path / f"{len(children)}-{command[0]}.log",
            cwd=tmp_path,
        )
        children.append(child)
        child.start()
        return child

    yield start
    left = [child for child in children if child.running]
    for child in left:
        os.kill(child.pid, signal.SIGTERM)
    for child in left:
        with suppress(TimeoutError):
            child.wait(10)
        child.stop(grace=0)


@pytest.fixture
def logged(tmp_path: Path) -> Callable[[], str]:
    """Return a function that reads all that the processes have logged."""
    return lambda: "".join(path.read_text() for path in sorted(tmp_path.glob("*.log")))


@pytest.fixture
def own_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """Yield a Valkey that only this test uses, to be stopped and started at will; it forgets all then."""
    with (
        EngineHome(tmp_path_factory.mktemp("own")) as home,
        Valkey(home.path / "valkey", durable=False) as valkey,
    ):
        yield valkey


@pytest.fixture
def parts_of(make_parts: MakeParts) -> Callable[[Valkey], Parts]:
    """Return a function that wires parts to a Valkey of its own."""
    return lambda valkey: make_parts(REDIS_URL=valkey.url)
