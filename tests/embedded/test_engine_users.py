"""Who the engines run as. Most of it can be seen as root only."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from otpqueue.embedded import ChildProcess, EngineHome, Postgres, identity
from otpqueue.embedded.errors import NoUnprivilegedUser

SUPERVISOR = Path(__file__).with_name("supervisor.py")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def reachable() -> Iterator[Path]:
    """Yield a folder that every user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder


def python_for(user: int) -> tuple[str, dict[str, str]]:
    """Return a Python that this user may run, with the environment in which it finds our packages."""
    packages = os.pathsep.join([str(Path(__file__).parents[2]), sysconfig.get_path("purelib")])
    system = shutil.which(f"python3.{sys.version_info.minor}", path="/usr/local/bin:/usr/bin")
    for candidate in filter(None, (sys.executable, system)):
        environment = {"PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
        check = [candidate, "-c", "import otpqueue.embedded"]
        try:
            subprocess.run(check, user=user, group=user, extra_groups=[], env=environment, check=True)
        except (PermissionError, subprocess.CalledProcessError):
            continue
        return candidate, environment
    pytest.skip("no Python of this version that another user may run")


@pytest.mark.parametrize("uid", [pwd.getpwnam("nobody").pw_uid, 54321], ids=["nobody", "without a name"])
def test_ordinary_user(uid: int, reachable: Path) -> None:
    """An ordinary user without a home can run both engines, even one that the system has no name for."""
    python, environment = python_for(uid)
    done = subprocess.run(
        [python, SUPERVISOR, reachable / "data", "once"],
        user=uid,
        group=uid,
        extra_groups=[],
        env=environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    if uid == 54321 and "unshare" in done.stderr:
        pytest.skip("a user without a name needs user namespaces, which are refused here")
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout)["urls"]) == 2
    assert (reachable / "data" / "postgres" / "data").stat().st_uid == uid


def test_user_without_privilege(tmp_path: Path) -> None:
    """A supervisor that is not root and has no home can run both engines.

    As `test_ordinary_user`, but also where Python itself lies in a folder that only root may enter.
    """
    namespace = next((c for c in identity.list_candidates() if c.kind == "namespace"), None)
    if namespace is None:
        pytest.skip("there are no user namespaces here")
    log = tmp_path / "log"
    command = [sys.executable, SUPERVISOR, tmp_path / "data", "once"]
    supervisor = ChildProcess("supervisor", command, env={}, log=log, run_as=namespace, cwd=Path("/"))
    supervisor.run(timeout=60)
    assert len(json.loads(log.read_text())["urls"]) == 2


def test_root_below_a_private_folder(tmp_path: Path) -> None:
    """Root can run PostgreSQL in a folder that nobody else may reach, and the files stay root's."""
    tmp_path.chmod(0o700)
    with Postgres(tmp_path / "postgres", durable=False) as postgres:
        assert (postgres.home / "data" / "PG_VERSION").stat().st_uid == 0


def test_root_without_user_namespaces(
    reachable: Path, monkeypatch: pytest.MonkeyPatch, sql: Callable[[str, str], list[tuple[object, ...]]]
) -> None:
    """Where user namespaces are refused root runs PostgreSQL as a service user; later root takes it back."""
    all_candidates = identity.list_candidates
    with monkeypatch.context() as refused:
        refused.setattr(
            identity, "list_candidates", lambda: (c for c in all_candidates() if c.kind == "user")
        )
        with EngineHome(reachable / "data") as home:
            postgres = Postgres(home.path / "postgres", durable=False)
            with postgres:
                sql(postgres.url, "CREATE TABLE t AS SELECT 7 AS n")
            with postgres:
                owner = (postgres.home / "data" / "PG_VERSION").stat().st_uid
                assert pwd.getpwuid(owner).pw_name in {"postgres", "nobody"}
                assert (postgres.home / "password").stat().st_mode & 0o777 == 0o600
    with postgres:
        assert sql(postgres.url, "SELECT n FROM t") == [(7,)]


def test_no_identity_left_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When nobody can run PostgreSQL the error tells the ways out and what was tried."""
    unreachable = identity.RunAs("user", 65534, 65534)
    monkeypatch.setattr(identity, "list_candidates", lambda: iter([unreachable]))
    tmp_path.chmod(0o700)
    with pytest.raises(NoUnprivilegedUser, match=r"(?s)DATABASE_URL.*user:65534:65534.*Permission denied"):
        Postgres(tmp_path / "postgres").start()
