"""The `otpqueue` command as a user runs it, in an empty folder."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from otpqueue.cli import main
from tests.api.serving import Served, serving, settings_over_a_database
from tests.cli.forking import Forking
from tests.conftest import Engines


class Shell:
    """Runs commands with an environment of their own."""

    def __init__(self, forking: Forking, folder: Path, environment: dict[str, str]) -> None:
        self.folder, self.environment, self._forking = folder, environment, forking

    def run(
        self, *arguments: str, typed: str | None = None, terminal: bool = False, **differing: str
    ) -> subprocess.CompletedProcess[str]:
        """Run `otpqueue` as a process of its own, with what is `typed` into it, at a `terminal` or not.

        Keyword arguments are environment variables that differ.
        """
        return self._forking.run(
            *arguments,
            folder=self.folder,
            environment={**os.environ, **self.environment, **differing},
            typed=typed,
            terminal=terminal,
        )

    def invoke(self, *arguments: str, **differing: str | None) -> Result:
        """Run `otpqueue` in this process, for what opens no connections that stay."""
        before = Path.cwd()
        os.chdir(self.folder)
        try:
            return CliRunner().invoke(
                main, arguments, prog_name="otpqueue", env={**self.environment, **differing}
            )
        finally:
            os.chdir(before)


@pytest.fixture(scope="session")
def forking() -> Iterator[Forking]:
    """Yield what runs commands."""
    running = Forking()
    yield running
    running.close()


@pytest.fixture
def database_url(emptied_database_url: str) -> str:
    """Return a migrated database that is emptied for each test."""
    return emptied_database_url


@pytest.fixture
def shell(forking: Forking, tmp_path: Path, environment: dict[str, str]) -> Shell:
    """Return a shell with complete settings."""
    return Shell(forking, tmp_path, environment)


@pytest.fixture
def cut_off_shell(forking: Forking, tmp_path: Path) -> Shell:
    """Return a shell with complete settings, of services that are not there."""
    nowhere = "127.0.0.1:1"
    return Shell(
        forking,
        tmp_path,
        {
            "DATABASE_URL": f"postgresql://x:hunter2@{nowhere}/x",
            "REDIS_URL": f"redis://:hunter2@{nowhere}/0",
            "INFOBIP_BASE_URL": f"http://{nowhere}",
            "INFOBIP_API_KEY": "hunter2",
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
        },
    )


@pytest.fixture
def bare_shell(forking: Forking, tmp_path: Path) -> Shell:
    """Return a shell with no settings at all."""
    return Shell(forking, tmp_path, {})


@pytest.fixture(scope="module")
def served(engines: Engines, _simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield a served API that the tests of a module share."""
    with (
        settings_over_a_database(engines, provider_url=_simulator) as settings,
        serving(settings, tmp_path_factory.mktemp("served")) as running,
    ):
        yield running
