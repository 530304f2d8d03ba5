"""What a benchmark runs on: engines, the provider, and contestants, each a set of processes.

All of them are separate processes that are used from outside, so any checkout of otpqueue can take part: this
one and those given with `--against`.
"""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis

from benchmarks.harness import http1
from benchmarks.harness.cpu import Meter, family
from otpqueue.embedded import ChildProcess, EngineHome, Postgres, Valkey
from otpqueue.embedded.home import free_port

ROOT = Path(__file__).resolve().parents[2]
READY_S = 60
RECEIPTS = ("benchmark", "benchmark-password")
_UNWANTED = ("OTPQUEUE_", "INFOBIP_", "INDIA_", "PG", "DATABASE_URL", "REDIS_URL", "PORT")


@dataclass(frozen=True)
class Latency:
    """How long the provider takes to answer, in seconds."""

    send_s: float = 0.1
    verify_s: float = 0.02
    webhook_s: float = 0.01
    """As a client that receives webhooks."""


class Stage:
    """Postgres and Valkey, durable as in production unless given, and the provider; a context manager.

    engines  Running engines to use. Databases are dropped at the end.
    data     A folder for the engines that is kept, so that a later run finds the databases with a name again.
    """

    def __init__(self, engines: tuple[Postgres, Valkey] | None = None, data: Path | None = None) -> None:
        self._engines = engines
        self._data = data
        self._databases: set[str] = set()
        self._stack = ExitStack()
        self.provider_port = free_port()
        self.api_port = free_port()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="otpqueue-bench-")))
            if self._engines is None:
                home = stack.enter_context(EngineHome(self._data or self.folder / "engines"))
                self.postgres = stack.enter_context(Postgres(home.path / "postgres"))
                self.valkey = stack.enter_context(Valkey(home.path / "valkey"))
            else:
                self.postgres, self.valkey = self._engines
            self.provider = stack.enter_context(self._provider())
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._engines or self._data:
            for url in list(self._databases):
                self.drop_database(url)
        self._stack.close()

    @property
    def pids(self) -> dict[str, int]:
        """The processes that all contestants share."""
        return {"postgres": self.postgres.pid, "valkey": self.valkey.pid, "provider": self.provider.pid}

    @property
    def provider_url(self) -> str:
        """Where the provider is."""
        return f"http://127.0.0.1:{self.provider_port}"

    def set_latency(self, latency: Latency) -> None:
        """Set how long the provider takes from now on."""
        self._tell("POST", "/_set", json.dumps(asdict(latency)))

    def report_deliveries(self, wanted: bool) -> None:
        """Have the provider push a delivery report for each code from now on, or none."""
        self._tell("POST", "/_set", json.dumps({"report": wanted}))

    def reset_provider(self) -> None:
        """Have the provider forget what it was asked."""
        self._tell("POST", "/_reset")

    def counts(self) -> dict[str, int]:
        """Return how many codes were sent (`doubles`: to a number again), checks made, webhooks received."""
        found: dict[str, int] = json.loads(self._tell("GET", "/_counts"))
        return found

    def arrivals(self) -> dict[str, float]:
        """Return when the provider was first asked for each number: `+49...` -> monotonic clock."""
        found: dict[str, float] = {}
        for line in self._tell("GET", "/_arrivals").splitlines():
            number, at = line.split()
            found.setdefault("+" + number.decode(), float(at))
        return found

    def new_database(self, template: str | None = None, name: str | None = None) -> str:
        """Make a database, as a copy of one of ours if given, and return its URL."""
        url = self.postgres.create_database(name or f"bench_{secrets.token_hex(6)}", template=template)
        self._databases.add(url)
        return url

    def find_database(self, name: str) -> str | None:
        """Return the URL of a database that an earlier run left in the kept folder."""
        url = re.sub(r"[^/]+$", name, self.postgres.url)
        known = rows(self.postgres.url, "SELECT datname FROM pg_database") if self.keeps else []
        return url if (name,) in known else None

    def keep_database(self, url: str, name: str) -> str:
        """Give a database a name for later runs, which find it in the kept folder, and return its URL."""
        rows(self.postgres.url, f'ALTER DATABASE "{name_of(url)}" RENAME TO "{name}"')
        self._databases.discard(url)
        return re.sub(r"[^/]+$", name, url)

    @property
    def keeps(self) -> bool:
        """Whether databases outlive this run."""
        return self._data is not None

    def kept_file(self, name: str) -> Path | None:
        """Return the path of a file in the kept folder."""
        return self._data and self._data / name

    def drop_database(self, url: str) -> None:
        """Drop a database."""
        self.postgres.drop_database(name_of(url))
        self._databases.discard(url)

    def empty_redis(self) -> None:
        """Empty Redis."""
        with redis.Redis.from_url(self.valkey.url) as client:
            client.flushall()

    def child(
        self, name: str, command: list[str], *, env: Mapping[str, str], cwd: Path, api: bool = False
    ) -> ChildProcess:
        """Return a process that is not started yet; what it says goes to a file."""
        return ChildProcess(
            name,
            command,
            env=env,
            cwd=cwd,
            log=self.folder / f"{name}.log",
            death_signal=signal.SIGTERM if api else signal.SIGKILL,
        )

    def _tell(self, method: str, path: str, body: str = "") -> bytes:
        status, text = http1.call(self.provider_port, method, path, body.encode())
        if status != 200:
            raise http1.LoadFailed(f"the provider answered {path} with {status}")
        return text

    @contextmanager
    def _provider(self) -> Iterator[ChildProcess]:
        command = [sys.executable, "-m", "benchmarks.harness.provider", str(self.provider_port)]
        command += [f"http://127.0.0.1:{self.api_port}/v1/infobip/receipts", *RECEIPTS]
        child = ChildProcess(
            "provider", command, env=clean_environment(), cwd=ROOT, ready=self.reset_provider
        )
        child.start()
        try:
            child.wait_ready(READY_S)
            yield child
        finally:
            child.stop(grace=5)


@dataclass
class Running:
    """A contestant's processes, up and warm."""

    port: int
    pids: dict[str, int]
    children: dict[str, ChildProcess]
    post: Callable[[str], bytes]
    """Returns the request that asks for a code for a number."""
    database_url: str
    headers: tuple[str, ...] = ()

    def meter(self, stage: Stage) -> Meter:
        """Measure the CPU of its processes and of the shared ones from now on."""
        return Meter(self.pids | stage.pids)

    def stop(self, *names: str) -> None:
        """Stop some of its processes."""
        for name in names:
            self.children.pop(name).stop(grace=30)
            del self.pids[name]


@contextmanager
def _started(
    stage: Stage,
    children: dict[str, ChildProcess],
    *,
    post: Callable[[str], bytes],
    database_url: str,
    headers: tuple[str, ...] = (),
) -> Iterator[Running]:
    """Start processes, wait for the API among them, and stop them at the end, the last one first."""
    try:
        for child in children.values():
            child.start()
        until(lambda: answers(stage.api_port, "/health/live"), children)
        yield Running(
            port=stage.api_port,
            pids={name: child.pid for name, child in children.items()},
            children=children,
            post=post,
            database_url=database_url,
            headers=headers,
        )
    finally:
        for child in reversed(children.values()):
            child.stop(grace=30)


class Contestant(ABC):
    """Something that takes requests for codes over HTTP and has the provider send them."""

    name: str

    @abstractmethod
    def prepare(self, stage: Stage) -> None:
        """Do what is needed once."""

    @abstractmethod
    @contextmanager
    def running(self, stage: Stage, *, sends: bool) -> Iterator[Running]:
        """Start it on empty tables, with what sends the codes or without, and stop it at the end."""


@dataclass
class Otpqueue(Contestant):
    """A checkout of otpqueue with its own interpreter."""

    name: str
    checkout: Path = ROOT
    processes: int | None = None
    """Of the API; what that checkout does by default unless given."""
    workers: int = 1
    """Processes that send."""
    settings: Mapping[str, str] = field(default_factory=dict)
    receipts: bool = False
    """Whether the provider pushes a delivery report for each code."""
    webhook: str | None = None
    """Where the client is notified of its requests."""
    prepared_with: str | None = None
    """A statement that is run once, on the database that each turn gets a copy of."""
    migrated: str | None = None
    """A database with this checkout's tables to copy, instead of migrating an empty one."""
    _template: str = ""
    _key: str = ""

    def prepare(self, stage: Stage) -> None:
        """Make the tables and a key once; each turn gets a copy."""
        if self._template:
            return
        key_file = stage.kept_file(f"{self.name}.key")
        if key_file and key_file.exists():
            self._key, self._template = key_file.read_text(), f"template_{self.name}"
            return
        url = stage.new_database(self.migrated)
        environment = self.environment(stage, url)
        if self.migrated is None:
            self._run(environment, "migrate")
        self._key = self._run(environment, "keys", "create", "--client=benchmark").strip()
        if self.webhook:
            self._run(environment, "webhooks", "set", "benchmark", self.webhook)
        if self.prepared_with:
            rows(url, self.prepared_with)
        if key_file:
            url = stage.keep_database(url, f"template_{self.name}")
            key_file.write_text(self._key)
        self._template = name_of(url)

    def migrate(self, stage: Stage, url: str) -> None:
        """Migrate a database and create the SQL functions of this checkout again."""
        self._run(self.environment(stage, url), "migrate")

    @contextmanager
    def running(
        self,
        stage: Stage,
        *,
        sends: bool,
        database_url: str | None = None,
        receipts: bool = False,
        parts: Collection[str] | None = None,
        rewire: Callable[[str, dict[str, str]], dict[str, str]] = lambda _name, environment: environment,
    ) -> Iterator[Running]:
        """Start API and, if wanted, worker processes and beat, or only some `parts` of them.

        `rewire` gets the name and the environment of each process, and returns the one to start it with.
        """
        self.prepare(stage)
        stage.empty_redis()
        stage.reset_provider()
        url = database_url or stage.new_database(self._template)
        environment = self.environment(stage, url)
        commands = {"api": ["api"]}
        if sends:
            commands |= {f"worker {n + 1}": ["worker", "--queues=send"] for n in range(self.workers)}
            commands |= {"periodic": ["worker", "--queues=periodic,slow", "--jobs=12"], "beat": ["beat"]}
        commands = {name: command for name, command in commands.items() if not parts or name in parts}
        children = {
            name: stage.child(
                name.replace(" ", "-"),
                [self.python, "-m", "otpqueue", *command],
                env=rewire(name, environment),
                cwd=self.checkout,
                api=name == "api",
            )
            for name, command in commands.items()
        }
        headers = (f"Authorization: Bearer {self._key}",)
        try:
            with _started(stage, children, post=self.post, database_url=url, headers=headers) as running:
                stage.report_deliveries(self.receipts or receipts)
                try:
                    yield running
                finally:
                    stage.report_deliveries(False)
        finally:
            if database_url is None:
                stage.drop_database(url)

    def post(self, number: str) -> bytes:
        """Return the request that asks for a code."""
        body = b'{"phone_number":"%s","session_id":"s-%s"}' % (number.encode(), number[-8:].encode())
        return http1.request("POST", "/v1/otp-requests", body, f"Authorization: Bearer {self._key}")

    @property
    def template(self) -> str:
        """The name of the database with its tables and the key, once it is prepared."""
        return self._template

    @property
    def python(self) -> str:
        """The interpreter that runs it: its checkout's own, where it has one."""
        own = self.checkout / ".venv" / "bin" / "python"
        return str(own) if self.checkout != ROOT and own.is_file() else sys.executable

    def start(self, stage: Stage, url: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a command on a database."""
        return subprocess.Popen(
            [self.python, "-m", "otpqueue", *arguments],
            env=self.environment(stage, url),
            cwd=self.checkout,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _run(self, environment: Mapping[str, str], *arguments: str) -> str:
        ended = subprocess.run(
            [self.python, "-m", "otpqueue", *arguments],
            env=environment,
            cwd=self.checkout,
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise SystemExit(f"{self.name}: otpqueue {arguments[0]} failed: {ended.stderr.strip()}")
        return ended.stdout

    def environment(self, stage: Stage, url: str) -> dict[str, str]:
        """Return the environment of its processes on a database."""
        return {
            **clean_environment(),
            # Everything that is on in production is on here, with room: no limit is hit, all are counted.
            "OTPQUEUE_LIMIT_KEY_RATE": "10000/s",
            "OTPQUEUE_DAILY_CAP": "100000000",
            "OTPQUEUE_DAILY_CAP_PER_CLIENT": "100000000",
            "OTPQUEUE_DAILY_CAPS_BY_COUNTRY": '{"DE": 100000000, "US": 100000000, "*": 100000000}',
            "OTPQUEUE_LOG_LEVEL": "INFO",
            # A backlog that takes longer than 90 s is measured, too.
            "OTPQUEUE_SEND_WITHIN_S": "600",
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
            "DATABASE_URL": url,
            "REDIS_URL": stage.valkey.url,
            "INFOBIP_BASE_URL": stage.provider_url,
            "INFOBIP_API_KEY": "benchmark",
            "INFOBIP_APPLICATION_ID": "application",
            "INFOBIP_MESSAGE_ID": "message",
            "PORT": str(stage.api_port),
            **({"OTPQUEUE_API_PROCESSES": str(self.processes)} if self.processes else {}),
            "OTPQUEUE_RECEIPTS_USER": RECEIPTS[0],
            "OTPQUEUE_RECEIPTS_PASSWORD": RECEIPTS[1],
            **self.settings,
        }


@dataclass
class Baseline(Contestant):
    """A shape that others have, written in `benchmarks/baselines`."""

    name: str
    module: str
    processes: int = 2
    threads: int = 256
    """Of each API process."""
    pool: str = "threads"
    """How the worker of `ordinary` runs: Celery's pool."""

    def prepare(self, stage: Stage) -> None:
        """Do nothing: its tables are made at each start."""

    @contextmanager
    def running(self, stage: Stage, *, sends: bool) -> Iterator[Running]:
        """Start its web application and, where it has one, its worker."""
        stage.empty_redis()
        stage.reset_provider()
        url = stage.new_database()
        environment = {
            **clean_environment(),
            "DATABASE_URL": url,
            "REDIS_URL": stage.valkey.url,
            "PROVIDER_URL": stage.provider_url,
        }
        granian = [sys.executable, "-m", "granian", "--interface=wsgi", f"--workers={self.processes}"]
        granian += ["--host=127.0.0.1", f"--port={stage.api_port}", f"--blocking-threads={self.threads}"]
        granian += ["--backpressure=4096", "--no-ws", f"benchmarks.baselines.{self.module}:web"]
        commands = {"api": granian}
        if sends and self.module == "ordinary":
            celery = [sys.executable, "-m", "celery", "-A", "benchmarks.baselines.ordinary:tasks", "worker"]
            celery += [f"--pool={self.pool}", "--concurrency=64", "--loglevel=INFO"]
            commands["worker 1"] = [*celery, "--without-gossip", "--without-mingle"]
        if self.module == "ordinary":
            subprocess.run(
                [sys.executable, "-m", "benchmarks.baselines.ordinary"], env=environment, cwd=ROOT, check=True
            )
        children = {
            name: stage.child(
                f"{self.name}-{name}".replace(" ", "-"), command, env=environment, cwd=ROOT, api=True
            )
            for name, command in commands.items()
        }
        try:
            with _started(stage, children, post=self.post, database_url=url) as running:
                yield running
        finally:
            stage.drop_database(url)

    def post(self, number: str) -> bytes:
        """Return the request that asks for a code, as the guide has it."""
        return http1.request("POST", "/request-otp", b'{"phoneNumber":"%s"}' % number.encode())


def until(
    ready: Callable[[], bool], children: Mapping[str, ChildProcess], *, seconds: float = READY_S
) -> None:
    """Wait until something holds; stop the benchmark if a process ends meanwhile or it takes too long."""
    deadline = time.monotonic() + seconds
    while not ready():
        for name, child in children.items():
            if not child.running:
                raise SystemExit(f"{name} ended: {child._tail()}")
        if time.monotonic() > deadline:
            raise SystemExit(f"not ready within {seconds:g} s; the logs of: {', '.join(children)}")
        time.sleep(0.05)


def answers(port: int, path: str) -> bool:
    """Return whether a path is answered with 200."""
    try:
        return http1.call(port, "GET", path)[0] == 200
    except (OSError, http1.LoadFailed):
        return False


def warm(
    stage: Stage, running: Running, numbers: Iterator[str], *, sends: bool, connections: int = 8
) -> None:
    """Ask for codes until all threads have connections and caches are full; wait until they were sent."""
    http1.closed(running.port, map(running.post, numbers), connections=connections, seconds=1.5)
    if sends:
        sent_all(stage, running)


def sent_all(stage: Stage, running: Running, *, seconds: float = 120) -> None:
    """Wait until the provider is asked for no more codes."""
    seen = {"sent": -1, "since": time.monotonic()}

    def quiet() -> bool:
        sent, now = stage.counts()["sent"], time.monotonic()
        if sent != seen["sent"]:
            seen.update(sent=sent, since=now)
        return sent > 0 and now - seen["since"] > 1

    until(quiet, running.children, seconds=seconds)


def signal_families(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes and all that they started."""
    for pid in pids:
        for one in family(pid):
            with suppress(ProcessLookupError):
                os.kill(one, number)


def rows(url: str, statement: str) -> list[tuple[object, ...]]:
    """Ask Postgres."""
    with psycopg.connect(plain(url), autocommit=True) as connection:
        found = connection.execute(statement.encode())
        return found.fetchall() if found.description else []


def plain(url: str) -> str:
    """Return a database's URL as libpq takes it."""
    return re.sub(r"^postgresql\+psycopg", "postgresql", url)


def name_of(url: str) -> str:
    """Return a database's name."""
    return urlsplit(url).path.lstrip("/")


def moved_to(url: str, port: int) -> str:
    """Return a URL of another port."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition(":")[0]
    return urlunsplit(parts._replace(netloc=f"{host}:{port}"))


def clean_environment() -> dict[str, str]:
    """Return our environment without what would set otpqueue up otherwise."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_UNWANTED)}
