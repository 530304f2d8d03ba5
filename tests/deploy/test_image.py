"""The image: its build gets its files, its packages are pinned, and its health check asks the API."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
import zipfile
from pathlib import Path
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from packaging.requirements import Requirement

from otpqueue.api.app import create_app
from tests.conftest import MakeParts
from tests.deploy.described import parse_command


@pytest.fixture(scope="module")
def dockerfile() -> str:
    """Return the Dockerfile, with continued lines joined."""
    path = Path(__file__).resolve().parents[2] / "Dockerfile"
    return re.sub(r"\\\n\s*", "", path.read_text(encoding="utf-8"))


def instructions(dockerfile: str, name: str) -> list[str]:
    """Return the arguments of each instruction of a kind."""
    return re.findall(rf"^\s*{name} (.*)$", dockerfile, re.MULTILINE)


def copy_context(project: Path, dockerfile: str, to: Path) -> None:
    """Copy what the build stage copies, as far as `.dockerignore` allows it."""
    rules = (project / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert rules[1] == "*", "everything is excluded unless it is allowed"
    allowed = {rule.removeprefix("!") for rule in rules if rule.startswith("!")}
    for arguments in instructions(dockerfile, "COPY"):
        if arguments.startswith("--from"):
            continue
        *sources, target = arguments.split()
        assert set(sources) <= allowed
        for source in sources:
            if (project / source).is_dir():
                shutil.copytree(
                    project / source,
                    to / target,
                    ignore=shutil.ignore_patterns("__pycache__"),
                    dirs_exist_ok=True,
                )
            else:
                shutil.copy(project / source, to / target)


def build_wheel(source: Path, to: Path) -> set[str]:
    """Return the names of the files in the wheel of a source tree."""
    command = [sys.executable, "-m", "hatchling", "build", "--target=wheel", f"--directory={to}"]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (wheel,) = to.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_image_has_the_whole_wheel(project: Path, dockerfile: str, tmp_path: Path) -> None:
    """The wheel that is built from the context of the image has the files of the wheel of the project."""
    context = tmp_path / "context"
    context.mkdir()
    copy_context(project, dockerfile, context)

    in_image = build_wheel(context, tmp_path / "image")

    assert in_image == build_wheel(project, tmp_path / "project")
    assert any(name.startswith("otpqueue/_migrations/versions/") for name in in_image)


def test_pinned_requirements_are_those_of_the_project(project: Path) -> None:
    """Every dependency is pinned with hashes, in a version that pyproject.toml allows."""
    metadata = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = metadata["optional-dependencies"]
    text = (project / "requirements.txt").read_text(encoding="utf-8")
    pinned = dict(re.findall(r"^([\w.-]+)(?:\[.*\])?==([^\s;]+)", text, re.MULTILINE))

    for line in (*metadata["dependencies"], *extras["simulator"], *extras["otel"]):
        wanted = Requirement(line)
        assert pinned[wanted.name] in wanted.specifier, f"{line}: {pinned[wanted.name]} (make requirements)"
    for name in ("requirements.txt", "deploy/docker/build-requirements.txt"):
        entries = re.findall(
            r"^[\w.-]+==.*?(?=^[\w.-]+==|\Z)", (project / name).read_text(), re.MULTILINE | re.DOTALL
        )
        assert entries
        assert [entry for entry in entries if "--hash=sha256:" not in entry] == []


def test_image_runs_as_an_ordinary_user(dockerfile: str) -> None:
    """The user is numeric, both stages use one pinned version of Python, and the command exists."""
    (user,) = instructions(dockerfile, "USER")
    uid, gid = user.split(":")
    assert int(uid) > 999
    assert f"groupadd --system --gid {gid} " in dockerfile
    assert f"useradd --system --uid {uid} --gid {gid} " in dockerfile
    (version,) = re.findall(r"^ARG PYTHON=(.*)$", dockerfile, re.MULTILINE)
    assert re.fullmatch(r"\d+\.\d+\.\d+-slim", version)
    assert {line.removesuffix(" AS build") for line in instructions(dockerfile, "FROM")} == {
        "python:${PYTHON}"
    }
    command = json.loads(instructions(dockerfile, "CMD")[-1])
    parse_command(command)


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Write nothing."""


def test_health_check_asks_the_api(dockerfile: str, make_parts: MakeParts) -> None:
    """The image's check succeeds while the API answers, and fails otherwise."""
    (line,) = (one for one in instructions(dockerfile, "HEALTHCHECK") if "CMD" in one)
    python, option, code = json.loads(line.partition("CMD ")[2])
    assert (python, option) == ("python", "-c")

    def check(port: int) -> int:
        command = [sys.executable, option, code]
        return subprocess.run(command, env={"PORT": str(port)}, capture_output=True, check=False).returncode

    with make_server("127.0.0.1", 0, create_app(make_parts()), handler_class=_QuietHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        answered = check(server.server_port)
        server.shutdown()

    assert answered == 0
    assert check(1) != 0


@pytest.mark.full
def test_image_builds(project: Path, dockerfile: str, tmp_path: Path) -> None:
    """The commands of the build stage make an environment without pip that runs otpqueue.

    There is no Docker engine here: this machine's Python stands in for the base image, and folders below
    `tmp_path` for those of the image.
    """
    build, wheels, installed = (tmp_path / name for name in ("build", "wheels", "installed"))
    build.mkdir()
    copy_context(project, dockerfile, build)
    base = tmp_path / "base"
    subprocess.run([sys.executable, "-m", "venv", "--upgrade-deps", str(base)], check=True)
    path = f"{base / 'bin'}:{os.environ['PATH']}"

    first_stage = dockerfile.partition("FROM python:${PYTHON}\n")[0]
    for command in instructions(first_stage, "RUN"):
        here = command.replace("/opt/otpqueue", str(installed)).replace("/wheels", str(wheels))
        done = subprocess.run(
            ["/bin/sh", "-c", here],
            cwd=build,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    assert list((installed / "bin").glob("pip*")) == []
    program = installed / "bin" / "otpqueue"
    shown = subprocess.run(
        [program, "--help"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "migrate" in shown
    subprocess.run([program, "simulator", "--help"], cwd=tmp_path, capture_output=True, check=True)
