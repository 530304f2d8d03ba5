"""The parts of one development instance: started in order, kept alive, stopped together.

The engines start while a thread imports what the parts need; the parts are then forks of this process. So
each module is imported once, and its memory is shared for as long as this process does little itself. It can
be forked again when a part has died, because it has one thread and keeps no connection open. Where forking is
not safe (macOS) or not wanted, each part is started as its command.
"""

from __future__ import annotations

import base64
import gc
import json
import os
import secrets
import select
import signal
import socket
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import click

from otpqueue import clock, logs, parent, settings
from otpqueue.cli import preload
from otpqueue.cli.errors import explained
from otpqueue.embedded import ChildProcess, ForkedProcess, Postgres, Valkey
from otpqueue.embedded.home import free_port, write_private
from otpqueue.settings import Settings

if TYPE_CHECKING:
    from otpqueue.wiring import Parts

_CLIENT = "dev"
_RESTART_PAUSE_S = 1.0
_LOOK_EVERY_S = 0.03
_MAIN = Path(__file__).parents[1] / "__main__.py"
_ROOT_WARNING = "You're running the worker with superuser"

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

    def __init__(self, given: Settings, *, port: int, data_dir: Path, fork: bool) -> None:
        self._given, self._port, self._data_dir, self._fork = given, port or free_port(), data_dir, fork
        self._keys: dict[str, str] = {}
        self._environment = dict(os.environ) | {parent.STARTED_BY: str(os.getpid())}
        self._children: dict[str, _Child] = {}
        self.described = data_dir / "dev.json"
        self._current = given
        self._simulated = given.infobip_api_key is None or given.infobip_base_url is None

    def start(self) -> None:
        """Start what is not given, set the database and the provider up, and wait until all is ready.

        Raises EmbeddedError, ClickException, ModuleNotFoundError, or an error of migrating or provisioning.
        """
        self.described.unlink(missing_ok=True)
        _refuse_taken(self._given.host, self._port)
        with ThreadPoolExecutor(1) as importing:
            imported = importing.submit(preload.load, parts=self._fork, simulator=self._simulated)
            self._start_engines()
            imported.result()
        self._keys = _kept_keys(self._data_dir / "keys.json")
        self._start_simulator()
        self._set_own_values()
        self._current = settings.load(self._environment)
        self._set_up()
        self._wait_until_ready()
        gc.freeze()
        gc.enable()

    def _start_engines(self) -> None:
        valkey = postgres = None
        if self._given.redis_url is None:
            self._children["redis"] = valkey = Valkey(self._data_dir / "valkey")
            valkey.launch()
            self._environment["REDIS_URL"] = valkey.url
        if self._given.database_url is None:
            self._children["postgres"] = postgres = Postgres(self._data_dir / "postgres")
            postgres.start()
            self._environment["DATABASE_URL"] = postgres.url
        if valkey is not None:
            valkey.wait_ready()

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
            "api_processes": "1",
            "guide_client": _CLIENT if loopback else "",
            "allow_documentation_numbers": "true" if self._simulated else "",
            "try_page": "true" if self._simulated and loopback else "",
            "seal_keys": self._keys["seal_keys"],
            "hash_key": self._keys["hash_key"],
        }
        if loopback:
            # Everybody who calls without a key is at this machine, and has its one address.
            own |= {"limit_keyless_peer": "off", "limit_keyless_network": "off"}
        for field, value in own.items():
            if field not in self._given.model_fields_set:
                self._environment[str(Settings.model_fields[field].alias)] = value
        # In many a container one is root; Celery need not warn about a development worker.
        self._environment.setdefault("PYTHONWARNINGS", f"ignore:{_ROOT_WARNING}")
        self._environment["PORT"] = str(self._port)
        if self._simulated and self._given.receipts_user is None:
            self._environment["OTPQUEUE_RECEIPTS_USER"] = _CLIENT
            self._environment["OTPQUEUE_RECEIPTS_PASSWORD"] = self._keys["receipts_password"]

    def _set_up(self) -> None:
        """Bring the database up to date, set the provider up, and start the parts as soon as each can be."""
        self._run_apart("migrate", self._prepare_database)
        self._spawn("api", ["api"])
        # Workers start later: until the provider is set up, the remembered ids may be those of a simulator
        # that is gone, and a send that uses them opens the circuit.
        self._provision()
        self._spawn("worker", ["worker", "--queues=send"])
        self._spawn("periodic", ["worker", "--queues=periodic,slow", "--jobs=12"])
        self._spawn("beat", ["beat"])

    def _run_apart(self, name: str, work: Callable[[], None]) -> None:
        """Do a piece of work to its end, in a fork if there are any: it must not leave its traces in them.

        Raises SystemExit after the fork has said what is wrong.
        """
        if not self._fork:
            work()
            return
        command = click.Command(name, callback=explained(work))
        self._children[name] = child = ForkedProcess(
            name, lambda: command.main([]), title=f"otpqueue dev: {name}", env=self._environment
        )
        child.start()
        code = child.wait()
        del self._children[name]
        if code:
            raise SystemExit(code)

    def _prepare_database(self) -> None:
        from otpqueue.store.migrate import upgrade  # noqa: PLC0415 - imported in `start`

        with self._parts() as parts:
            upgrade(parts.engine)
            both = frozenset({"send", "verify"})
            for name, scopes in (("api_key", both), ("admin_api_key", both | {"admin"})):
                parts.keys.create(client=_CLIENT, scopes=scopes, key=self._keys[name], now=clock.now())

    def _provision(self) -> None:
        # Also after the simulator died: it keeps nothing, so its ids are new.
        if self._simulated:
            ready = f"{self._simulator_url}/_simulator/stats"
            _until(lambda: _get(ready) is not None, "the simulator", self._alive)
        self._run_apart("provision", self._prepare_provider)

    def _prepare_provider(self) -> None:
        from otpqueue.infobip.provisioning import subscribe  # noqa: PLC0415 - imported in `start`

        with self._parts() as parts:
            parts.provision(parts.transport, now=clock.now())
            if self._simulated and self._current.track_delivery:
                subscribe(
                    parts.transport,
                    url=f"{self._api_url}/v1/infobip/receipts",
                    username=self._current.require("receipts_user"),
                    password=self._current.require("receipts_password"),
                )

    @contextmanager
    def _parts(self) -> Iterator[Parts]:
        """Yield parts for the length of a `with`, and close what they opened."""
        from otpqueue.wiring import Parts  # noqa: PLC0415 - imported in `start`

        parts = Parts(self._current)
        try:
            yield parts
        finally:
            parts.transport.close()
            parts.engine.dispose()

    def _spawn(self, name: str, arguments: list[str]) -> None:
        # The API has worker processes to end; the others have nothing that a kill could leave behind.
        death_signal = signal.SIGTERM if name == "api" else signal.SIGKILL
        child: ChildProcess
        if self._fork:
            child = ForkedProcess(
                name,
                lambda: _run_command(arguments),
                title=" ".join(["otpqueue", *arguments]),
                env=self._environment,
                death_signal=death_signal,
            )
        else:
            command = [sys.executable, "-m", "otpqueue", *arguments]
            child = ChildProcess(name, command, env=self._environment, death_signal=death_signal)
        self._children[name] = child
        child.start()

    def _wait_until_ready(self) -> None:
        def ready() -> bool:
            body = _get(f"{self._api_url}/health")
            # A part that is `starting` does not degrade the service, and takes no work yet.
            wanted = {"status": "healthy", "workers": "running", "beat": "running"}
            return body is not None and wanted.items() <= json.loads(body).items()

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
        """Start again what dies, until a signal handler raises."""
        with _deaths() as wait_for_death:
            while True:
                for name, child in [*self._children.items()]:
                    if not child.running:
                        self._restart(name, child)
                wait_for_death()

    def _restart(self, name: str, child: _Child) -> None:
        log.error("died", part=name, starting_again_in_s=_RESTART_PAUSE_S)
        time.sleep(_RESTART_PAUSE_S)
        child.start()
        if name == "simulator":
            self._provision()
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


def _run_command(arguments: list[str]) -> None:
    """Run a command in a process that was forked for it."""
    from otpqueue.cli import main  # noqa: PLC0415 - it imports us

    # What a worker that gets SIGHUP starts anew.
    sys.argv[:] = [str(_MAIN), *arguments]
    # PYTHONWARNINGS is read by a program that starts.
    warnings.filterwarnings("ignore", message=_ROOT_WARNING)
    main(arguments, prog_name="otpqueue")


@contextmanager
def _deaths() -> Iterator[Callable[[], None]]:
    """Yield a function that waits until a child has ended since it was called last; it may return too often.

    Works on the main thread, and only there.
    """
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.setblocking(False)
        writer.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        # A signal that is ignored by default wakes only where it has a handler.
        before = signal.signal(signal.SIGCHLD, lambda *_: None)

        def wait() -> None:
            select.select([reader], [], [])
            reader.recv(4096)

        try:
            yield wait
        finally:
            signal.signal(signal.SIGCHLD, before)
            signal.set_wakeup_fd(-1)


def _kept_keys(path: Path) -> dict[str, str]:
    from otpqueue.operations.keys import new_key  # noqa: PLC0415 - imported in `Instance.start`

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


def _get(url: str) -> bytes | None:
    """Return the body of an answer with whatever status, None while there is none."""
    where = urlsplit(url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=5)
    try:
        connection.request("GET", where.path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def _until(ready: Callable[[], bool], what: str, alive: Callable[[], None], *, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return
        alive()
        time.sleep(_LOOK_EVERY_S)
    raise click.ClickException(f"{what} did not get ready within {seconds:g} s; see the messages above")
