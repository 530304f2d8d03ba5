"""Both engines: they answer, keep their data, come back after a crash, and leave nothing behind."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
import redis

from otpqueue.embedded import ChildFailed, EmbeddedError, EngineHome, Postgres, Valkey
from otpqueue.embedded.errors import DataUnusable

SUPERVISOR = Path(__file__).with_name("supervisor.py")
Sql = Callable[[str, str], list[tuple[object, ...]]]
Command = Callable[..., object]
Gone = Callable[..., bool]


@pytest.fixture(scope="module")
def _postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    server = Postgres(tmp_path_factory.mktemp("engines") / "postgres", durable=False)
    yield server
    server.stop()


@pytest.fixture
def running_postgres(_postgres: Postgres) -> Postgres:
    """Return a PostgreSQL that runs: tests share it, as `initdb` takes a second."""
    _postgres.start()
    return _postgres


def test_postgres_serves_databases(running_postgres: Postgres, sql: Sql) -> None:
    """PostgreSQL answers at its URL in UTC and UTF-8, and makes, copies and drops databases."""
    postgres = running_postgres
    settings = "SELECT current_setting('TimeZone'), current_setting('server_encoding'), lower('ÀÉ')"
    assert sql(postgres.url, settings) == [("UTC", "UTF8", "àé")]
    assert sql(postgres.url, "SHOW max_connections") == [("200",)]
    template = postgres.create_database("a template")
    sql(template, "CREATE TABLE t AS SELECT 7 AS n")
    copy = postgres.create_database("copy", template="a template")
    assert sql(copy, "SELECT n FROM t") == [(7,)]
    with psycopg.connect(copy.replace("+psycopg", "")):
        postgres.drop_database("copy")
    postgres.drop_database("copy")
    with pytest.raises(psycopg.errors.DuplicateDatabase):
        postgres.create_database("a template")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(postgres.url.replace("+psycopg", ""), password="wrong")


def test_valkey_serves_and_wants_its_password(valkey: Valkey, command: Command) -> None:
    """Valkey answers at its URL, never evicts, and refuses who has no password."""
    valkey.start()
    assert command(valkey.url, "SET", "a", "1") is True
    assert command(valkey.url, "CONFIG", "GET", "maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with pytest.raises(redis.AuthenticationError):
        command(f"redis://:wrong@127.0.0.1:{valkey.port}/0", "PING")
    with pytest.raises(redis.AuthenticationError):
        command(f"redis://127.0.0.1:{valkey.port}/0", "PING")


def test_valkey_comes_back_after_a_crash(valkey: Valkey, command: Command) -> None:
    """After a crash `start` brings Valkey back at the same URL with its data; a good stop keeps them too."""
    valkey.start()
    url = valkey.url
    command(url, "SET", "a", "1")
    os.kill(valkey.pid, signal.SIGKILL)
    while valkey.running:
        pass
    valkey.start()
    assert valkey.url == url
    assert command(url, "GET", "a") == "1"
    valkey.stop()
    valkey.stop()
    valkey.start()
    assert command(url, "GET", "a") == "1"


def test_postgres_comes_back_after_a_crash(running_postgres: Postgres, sql: Sql, stranger: int) -> None:
    """After a crash `start` brings PostgreSQL back, at the same URL with its data.

    Even while clients are connected, and although its stale pid file names a live process of somebody else.
    """
    postgres = running_postgres
    url = postgres.url
    sql(url, "CREATE TABLE t AS SELECT 7 AS n")
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as busy:
        busy.execute("SELECT 1")
        os.kill(postgres.pid, signal.SIGKILL)
        while postgres.running:
            pass
        pid_file = postgres.home / "data" / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        pid_file.write_text("\n".join([str(stranger), *lines[1:], ""]))
        postgres.start()
    assert postgres.url == url
    assert sql(url, "SELECT n FROM t") == [(7,)]


def test_servers_left_behind_are_ended(
    tmp_path: Path, postgres: Postgres, valkey: Valkey, gone: Gone
) -> None:
    """Engines that outlived their supervisor are ended by the next start in their folder."""
    postgres.start()
    valkey.start()
    with Postgres(postgres.home, durable=False) as heir, Valkey(valkey.home) as valkey_heir:
        assert gone(postgres.pid, valkey.pid)
        assert heir.running
        assert valkey_heir.running


def test_interrupted_initdb_is_done_again(postgres: Postgres, sql: Sql) -> None:
    """A data folder that was not finished is made anew."""
    leftover = postgres.home / "data.new"
    leftover.mkdir(parents=True)
    (leftover / "PG_VERSION").write_text("18\n")
    (postgres.home / "data").mkdir()
    postgres.start()
    assert sql(postgres.url, "SELECT 1") == [(1,)]
    assert not leftover.exists()


def test_both_engines_end_with_a_killed_supervisor(
    tmp_path: Path, sql: Sql, command: Command, gone: Gone
) -> None:
    """After `kill -9` of the supervisor no engine is left, its lock is free, and the data are still there."""
    if sys.platform != "linux":
        pytest.skip("macOS cannot tie a child to its parent")
    folder = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, SUPERVISOR, folder], stdout=subprocess.PIPE, text=True
    ) as supervisor:
        assert supervisor.stdout is not None
        report = json.loads(supervisor.stdout.readline())
        database, broker = report["urls"]
        sql(database, "CREATE TABLE t AS SELECT 7 AS n")
        command(broker, "SET", "a", "1")
        supervisor.kill()
    with EngineHome(folder) as home:
        assert gone(report["postgres"], report["valkey"])
        with Postgres(home.path / "postgres") as postgres, Valkey(home.path / "valkey") as valkey:
            assert sql(postgres.url, "SELECT n FROM t") == [(7,)]
            assert command(valkey.url, "GET", "a") == "1"


def test_odd_folder_and_odd_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: Sql, command: Command
) -> None:
    """A path of 300 odd characters works (spaces, quotes, wildcards), whatever the caller's environment."""
    folder = tmp_path / 'it\'s "odd" [a-b]*? é $HOME \\x41 #'
    while len(str(folder)) < 300:
        folder /= "a long name"
    for name in ("PGHOSTADDR", "PGOPTIONS", "PGSERVICE", "PGDATA", "PGSSLMODE", "LC_ALL", "LANG", "TZ"):
        monkeypatch.setenv(name, "nonsense")
    monkeypatch.delenv("HOME", raising=False)
    with Postgres(folder / "p", durable=False) as postgres, Valkey(folder / "v") as valkey:
        assert os.environ["PGSERVICE"] == "nonsense"
        for name in ("PGHOSTADDR", "PGOPTIONS", "PGSERVICE", "PGSSLMODE"):
            monkeypatch.delenv(name)
        assert sql(postgres.url, "SHOW timezone") == [("UTC",)]
        directory = command(valkey.url, "CONFIG", "GET", "dir")
        assert directory == {"dir": str(folder / "v")}


def test_data_of_another_version_are_refused(postgres: Postgres) -> None:
    """Data made by another PostgreSQL are left alone, and the error says which is needed."""
    data = postgres.home / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("16\n")
    with pytest.raises(DataUnusable, match="PostgreSQL 16"):
        postgres.start()
    assert not postgres.running


def test_taken_port_is_reported(valkey: Valkey) -> None:
    """A port that somebody else uses fails with the server's own words, and nothing stays behind."""
    valkey.start()
    second = Valkey(valkey.home.parent / "second", port=valkey.port)
    with pytest.raises(ChildFailed, match="Address already in use"):
        second.start()
    assert not second.running
    assert valkey.running


def test_url_before_start_is_an_error(postgres: Postgres, valkey: Valkey) -> None:
    """There is no URL before the first start."""
    for engine in (postgres, valkey):
        with pytest.raises(EmbeddedError, match="start"):
            _ = engine.url
