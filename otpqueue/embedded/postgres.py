"""An embedded PostgreSQL server."""

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from otpqueue.embedded import identity
from otpqueue.embedded.binaries import find_postgres_bin, read_postgres_major
from otpqueue.embedded.engine import Engine
from otpqueue.embedded.errors import DataUnusable
from otpqueue.embedded.home import load_password
from otpqueue.embedded.orphans import end_orphans
from otpqueue.embedded.process import ChildProcess, bare_environment

if TYPE_CHECKING:
    import psycopg

_USER = "app"
_DATABASE = "app"
_STOP = (signal.SIGINT, signal.SIGQUIT)  # "fast", then "immediate" shutdown: postgres(1)
_INITDB_SECONDS = 120
_PROBE_SECONDS = 10
_FIRST_WITH_BUILTIN_LOCALE = 17

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # the path of a socket is limited to about 100 characters: unix(7)
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# synchronous_commit stays on: without fsync it costs nothing, and a killed server still loses nothing.
_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",  # its connection to a template database would block copies
    "max_wal_size": "2GB",
    "checkpoint_timeout": "1h",
}


class Postgres(Engine):
    """A PostgreSQL server on 127.0.0.1 with a password; see `Engine` for the arguments.

    A non-durable server survives a crash of its processes, but not of the machine.
    It has one superuser `app` and a database `app`. Text sorts by code point and folds case by
    Unicode rules on every machine (builtin locale C.UTF-8).
    """

    name = "postgres"

    @property
    def url(self) -> str:
        """`postgresql+psycopg://app:PASSWORD@127.0.0.1:PORT/app`; EmbeddedError before the first start."""
        return self._url_of(_DATABASE)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given, and return its URL.

        The template must have no connections meanwhile. Raises psycopg.Error, DuplicateDatabase among them.
        """
        from psycopg import sql  # noqa: PLC0415 - slow to import; the server starts meanwhile

        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            # Three times as fast as writing each page to the log.
            copied = sql.SQL(" TEMPLATE {} STRATEGY FILE_COPY")
            statement += copied.format(sql.Identifier(template))
        with self._connect() as connection:
            connection.execute(statement)
        return self._url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database and close its connections; does nothing if it does not exist."""
        from psycopg import sql  # noqa: PLC0415

        with self._connect() as connection:
            connection.execute(
                sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            )

    @property
    def _data(self) -> Path:
        return self.home / "data"

    def _prepare_child(self) -> ChildProcess:
        programs = find_postgres_bin()
        run_as = identity.choose_identity(lambda candidate: self._probe(programs, candidate))
        major = read_postgres_major(programs)
        self._check_data(major)
        self._password()
        identity.give_folder(self.home, run_as)
        end_orphans(self._data, self._data / "postmaster.pid", _STOP, "postgres")
        if not (self._data / "PG_VERSION").exists():
            self._initdb(programs, run_as, major)
        settings = {**_SETTINGS, "port": str(self.port), **({} if self.durable else _NOT_DURABLE)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return ChildProcess(
            self.name,
            [programs / "postgres", "-D", self._data, *options],
            ready=self._answer,
            env=bare_environment(),
            log=self.log,
            stop_signals=_STOP,
            death_signal=_STOP[0],
            run_as=run_as,
            cwd=self.home,
        )

    def _probe(self, programs: Path, candidate: identity.RunAs) -> None:
        # In the parent folder: ours will belong to the candidate, which must be able to reach it.
        ChildProcess(
            "initdb",
            [programs / "initdb", "--version"],
            env=bare_environment(),
            log=self.log,
            run_as=candidate,
            cwd=self.home.parent,
        ).run(timeout=_PROBE_SECONDS)

    def _check_data(self, major: int) -> None:
        version = self._data / "PG_VERSION"
        if not version.exists():
            return
        made_by = version.read_text().strip()
        if made_by != str(major):
            raise DataUnusable(
                f"{self._data} was made by PostgreSQL {made_by} and cannot be used by PostgreSQL {major}: "
                f"move the folder away, or set OTPQUEUE_PG_BIN to the programs of PostgreSQL {made_by}"
            )
        if not (self.home / "password").exists():
            raise DataUnusable(
                f"{self.home / 'password'} is gone: restore it, or remove {self.home} with all its data"
            )

    def _initdb(self, programs: Path, run_as: identity.RunAs | None, major: int) -> None:
        """Create the data folder atomically: it is renamed when it is complete."""
        unfinished = self.home / "data.new"
        end_orphans(unfinished, unfinished / "postmaster.pid", (), "postgres")
        for leftover in (unfinished, self._data):
            if leftover.exists():
                shutil.rmtree(leftover)
        locale = ["--locale=C"]
        if major >= _FIRST_WITH_BUILTIN_LOCALE:
            locale += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        access: list[str | Path] = ["-U", _USER, "-A", "scram-sha-256", "--pwfile", self.home / "password"]
        sync = [] if self.durable else ["--no-sync"]
        ChildProcess(
            "initdb",
            [
                programs / "initdb",
                "-D",
                unfinished,
                *access,
                "-E",
                "UTF8",
                *locale,
                *sync,
                "--no-instructions",
            ],
            env=bare_environment(),
            log=self.log,
            run_as=run_as,
            cwd=self.home,
        ).run(timeout=_INITDB_SECONDS)
        unfinished.rename(self._data)

    def _finish_start(self) -> None:
        with self._connect() as connection:
            found = connection.execute(
                "SELECT 1 FROM pg_database WHERE datname = %s", (_DATABASE,)
            ).fetchone()
        if found is None:
            self.create_database(_DATABASE)

    def _answer(self) -> None:
        with self._connect() as connection:
            connection.execute("SELECT 1")

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        import psycopg  # noqa: PLC0415

        with _without_libpq_variables():
            return psycopg.connect(
                host="127.0.0.1",
                port=self.port,
                user=_USER,
                password=self._password(),
                dbname="postgres",
                connect_timeout=5,
                autocommit=True,
            )

    def _password(self) -> str:
        return load_password(self.home / "password")

    def _url_of(self, database: str) -> str:
        self._require_process()
        path = quote(database, safe="")
        return f"postgresql+psycopg://{_USER}:{self._password()}@127.0.0.1:{self.port}/{path}"


@contextmanager
def _without_libpq_variables() -> Iterator[None]:
    """Unset PGHOSTADDR, PGSERVICE, PGSSLMODE and similar variables, which libpq would read."""
    hidden = {name: value for name, value in os.environ.items() if name.startswith("PG")}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)
