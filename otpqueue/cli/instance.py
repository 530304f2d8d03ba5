"""One development instance: embedded engines, the simulator, API, workers and beat.

The engines start while a thread imports the modules of the services; the services are then forks of this
process. Each module is imported once, and its memory stays shared as long as this process does little itself.
This process can fork again when a service has died, because it has one thread and keeps no connection open.
Where forking is unsafe (macOS) or disabled, each service is started as a command.
"""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from otpqueue import clock, parent, settings
from otpqueue.cli import preload
from otpqueue.cli.children import ROOT_WARNING, SupervisedChild, make_command_child, watch_for_deaths
from otpqueue.cli.dev_keys import load_or_create_keys
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.probes import fetch_body, require_free_port, wait_until
from otpqueue.embedded import ForkedProcess, Postgres, Valkey
from otpqueue.embedded.home import free_port, write_private
from otpqueue.settings import Settings
from otpqueue.telemetry import logs

if TYPE_CHECKING:
    from otpqueue.wiring import Parts

_CLIENT = "dev"
_RESTART_PAUSE_S = 1.0

log = logs.get_logger(__name__)


class DevInstance:
    """Starts the services of one development instance in order, restarts them and stops them."""

    def __init__(self, given: Settings, *, port: int, data_dir: Path, fork: bool) -> None:
        self._given, self._port, self._data_dir, self._fork = given, port or free_port(), data_dir, fork
        self._keys: dict[str, str] = {}
        self._environment = dict(os.environ) | {parent.STARTED_BY: str(os.getpid())}
        self._children: dict[str, SupervisedChild] = {}
        self.description_file = data_dir / "dev.json"
        self._current = given
        self._simulated = given.infobip_api_key is None or given.infobip_base_url is None

    def start(self) -> None:
        """Start the services, set up the database and the provider, and wait until all are ready.

        An engine or provider given by the settings is used instead of an embedded one. Raises EmbeddedError,
        CommandFailed, ModuleNotFoundError, or an error of migrating or provisioning.
        """
        self.description_file.unlink(missing_ok=True)
        require_free_port(self._given.host, self._port)
        with ThreadPoolExecutor(1) as importing:
            imported = importing.submit(
                preload.import_modules, services=self._fork, simulator=self._simulated
            )
            self._start_engines()
            imported.result()
        self._keys = load_or_create_keys(self._data_dir / "keys.json")
        self._start_simulator()
        self._set_defaults()
        self._current = settings.load(self._environment)
        self._set_up_services()
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

    def _set_defaults(self) -> None:
        loopback = self._given.host in {"127.0.0.1", "localhost", "::1"}
        defaults = {
            "log_format": "readable",
            "api_processes": "1",
            "guide_client": _CLIENT if loopback else "",
            "allow_documentation_numbers": "true" if self._simulated else "",
            "try_page": "true" if self._simulated and loopback else "",
            "developer_hints": "true" if loopback else "",
            "seal_keys": self._keys["seal_keys"],
            "hash_key": self._keys["hash_key"],
        }
        if loopback:
            # Every caller without a key is on this machine and has the same address.
            defaults |= {"limit_keyless_peer": "off", "limit_keyless_network": "off"}
            # A webhook's receiver in development is on this machine, too.
            defaults["webhook_allow_private"] = "true"
        for field, value in defaults.items():
            if field not in self._given.model_fields_set:
                self._environment[str(Settings.model_fields[field].alias)] = value
        # In many containers the user is root.
        self._environment.setdefault("PYTHONWARNINGS", f"ignore:{ROOT_WARNING}")
        self._environment["PORT"] = str(self._port)
        if self._simulated and self._given.receipts_user is None:
            self._environment["OTPQUEUE_RECEIPTS_USER"] = _CLIENT
            self._environment["OTPQUEUE_RECEIPTS_PASSWORD"] = self._keys["receipts_password"]

    def _set_up_services(self) -> None:
        """Migrate the database, provision the provider, and start each service as soon as it can run."""
        self._run_in_fork("migrate", self._prepare_database)
        self._spawn("api", ["api"])
        # Workers start after provisioning: until then the stored ids may be those of an earlier simulator,
        # and a send that uses them opens the circuit.
        self._provision()
        self._spawn("worker", ["worker", "--queues=send"])
        self._spawn("periodic", ["worker", "--queues=periodic,slow", "--jobs=12"])
        self._spawn("beat", ["beat"])

    def _run_in_fork(self, name: str, work: Callable[[], None]) -> None:
        """Run `work` to its end. With forks it runs in one, so that later forks do not inherit its state.

        Raises SystemExit after the fork has printed its error.
        """
        if not self._fork:
            work()
            return
        command = click.Command(name, callback=explain_errors(work))
        self._children[name] = child = ForkedProcess(
            name, lambda: command.main([]), title=f"otpqueue dev: {name}", env=self._environment
        )
        child.start()
        code = child.wait()
        del self._children[name]
        if code:
            raise SystemExit(code)

    def _prepare_database(self) -> None:
        from otpqueue.store.migrate import upgrade  # noqa: PLC0415 - imported by `start`

        with self._open_parts() as parts:
            upgrade(parts.engine)
            both = frozenset({"send", "verify"})
            for name, scopes in (("api_key", both), ("admin_api_key", both | {"admin"})):
                parts.keys.create(client=_CLIENT, scopes=scopes, key=self._keys[name], now=clock.now())

    def _provision(self) -> None:
        # Also after the simulator died: its state is in memory, so its ids are new.
        if self._simulated:
            stats_url = f"{self._simulator_url}/_simulator/stats"
            wait_until(lambda: fetch_body(stats_url) is not None, "The simulator", self._check_children)
        self._run_in_fork("provision", self._prepare_provider)

    def _prepare_provider(self) -> None:
        from otpqueue.infobip.provisioning import subscribe_to_reports  # noqa: PLC0415 - imported by `start`

        with self._open_parts() as parts:
            parts.provision(parts.transport, now=clock.now())
            if self._simulated and self._current.track_delivery:
                subscribe_to_reports(
                    parts.transport,
                    url=f"{self._api_url}/v1/infobip/receipts",
                    username=self._current.require("receipts_user"),
                    password=self._current.require("receipts_password"),
                )

    @contextmanager
    def _open_parts(self) -> Iterator[Parts]:
        """Yield parts by the current settings, and close their connections at the end."""
        from otpqueue.wiring import Parts  # noqa: PLC0415 - imported by `start`

        parts = Parts(self._current)
        try:
            yield parts
        finally:
            parts.transport.close()
            parts.engine.dispose()

    def _spawn(self, name: str, arguments: list[str]) -> None:
        child = make_command_child(name, arguments, environment=self._environment, fork=self._fork)
        self._children[name] = child
        child.start()

    def _wait_until_ready(self) -> None:
        def is_healthy() -> bool:
            body = fetch_body(f"{self._api_url}/health")
            # Workers and beat that are `starting` do not degrade the service, but do no work yet.
            wanted = {"status": "healthy", "workers": "running", "beat": "running"}
            return body is not None and wanted.items() <= json.loads(body).items()

        wait_until(is_healthy, "The API and the workers", self._check_children)

    def _check_children(self) -> None:
        for name, child in self._children.items():
            if not child.running:
                raise CommandFailed(ExitCode.PROBLEM, f"{name} did not start. See its messages above.")

    def describe(self) -> dict[str, Any]:
        """Return URLs, keys, process ids and settings: the content of dev.json."""
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
            # For commands beside this instance.
            "environment": dict(sorted(settings.collect_given(self._environment).items())),
        }

    def supervise(self) -> None:
        """Restart services that die, until a signal handler raises."""
        with watch_for_deaths() as wait_for_death:
            while True:
                for name, child in [*self._children.items()]:
                    if not child.running:
                        self._restart_child(name, child)
                wait_for_death()

    def _restart_child(self, name: str, child: SupervisedChild) -> None:
        log.error("died", part=name, starting_again_in_s=_RESTART_PAUSE_S)
        time.sleep(_RESTART_PAUSE_S)
        child.start()
        if name == "simulator":
            self._provision()
        self.write_description()

    def write_description(self) -> None:
        """Write dev.json atomically, readable only by its owner."""
        write_private(self.description_file, json.dumps(self.describe(), indent=2).encode())

    def stop(self) -> None:
        """Stop all services, the clients of an engine before the engine."""
        self.description_file.unlink(missing_ok=True)
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
