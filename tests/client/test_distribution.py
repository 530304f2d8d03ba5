"""The client library is a distribution of its own: it imports httpx and nothing else of otpqueue."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

import httpx
import pytest

from otpqueue.client import __version__
from tests.api.serving import Served

FLOW = """
import asyncio, sys
from otpqueue.client import AsyncOtpqueueClient, CodeIncorrectError, OtpqueueClient, verify_webhook

url, key, number = sys.argv[1:]
with OtpqueueClient(url, key) as otp:
    request = otp.send_code(number)
    print(request.id, flush=True)
    code = sys.stdin.readline().strip()
    assert otp.wait_for_request(request).status == "sent"
    try:
        otp.verify_code(request, str((int(code) + 1) % 1_000_000).zfill(6))
    except CodeIncorrectError as error:
        print(error.checks_left, flush=True)
    print(otp.verify_code(request, code).status, flush=True)


async def read() -> None:
    async with AsyncOtpqueueClient(url, key) as client:
        print((await client.get_request(request)).status, flush=True)


asyncio.run(read())
"""

TYPED = """
from otpqueue.client import OtpqueueClient

reveal_type(OtpqueueClient("https://otp.example", "oq_key").send_code("+447700900123").expires_at)
OtpqueueClient("https://otp.example", "oq_key").send_code("+447700900123", channel="letter")
"""


def test_imports(project: Path) -> None:
    """The library imports the standard library, httpx and itself."""
    imported: set[str] = set()
    for path in (project / "otpqueue" / "client").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(str(node.module))

    foreign = {name for name in imported if name.partition(".")[0] not in sys.stdlib_module_names}
    assert "httpx" in foreign
    assert {name for name in foreign if not name.startswith("otpqueue.client.")} == {"httpx"}


def test_works_without_the_service(project: Path, tmp_path: Path) -> None:
    """The folder is enough: without `otpqueue/__init__.py`, `otpqueue` is a namespace package."""
    (tmp_path / "otpqueue").mkdir()
    (tmp_path / "otpqueue" / "client").symlink_to(project / "otpqueue" / "client")
    program = (
        "import otpqueue.client, otpqueue; assert getattr(otpqueue, '__file__', None) is None;"
        "print(otpqueue.client.__version__)"
    )
    paths = [str(tmp_path), str(Path(httpx.__file__).parents[1])]

    # Without `site`, which would add the clone to the path.
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path += {paths!r}; {program}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == __version__


def test_versions_are_equal(project: Path) -> None:
    """Service and client libraries are released together."""
    service = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    folder = project / "clients" / "javascript"
    package = json.loads((folder / "package.json").read_text(encoding="utf-8"))

    assert service["project"]["version"] == __version__ == package["version"]
    assert f'VERSION = "{__version__}"' in (folder / "otpqueue.js").read_text(encoding="utf-8")


def test_wheels_do_not_share_files(project: Path) -> None:
    """The service's wheel leaves the library to the library's distribution."""
    service = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))
    python = tomllib.loads((project / "clients" / "python" / "pyproject.toml").read_text(encoding="utf-8"))

    assert service["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"] == ["otpqueue/client"]
    assert (project / "clients/python/otpqueue/client").resolve() == project / "otpqueue/client"
    assert python["project"]["dependencies"] == service["project"]["optional-dependencies"]["client"]


class Venv:
    """A fresh virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.folder = folder

    def run(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run Python there and return what it prints."""
        command = [self.folder / "bin" / "python", *arguments]
        done = subprocess.run(
            command, cwd=cwd or self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pip(self, *arguments: str | Path) -> None:
        """Run pip there."""
        self.run("-m", "pip", "--quiet", "--disable-pip-version-check", *arguments)

    def files(self, distribution: str) -> set[str]:
        """Return the files that a distribution has installed, without its metadata and byte code."""
        program = (
            "import importlib.metadata, json, sys;"
            "print(json.dumps([str(one) for one in importlib.metadata.files(sys.argv[1])]))"
        )
        found = json.loads(self.run("-c", program, distribution))
        return {one for one in found if ".dist-info" not in one and "__pycache__" not in one}


@pytest.fixture
def fresh(tmp_path: Path) -> Venv:
    """Return a fresh virtual environment."""
    return Venv(tmp_path / "venv")


@pytest.mark.full
def test_wheel_in_a_fresh_environment(project: Path, tmp_path: Path, fresh: Venv, served: Served) -> None:
    """The wheel, built from its own source distribution, drives a flow, alone and beside the service."""
    fresh.pip("install", "hatchling")
    dist = tmp_path / "dist"
    fresh.run("-m", "hatchling", "build", "-t", "sdist", "-d", dist, cwd=project / "clients" / "python")
    (source,) = dist.glob("*.tar.gz")
    fresh.pip("wheel", "--no-deps", "--no-build-isolation", "-w", dist, source)
    fresh.run("-m", "hatchling", "build", "-t", "wheel", "-d", dist, cwd=project)
    (client,), (service,) = dist.glob("otpqueue_client-*.whl"), dist.glob("otpqueue-*.whl")
    fresh.pip("uninstall", "-y", "hatchling")

    fresh.pip("install", client)
    drive_flow(fresh, served, "+447700900790")
    assert "otpqueue/client/py.typed" in fresh.files("otpqueue-client")

    # Beside the service: no file is installed by both, and each can be removed.
    fresh.pip("install", "--no-deps", service)
    assert fresh.files("otpqueue-client") & fresh.files("otpqueue") == set()
    fresh.run("-c", "import otpqueue, otpqueue.domain.errors, otpqueue.client; assert otpqueue.__file__")
    drive_flow(fresh, served, "+447700900791")
    fresh.pip("uninstall", "-y", "otpqueue")
    drive_flow(fresh, served, "+447700900792")


@pytest.mark.full
def test_wheel_is_typed(project: Path, tmp_path: Path, fresh: Venv) -> None:
    """Mypy reads the types of the installed library."""
    fresh.pip("install", project / "clients" / "python", "mypy")
    (tmp_path / "program.py").write_text(TYPED, encoding="utf-8")

    done = subprocess.run(
        [fresh.folder / "bin" / "mypy", "--strict", "program.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert 'Revealed type is "datetime.datetime | None"' in done.stdout, done.stdout
    assert "[arg-type]" in done.stdout
    assert "Found 1 error" in done.stdout


def drive_flow(environment: Venv, served: Served, number: str) -> None:
    """Run the program FLOW there, against a served API."""
    command = [environment.folder / "bin" / "python", "-c", FLOW, served.url, served.key, number]
    with subprocess.Popen(
        command,
        cwd=environment.folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin
        assert program.stdout
        program.stdout.readline()
        served.parts.pump.run()
        output, errors = program.communicate(served.provider.code(number) + "\n", timeout=60)
    assert output.split() == ["4", "verified", "verified"], errors
