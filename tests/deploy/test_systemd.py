"""The units of deploy/systemd are valid, restrict their processes, and start commands that exist."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from otpqueue.settings import Settings
from tests.deploy.described import SETTINGS, check_settings, parse_command

PROGRAM = "/opt/otpqueue/bin/otpqueue"
EXPOSURE = 2.0
"""Largest acceptable score of `systemd-analyze security`, from 0 (restricted) to 10 (unsafe)."""


@pytest.fixture
def folder(project: Path) -> Path:
    """Return the folder of the units."""
    return project / "deploy" / "systemd"


def options(unit: Path, name: str) -> list[str]:
    """Return the values of an option of a unit."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE)


def test_units_start_commands_that_exist(folder: Path) -> None:
    """Every command has the options that the unit gives, and every queue is served."""
    queues: list[str] = []
    for unit in sorted(folder.glob("*.service")):
        for line in options(unit, "ExecStart"):
            program, *arguments = shlex.split(line)
            assert program == PROGRAM
            queues += parse_command(["otpqueue", *arguments]).get("queues", "").split(",")

    assert sorted(filter(None, queues)) == ["periodic", "send", "slow"]


def test_units_set_settings(folder: Path) -> None:
    """Variables of the units are settings, with valid values."""
    for unit in sorted(folder.glob("*.service")):
        given = dict(line.split("=", 1) for line in options(unit, "Environment"))
        check_settings({name: value.replace("%i", "9464") for name, value in given.items()})
        assert not set(given) - SETTINGS


def test_workers_have_different_ports(folder: Path) -> None:
    """The worker of the periodic jobs does not use the port of an instance in the target."""
    (port,) = re.findall(r"PORT=(\d+)", (folder / "otpqueue-worker-periodic.service").read_text())
    instances = re.findall(r"worker-send@(\d+)", (folder / "otpqueue.target").read_text())

    assert instances
    assert port not in instances


def test_workers_have_time_to_finish(folder: Path) -> None:
    """Systemd waits longer for a worker than the worker for its sends."""
    within_s = Settings.model_fields["stop_within_s"].default

    for unit in sorted(folder.glob("otpqueue-worker-*.service")):
        (timeout,) = options(unit, "TimeoutStopSec")
        assert int(timeout.removesuffix("s")) > within_s
        assert options(unit, "KillMode") == ["mixed"]


def test_target_starts_units_that_exist(folder: Path) -> None:
    """Every unit of the target is a file here, and every process but the migration is in the target."""
    (wanted,) = options(folder / "otpqueue.target", "Wants")
    files = {re.sub(r"@\d+", "@", name) for name in wanted.split()}

    assert files == {path.name for path in folder.glob("*.service")} - {"otpqueue-migrate.service"}


def test_systemd_accepts_the_units(folder: Path, tmp_path: Path) -> None:
    """`systemd-analyze` finds no error in a unit, and little that its process may do to the host."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze IS NOT HERE: the units were NOT VERIFIED (apt-get install systemd)")
    for unit in folder.iterdir():
        # The program is not installed here, and systemd requires that it exists.
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    units = sorted(map(str, tmp_path.iterdir()))

    verified = subprocess.run(
        [analyze, "verify", "--man=no", *units], capture_output=True, text=True, check=False
    )
    assert (verified.returncode, verified.stderr) == (0, "")
    for unit in units:
        if unit.endswith(".service"):
            command = [
                analyze,
                "security",
                "--offline=true",
                f"--threshold={EXPOSURE * 10:.0f}",
                "--no-pager",
            ]
            rated = subprocess.run([*command, unit], capture_output=True, text=True, check=False)
            assert rated.returncode == 0, rated.stdout + rated.stderr
