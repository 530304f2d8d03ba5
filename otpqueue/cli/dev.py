"""`otpqueue dev`: everything on one machine, from a bare Python, in one command."""

from __future__ import annotations

import base64
import json
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import click
import requests

from otpqueue import clock, logs, settings
from otpqueue.cli.errors import explained
from otpqueue.operations.keys import new_key
from otpqueue.settings import Settings
from otpqueue.wiring import Parts

_DEV_CLIENT = "dev"
_RESTART_PAUSE_S = 1.0
_STOP_GRACE_S = 20

log = logs.get_logger(__name__)


class _Stop(BaseException):
    """A signal asked us to stop."""


class _Child(Protocol):
    @property
    def running(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The API's port; PORT (8000) unless given.")
@click.option(
    "--data-dir",
    default=".otpqueue",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the engines' data, the keys and dev.json.",
)
@explained
def dev(port: int | None, data_dir: Path) -> None:
    """Start everything: embedded Postgres and Redis, the simulator, API, workers and beat.

    DATABASE_URL, REDIS_URL or INFOBIP_API_KEY with INFOBIP_BASE_URL, where set, take the place of the
    embedded part each. Ctrl-C stops it all.
    """
    try:
        from otpqueue.embedded import EmbeddedError, EngineHome  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise click.ClickException(f"needs {error.name}: pip install 'otpqueue[dev]'") from None
    # Ours is the only Postgres here; libpq's own variables would lead every client of it astray.
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]
    given = settings.load()
    logs.configure(process="dev", style="readable", level=given.log_level)
    try:
        with EngineHome(data_dir) as home:
            wanted = given.port if port is None else port
            _run(Everything(given, port=wanted or _free_port(), data_dir=home.path))
    except EmbeddedError as error:
        raise click.ClickException(str(error)) from None


def _run(everything: Everything) -> None:
    def stop(*_: object) -> None:
        raise _Stop

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    try:
        everything.start()
        everything.describe()
        everything.watch()
    except _Stop:
        pass
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        everything.stop()


class Everything:
    """The parts of one development instance, started in order, kept alive, stopped together."""

    def __init__(self, given: Settings, *, port: int, data_dir: Path) -> None:
        self._given, self._port, self._data_dir = given, port, data_dir
        self._keys = _kept_keys(data_dir / "keys.json")
        self._environment = dict(os.environ)
        self._children: dict[str, _Child] = {}
        self._described = data_dir / "dev.json"
        self._current = given
        self._simulated = given.infobip_api_key is None or given.infobip_base_url is None

    def start(self) -> None:
        """Start what is not given, set the database and the provider up, and wait until all is ready.

        Raises EmbeddedError, ClickException, or an error of migrating or provisioning.
        """
        self._described.unlink(missing_ok=True)
        _refuse_taken(self._given.host, self._port)
        self._start_simulator()
        self._start_engines()
        self._set_own_values()
        self._current = settings.load(self._environment)
        self._prepare(Parts(self._current))
        for name, command in (
            ("api", ["api"]),
            ("worker", ["worker", "--queues=send"]),
            ("periodic", ["worker", "--queues=periodic", "--jobs=2"]),
            ("beat", ["beat"]),
        ):
            self._spawn(name, command)
        self._wait_until_ready()

    def _start_engines(self) -> None:
        from otpqueue.embedded import Postgres, Valkey  # noqa: PLC0415 - an extra

        if self._given.database_url is None:
            postgres = Postgres(self._data_dir / "postgres")
            postgres.start()
            self._children["postgres"] = postgres
            self._environment["DATABASE_URL"] = postgres.url
        if self._given.redis_url is None:
            valkey = Valkey(self._data_dir / "valkey")
            valkey.start()
            self._children["redis"] = valkey
            self._environment["REDIS_URL"] = valkey.url

    def _start_simulator(self) -> None:
        if not self._simulated:
            return
        port, key = _free_port(), self._keys["infobip_api_key"]
        self._environment["INFOBIP_BASE_URL"] = f"http://127.0.0.1:{port}"
        self._environment["INFOBIP_API_KEY"] = key
        self._spawn("simulator", ["simulator", f"--port={port}", f"--api-key={key}"])

    def _set_own_values(self) -> None:
        loopback = self._given.host in {"127.0.0.1", "localhost", "::1"}
        own = {
            "log_format": "readable",
            "guide_client": _DEV_CLIENT if loopback else "",
            "allow_documentation_numbers": "true" if self._simulated else "",
            "try_page": "true" if self._simulated and loopback else "",
            "seal_keys": self._keys["seal_keys"],
            "hash_key": self._keys["hash_key"],
        }
        for field, value in own.items():
            if field not in self._given.model_fields_set:
                self._environment[str(Settings.model_fields[field].alias)] = value
        # Root is who one is in many a container; of a development worker Celery need not warn.
        self._environment.setdefault("PYTHONWARNINGS", "ignore:You're running the worker with superuser")
        self._environment["PORT"] = str(self._port)

    def _prepare(self, parts: Parts) -> None:
        from otpqueue.store.migrate import upgrade  # noqa: PLC0415 - Alembic is slow to import

        now = clock.now()
        upgrade(parts.engine)
        both = frozenset({"send", "verify"})
        parts.keys.create(client=_DEV_CLIENT, scopes=both, key=self._keys["api_key"], now=now)
        admin = both | {"admin"}
        parts.keys.create(client=_DEV_CLIENT, scopes=admin, key=self._keys["admin_api_key"], now=now)
        self._provision(parts)

    def _provision(self, parts: Parts) -> None:
        # Also after the simulator died: it keeps nothing, so its ids are new.
        if self._simulated:
            _until(lambda: _answers(f"{self._simulator_url}/_simulator/stats"), "the simulator", self._alive)
        parts.provision(parts.transport, now=clock.now())
        parts.transport.close()
        parts.engine.dispose()

    def _spawn(self, name: str, arguments: list[str]) -> None:
        from otpqueue.embedded import ChildProcess  # noqa: PLC0415 - an extra

        child = ChildProcess(
            name,
            [sys.executable, "-m", "otpqueue", *arguments],
            env=self._environment,
            # The API has worker processes to end; the others have nothing that a kill could leave behind.
            death_signal=signal.SIGTERM if name == "api" else signal.SIGKILL,
        )
        self._children[name] = child
        child.start()

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            health = requests.get(f"{self._api_url}/health", timeout=5).json()
            return bool(health["status"] == "ok")

        _until(ready, "the API and the workers", self._alive)

    def _alive(self) -> None:
        for name, child in self._children.items():
            if not child.running:
                raise click.ClickException(f"{name} did not start; its messages are above")

    def describe(self) -> None:
        """Write dev.json for programs and print the same for people."""
        self._write_description()
        click.echo(self._banner(), err=True)

    def _description(self) -> dict[str, Any]:
        names = ("api", "worker", "periodic", "beat", "simulator", "postgres", "redis")
        pids = {name: self._children[name].pid if name in self._children else None for name in names}
        return {
            "api_url": self._api_url,
            "simulator_url": self._simulator_url if self._simulated else None,
            "database_url": self._current.require("database_url"),
            "redis_url": self._current.require("redis_url"),
            "api_key": self._keys["api_key"],
            "admin_api_key": self._keys["admin_api_key"],
            "infobip_api_key": self._keys["infobip_api_key"] if self._simulated else None,
            "pids": pids,
        }

    def _banner(self) -> str:
        key = self._keys["api_key"]
        pages = [("API", self._api_url), ("API docs", f"{self._api_url}/docs")]
        if self._simulated:
            pages += [("try it", f"{self._api_url}/try"), ("simulator", self._simulator_url)]
        pages += [("API key", key), ("for scripts", str(self._described))]
        lines = ["", "otpqueue is ready. Ctrl-C stops it.", ""]
        lines += [f"  {name:<12}{where}" for name, where in pages]
        number = "+447700900123" if self._simulated else "+YOUR_NUMBER"
        lines += ["", "Paste this into another shell to send a code and verify it:", ""]
        lines += [f"  {line}" for line in self._commands(key, number)]
        return "\n".join([*lines, ""])

    def _commands(self, key: str, number: str) -> list[str]:
        request = (
            'ID=$(curl -s $URL/v1/otp-requests -H "Authorization: Bearer $KEY" '
            "-H 'Content-Type: application/json' "
            f'-d \'{{"phone_number": "{number}"}}\' | grep -o \'"id": "[^"]*\' | cut -d\'"\' -f4)'
        )
        poll = 'curl -s "$URL/v1/otp-requests/$ID?wait=1" -H "Authorization: Bearer $KEY"; echo'
        code = "CODE=THE_CODE_YOU_GOT"
        if self._simulated:
            inbox = f"{self._simulator_url}/_simulator/messages?to={number.removeprefix('+')}"
            code = f"CODE=$(curl -s '{inbox}' | grep -o '\"pin\": *\"[0-9]*' | head -1 | grep -o '[0-9]*$')"
        verify = (
            'curl -s $URL/v1/otp-requests/$ID/verify -H "Authorization: Bearer $KEY" '
            '-H \'Content-Type: application/json\' -d "{\\"code\\": \\"$CODE\\"}"; echo'
        )
        return [f"URL={self._api_url} KEY={key}", request, poll, code, verify]

    def watch(self) -> None:
        """Start again what dies, until a signal comes."""
        while True:
            time.sleep(0.2)
            for name, child in self._children.items():
                if not child.running:
                    log.error("died", part=name, starting_again_in_s=_RESTART_PAUSE_S)
                    time.sleep(_RESTART_PAUSE_S)
                    child.start()
                    if name == "simulator":
                        self._provision(Parts(self._current))
                    self._write_description()

    def _write_description(self) -> None:
        from otpqueue.embedded.home import write_private  # noqa: PLC0415 - an extra

        write_private(self._described, json.dumps(self._description(), indent=2).encode())

    def stop(self) -> None:
        """Stop everything: callers of an engine before the engine."""
        self._described.unlink(missing_ok=True)
        engines = [self._children.pop(name) for name in ("redis", "postgres") if name in self._children]
        for group in (list(self._children.values()), engines):
            with ThreadPoolExecutor(max(1, len(group))) as pool:
                list(pool.map(lambda child: child.stop(), group))

    @property
    def _api_url(self) -> str:
        host = "127.0.0.1" if self._given.host in {"0.0.0.0", "localhost"} else self._given.host  # noqa: S104
        return f"http://{f'[{host}]' if ':' in host else host}:{self._port}"

    @property
    def _simulator_url(self) -> str:
        return self._current.require("infobip_base_url")


def _kept_keys(path: Path) -> dict[str, str]:
    from otpqueue.embedded.home import write_private  # noqa: PLC0415 - an extra

    if path.is_file():
        kept: dict[str, str] = json.loads(path.read_text())
        return kept
    keys = {
        "seal_keys": "dev:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "hash_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "api_key": new_key(),
        "admin_api_key": new_key(),
        "infobip_api_key": secrets.token_hex(16),
    }
    write_private(path, json.dumps(keys).encode())
    return keys


def _free_port() -> int:
    from otpqueue.embedded.home import free_port  # noqa: PLC0415 - an extra

    return free_port()


def _refuse_taken(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise click.ClickException(f"port {port} is taken; choose another with --port") from None


def _answers(url: str) -> bool:
    return requests.get(url, timeout=5).ok


def _until(ready: Callable[[], bool], what: str, alive: Callable[[], None], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except (requests.RequestException, ValueError):
            pass
        alive()
        time.sleep(0.05)
    raise click.ClickException(f"{what} did not get ready within {seconds:g} s; see the messages above")
