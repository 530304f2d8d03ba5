"""PgBouncer in transaction mode in front of a Postgres of the tests."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from urllib.parse import urlsplit

import psycopg

from otpqueue.embedded import ChildProcess, EngineHome, identity
from otpqueue.embedded.home import free_port
from otpqueue.embedded.process import bare_environment

_PATH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin:/opt/homebrew/bin"


def program() -> Path | None:
    """Return the program, installed first where that is possible; None where it is not."""
    found = shutil.which("pgbouncer", path=_PATH)
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        _install()
        found = shutil.which("pgbouncer", path=_PATH)
    return Path(found) if found else None


def _install() -> None:
    with Path(tempfile.gettempdir(), "otpqueue-tests-apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # In run level 1 no package starts its service.
        env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
        for command in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "pgbouncer"]):
            subprocess.run(["apt-get", *command], env=env, check=False, capture_output=True, timeout=300)


class PgBouncer:
    """One server, not started yet; `settings` are lines of its own configuration that differ.

    `files` are written to its folder, which is its working directory.
    """

    def __init__(
        self,
        program: Path,
        home: EngineHome,
        *,
        postgres_url: str,
        files: Mapping[str, bytes] = MappingProxyType({}),
        **settings: object,
    ) -> None:
        self._folder = home.path / "pgbouncer"
        self._folder.mkdir(mode=0o700)
        for name, content in files.items():
            (self._folder / name).write_bytes(content)
        self._postgres, self._port = urlsplit(postgres_url.replace("+psycopg", "")), free_port()
        configuration = self._folder / "pgbouncer.ini"
        configuration.write_text(self._configuration(**settings))
        configuration.chmod(0o600)
        run_as = identity.choose_identity(lambda candidate: self._probe(program, candidate))
        identity.give_folder(self._folder, run_as)
        self._child = ChildProcess(
            "pgbouncer",
            [program, configuration],
            ready=self._answer,
            env=bare_environment(),
            log=self._folder / "pgbouncer.log",
            run_as=run_as,
            cwd=self._folder,
        )

    def url(self, database: str) -> str:
        """Return the URL of a database through it."""
        return f"postgresql://anybody@127.0.0.1:{self._port}/{database}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        self._child.start()
        self._child.wait_ready(20)

    def stop(self) -> None:
        """End it at once, with all connections."""
        self._child.stop(grace=5)

    def _answer(self) -> None:
        psycopg.connect(self.url("postgres"), connect_timeout=2).close()

    def _probe(self, program: Path, candidate: identity.RunAs) -> None:
        # PgBouncer refuses root, but only once it has read its configuration.
        ChildProcess(
            "pgbouncer",
            [program, "--version"],
            env=bare_environment(),
            run_as=candidate,
            cwd=self._folder.parent,
        ).run(timeout=10)

    def _configuration(self, **settings: object) -> str:
        to = self._postgres
        given = {
            "listen_addr": "127.0.0.1",
            "listen_port": self._port,
            "unix_socket_dir": "",
            # Every client is the user of the line above; this is a test's own server on loopback.
            "auth_type": "any",
            "pool_mode": "transaction",
            "default_pool_size": 2,
            "max_client_conn": 200,
            **settings,
        }
        lines = "\n".join(f"{name} = {value}" for name, value in given.items())
        address = f"host={to.hostname} port={to.port} user={to.username} password={to.password}"
        return f"[databases]\n* = {address}\n\n[pgbouncer]\n{lines}\n"
