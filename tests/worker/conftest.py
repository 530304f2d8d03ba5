"""Worker and beat processes as the command line starts them, and their logs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from otpqueue.embedded import ChildProcess, Valkey
from otpqueue.embedded.process import bare_environment
from otpqueue.wiring import Parts
from tests.conftest import NO_LIMITS, MakeParts
from tests.operations.looking import Rows
from tests.preloaded import otpqueue_process

Start = Callable[..., ChildProcess]

LINGERING = {"OTPQUEUE_TUNING_JOB_LINGER_S": "1"}
"""The default of workers."""


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
        child = otpqueue_process(
            command[0],
            command,
            env=bare_environment() | environment | LINGERING | differing,
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
def parts_of(make_parts: MakeParts) -> Callable[[Valkey], Parts]:
    """Return a function that wires parts to a Valkey of its own, which no limit of theirs needs."""
    return lambda valkey: make_parts(**NO_LIMITS, REDIS_URL=valkey.url)
