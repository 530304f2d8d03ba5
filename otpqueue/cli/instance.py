"""The parts of one development instance: started in order, kept alive, stopped together."""

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

from otpqueue import clock, logs, parent, settings
from otpqueue.embedded import ChildProcess, Postgres, Valkey
from otpqueue.embedded.home import free_port, write_private
from otpqueue.infobip.provisioning import subscribe
from otpqueue.operations.keys import new_key
from otpqueue.settings import Settings
from otpqueue.store.migrate import upgrade
from otpqueue.wiring import Parts

_CLIENT = "dev"
_RESTART_PAUSE_S = 1.0

log = logs.get_logger(__name__)


class _Child(Protocol):
    @property
    def running(self) -> bool: ...
    @property
    def pid(self) -> int: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...


class Instance:
    """The parts of one development instance, started in order, kept alive, stopped together."""

    def __init__(self, given: Settings, *, port: int, data_dir: Path) -> None:
        self._given, self._port, self._data_dir = given, port or free_port(), data_dir
        self._keys = _kept_keys(data_dir / "keys.json")
        self._environment = dict(os.environ) | {parent.STARTED_BY: str(os.getpid())}
        self._children: dict[str, _Child] = {}
        self.described = data_dir / "dev.json"
        self._current = given
        self._simulated = given.infobip_api_key is None or given.infobip_base_url is None

    def start(self) -> None:
        """Start what is not given, set the database and the provider up, and wait until all is ready.

        Raises EmbeddedError, ClickException, or an error of migrating or provisioning.
        """
        self.described.unlink(missing_ok=True)
        _refuse_taken(self._given.host, self._port)
        self._start_simulator()
        self._start_engines()
        self._set_own_values()
        self._current = settings.load(self._environment)
        self._prepare(Parts(self._current))
        for name, command in (
            ("api", ["api"]),
            ("worker", ["worker", "--queues=send"]),
            ("periodic", ["worker", "--queues=periodic,slow", "--jobs=12"]),
            ("beat", ["beat"]),
        ):
            self._spawn(name, command)
        self._wait_until_ready()

    def _start_engines(self) -> None:
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
        port, key = free_port(), self._keys["infobip_api_key"]
        self._environment["INFOBIP_BASE_URL"] = f"http://127.0.0.1:{port}"
        self._environment["INFOBIP_API_KEY"] = key
        self._spawn("simulator", ["simulator", f"--port={port}", f"--api-key={key}"])

    def _set_own_values(self) -> None:
        loopback = self._given.host in {"127.0.0.1", "localhost", "::1"}
        own = {
            "log_format": "readable",
            "guide_client": _CLIENT if loopback else "",
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
        if self._simulated and self._given.receipts_user is None:
            self._environment["OTPQUEUE_RECEIPTS_USER"] = _CLIENT
            self._environment["OTPQUEUE_RECEIPTS_PASSWORD"] = self._keys["receipts_password"]

    def _prepare(self, parts: Parts) -> None:
        now = clock.now()
        upgrade(parts.engine)
        both = frozenset({"send", "verify"})
        parts.keys.create(client=_CLIENT, scopes=both, key=self._keys["api_key"], now=now)
        admin = both | {"admin"}
        parts.keys.create(client=_CLIENT, scopes=admin, key=self._keys["admin_api_key"], now=now)
        self._provision(parts)

    def _provision(self, parts: Parts) -> None:
        # Also after the simulator died: it keeps nothing, so its ids are new.
        if self._simulated:
            _until(lambda: _answers(f"{self._simulator_url}/_simulator/stats"), "the simulator", self._alive)
        parts.provision(parts.transport, now=clock.now())
        if self._simulated and self._current.track_delivery:
            subscribe(
                parts.transport,
                url=f"{self._api_url}/v1/infobip/receipts",
                username=self._current.require("receipts_user"),
                password=self._current.require("receipts_password"),
            )
        parts.transport.close()
        parts.engine.dispose()

    def _spawn(self, name: str, arguments: list[str]) -> None:
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

    def description(self) -> dict[str, Any]:
        """Return where everything is: what dev.json says."""
        names = ("api", "worker", "periodic", "beat", "simulator", "postgres", "redis")
        pids = {name: self._children[name].pid if name in self._children else None for name in names}
        return {
            "api_url": self._api_url,
            "console_url": f"{self._api_url}/console" if self._current.console else None,
            "simulator_url": self._simulator_url if self._simulated else None,
            "database_url": self._current.require("database_url"),
            "redis_url": self._current.require("redis_url"),
            "api_key": self._keys["api_key"],
            "admin_api_key": self._keys["admin_api_key"],
            "infobip_api_key": self._keys["infobip_api_key"] if self._simulated else None,
            "pids": pids,
        }

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
                    self.describe()

    def describe(self) -> None:
        """Write dev.json, whole or not at all, readable by its owner alone."""
        write_private(self.described, json.dumps(self.description(), indent=2).encode())

    def stop(self) -> None:
        """Stop everything: callers of an engine before the engine."""
        self.described.unlink(missing_ok=True)
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
    kept: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    fresh = {
        "seal_keys": "dev:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        "hash_key": base64.b64encode(secrets.token_bytes(32)).decode(),
        "api_key": new_key(),
        "admin_api_key": new_key(),
        "infobip_api_key": secrets.token_hex(16),
        "receipts_password": secrets.token_hex(16),
    }
    # Of another version's some may be missing.
    if fresh.keys() - kept.keys():
        kept = fresh | kept
        write_private(path, json.dumps(kept).encode())
    return kept


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
