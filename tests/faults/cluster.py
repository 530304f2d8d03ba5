"""The whole system as real processes that can be killed, paused and restarted, on fixed ports.

    with Cluster(folder, apis=2, senders=2, settings={"OTPQUEUE_TUNING_SWEEP_EVERY_S": "1"}) as cluster:
        answer = cluster.call("POST", "/v1/otp-requests", {"phone_number": "+447400000001"})
        cluster.kill("send-1")
        cluster.start("send-1")
        cluster.rows("SELECT status FROM otp_requests WHERE id = %s", answer.body["id"])

Nodes are called `api-1`, `send-1`, `periodic-1`, `beat-1` and so on, `simulator`, `postgres`, `redis`. Start
and stop them on the main thread only (`otpqueue.embedded.ChildProcess` says why); all else is thread-safe.
"""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row
from redis import Redis
from redis.exceptions import RedisError

from otpqueue import clock
from otpqueue.broker import connect_redis
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import ChildProcess, EngineHome, Postgres, Valkey
from otpqueue.embedded.engine import Engine
from otpqueue.embedded.home import free_port
from otpqueue.embedded.process import bare_environment
from otpqueue.settings import load
from otpqueue.store.migrate import upgrade
from otpqueue.wiring import Parts
from tests.faults import web
from tests.preloaded import otpqueue_process

PROJECT = Path(__file__).resolve().parents[2]
INFOBIP_KEY = "cluster-infobip-key"
RECEIPTS_LOGIN = ("infobip", "reports")
READY_WITHIN_S = 60.0

UNLIMITED: Mapping[str, str] = {
    # A few callers exceed the limits and guess codes, also while Redis is down.
    **dict.fromkeys((limit.setting for limit in LIMITS.values()), "off"),
    "OTPQUEUE_WRONG_CODES_NUMBER": "off",
    "OTPQUEUE_WRONG_CODES_CLIENT_IP": "off",
    "OTPQUEUE_DAILY_CAP": "none",
    "OTPQUEUE_GUARD": "off",
}
"""Without limits, caps and the pumping guard: for scenarios with many requests per number."""

NUMBER_QUOTA = 20
LIMITED: Mapping[str, str] = {
    "OTPQUEUE_LIMIT_NUMBER_15M": f"{NUMBER_QUOTA}/15m",
    "OTPQUEUE_LIMIT_NUMBER_DAY": "100/d",
    "OTPQUEUE_LIMIT_NUMBER_DAY_ALL": "200/d",
    "OTPQUEUE_LIMIT_CLIENT_IP_15M": "1000/15m",
    "OTPQUEUE_LIMIT_KEY_RATE": "2000/s",
    "OTPQUEUE_WRONG_CODES_NUMBER": "50/h",
    "OTPQUEUE_WRONG_CODES_CLIENT_IP": "1000/h",
    "OTPQUEUE_DAILY_CAP": "100000",
    "OTPQUEUE_DAILY_CAP_PER_CLIENT": "50000",
    "OTPQUEUE_GUARD": "enforce",
    "OTPQUEUE_TUNING_GUARD_BLOCK_FLOOR": "100000",
}
"""Limits, caps and the guard, but with wide values: only greedy callers reach a limit."""

SETTINGS: Mapping[str, str] = {
    # As in production, except for shorter times in the same proportions.
    "OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S": "1",
    "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "2",
    "OTPQUEUE_TUNING_SEND_LEASE_S": "6",
    "OTPQUEUE_TUNING_CHECK_LEASE_S": "5",
    "OTPQUEUE_SEND_WITHIN_S": "60",
    "OTPQUEUE_CODE_LIFETIME_S": "120",
    "OTPQUEUE_TUNING_SWEEP_EVERY_S": "1",
    "OTPQUEUE_TUNING_EXPIRE_EVERY_S": "2",
    "OTPQUEUE_TUNING_ROLL_UP_EVERY_S": "1",
    "OTPQUEUE_TUNING_JOB_S": "3",
    "OTPQUEUE_TUNING_BACKOFF_BASE_S": "0.2",
    "OTPQUEUE_TUNING_BACKOFF_MAX_S": "2",
    "OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "0.3",
    "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "2",
    "OTPQUEUE_STOP_WITHIN_S": "4",
    "OTPQUEUE_SENDER_THREADS": "16",
    "OTPQUEUE_API_PROCESSES": "1",
    "OTPQUEUE_API_THREADS": "16",
    "OTPQUEUE_DATABASE_POOL": "10",
    **UNLIMITED,
    "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
    "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
}

REFUSALS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "replica": (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE")),
    "no write permission": (
        ("ACL", "SETUSER", "default", "-@write"),
        ("ACL", "SETUSER", "default", "+@all"),
    ),
    "out of memory": (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
}
"""The commands that make Redis answer with errors, and those that undo it."""

_LOOK_EVERY_S = 0.1


@dataclass
class Outage:
    """An interval in which a node did not work."""

    node: str
    role: str
    how: str
    """`killed`, `terminated`, `paused` or `refusing`; `ended` for a process that ended unexpectedly."""
    pid: int
    began: float
    """Seconds since the epoch, as all times here."""
    ended: float | None = None
    """When its first heartbeat after the fault arrived; None before."""


@dataclass
class _Node:
    role: str
    process: ChildProcess
    ready: Callable[[int, float], bool]
    """Whether the process with this id and start time has sent a heartbeat."""
    started: float = 0.0
    parent_alone: bool = False
    """Whether only its main process was killed: nothing may reap that before its children were counted."""


class ForeignLock:
    """A foreign session that locks rows of requests until it is released."""

    def __init__(self, url: str, count: int) -> None:
        """Lock up to `count` requests that a worker or a check is busy with, or will be soon.

        Raises psycopg.OperationalError while Postgres is down.
        """
        self.began = time.time()
        self._connection = psycopg.connect(url, connect_timeout=3, row_factory=dict_row)
        rows = self._connection.execute(
            "SELECT id FROM otp_requests WHERE finished_at IS NULL "
            "ORDER BY send_state = 'claimed' DESC, send_state = 'due' DESC, created_at DESC "
            "LIMIT %s FOR UPDATE SKIP LOCKED",
            (count,),
        )
        self.requests = tuple(str(row["id"]) for row in rows)

    def release(self) -> float:
        """End the session, and return an upper bound of its end."""
        with suppress(psycopg.Error):
            self._connection.rollback()
        self._connection.close()
        return time.time()


class Simulator:
    """The simulator's own paths; calls wait while it is down. Thread-safe."""

    def __init__(self, url: str) -> None:
        self.url = url

    def messages(self, number: str | None = None) -> list[dict[str, Any]]:
        """Return what was sent (to one number), newest first."""
        query = f"?to={number.removeprefix('+')}" if number else ""
        found: list[dict[str, Any]] = self._call("GET", f"/_simulator/messages{query}").body["messages"]
        return found

    def fault(self, **fault: Any) -> None:
        """Inject a fault, as in docs/simulator.md."""
        assert self._call("POST", "/_simulator/faults", fault).status == 201, fault

    def faults(self) -> list[dict[str, Any]]:
        """Return all injected faults; `used` counts how often each has occurred."""
        found: list[dict[str, Any]] = self._call("GET", "/_simulator/faults").body["faults"]
        return found

    def clear_faults(self) -> None:
        """Remove all faults."""
        self._call("DELETE", "/_simulator/faults")

    def receipts(self, **rule: Any) -> None:
        """Choose the delivery reports of messages to come."""
        assert self._call("POST", "/_simulator/receipts", rule).status == 201, rule

    def _call(self, method: str, path: str, body: object = None) -> web.Answer:
        give_up = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                return web.call(method, self.url + path, body, timeout_s=30)
            except (web.NotConnected, web.NoAnswer):
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.1)


class Cluster:
    """The whole system, as a context manager.

    folder      where data and logs are kept; `folder/logs/NODE.log` is what a node printed
    apis, senders, periodics, beats   how many processes of each kind
    broker_url  Celery's broker, if it is not to be our own Valkey
    settings    settings that differ from SETTINGS, by environment variable; None takes one away
    simulator   more switches of `otpqueue simulator`
    """

    def __init__(
        self,
        folder: Path,
        *,
        apis: int = 2,
        senders: int = 2,
        periodics: int = 1,
        beats: int = 1,
        broker_url: str | None = None,
        settings: Mapping[str, str | None] | None = None,
        simulator: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self._counts = {"api": apis, "send": senders, "periodic": periodics, "beat": beats}
        self._broker_url, self._settings, self._switches = broker_url, settings or {}, simulator
        self._nodes: dict[str, _Node] = {}
        self._api_ports = [free_port() for _ in range(apis)]
        self.api_urls = [f"http://127.0.0.1:{port}" for port in self._api_ports]
        self.simulator = Simulator(f"http://127.0.0.1:{free_port()}")
        self.environment: dict[str, str] = {}
        """What every process gets: settings, and the way to this tree's own code."""
        self.api_key = self.other_api_key = self.flood_api_key = ""
        """Keys with the scopes `send` and `verify`, of three different clients."""
        self.outages: list[Outage] = []
        self.misbehaved: list[str] = []
        """Processes that ended unexpectedly, or outlived their main process."""
        self._stack, self._stopping = ExitStack(), threading.Event()
        self._lock = threading.Lock()

    # Life.

    def __enter__(self) -> Self:
        try:
            self._start_all()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _start_all(self) -> None:
        home = self._stack.enter_context(EngineHome(self.folder / "engines"))
        (self.folder / "logs").mkdir(parents=True, exist_ok=True)
        self._start_simulator()
        self._valkey = Valkey(home.path / "valkey")
        self._postgres = Postgres(home.path / "postgres")
        self._stack.callback(self._stop_processes)
        for engine in (self._valkey, self._postgres):
            self._stack.enter_context(engine)
        self.redis: Redis = connect_redis(self._valkey.url)
        self._stack.callback(self.redis.close)
        self.environment = self._make_environment()
        # The first of the stack to go: who uses the engines.
        self._stack.callback(self._stop_processes)
        self._await(lambda: self._ready("simulator"), "simulator")
        self._prepare()
        for role, count in self._counts.items():
            for index in range(count):
                self._add(role, index)
        self._await(lambda: all(self._ready(name) for name in self._nodes), "every node")
        watcher = threading.Thread(target=self._watch, name="cluster-watch", daemon=True)
        watcher.start()
        self._stack.callback(watcher.join)
        self._stack.callback(self._stopping.set)

    def _make_environment(self) -> dict[str, str]:
        user, password = RECEIPTS_LOGIN
        given: dict[str, str | None] = {
            **SETTINGS,
            "DATABASE_URL": self._postgres.url,
            "REDIS_URL": self._valkey.url,
            "INFOBIP_BASE_URL": self.simulator.url,
            "INFOBIP_API_KEY": INFOBIP_KEY,
            "OTPQUEUE_RECEIPTS_USER": user,
            "OTPQUEUE_RECEIPTS_PASSWORD": password,
            "OTPQUEUE_BROKER_URL": self._broker_url,
            **self._settings,
            # A copy of the tree runs its own code, whatever is installed.
            "PYTHONPATH": str(PROJECT),
            "PYTHONWARNINGS": "ignore:You're running the worker with superuser",
        }
        return bare_environment() | {name: value for name, value in given.items() if value is not None}

    def _prepare(self) -> None:
        given = {
            name: value
            for name, value in self.environment.items()
            if name.startswith(("OTPQUEUE_", "INFOBIP_")) or name in {"DATABASE_URL", "REDIS_URL"}
        }
        parts = Parts(load(given, dotenv=None))
        upgrade(parts.engine)
        parts.provision(parts.transport, now=clock.now())
        both = frozenset({"send", "verify"})
        # The first client: one that always goes by the order of clients would serve the flood first.
        self.flood_api_key = parts.keys.create(client="flood", scopes=both, now=clock.now())
        self.api_key = parts.keys.create(client="caller", scopes=both, now=clock.now())
        self.other_api_key = parts.keys.create(client="stranger", scopes=both, now=clock.now())
        parts.transport.close()
        parts.engine.dispose()

    def _start_simulator(self) -> None:
        user, password = RECEIPTS_LOGIN
        port = self.simulator.url.rpartition(":")[2]
        pushed = [
            f"--receipts-url={self.api_urls[0]}/v1/infobip/receipts",
            f"--receipts-user={user}:{password}",
            "--receipts-retry-scale=0.01",
            # On SIGTERM it writes its messages to disk. On SIGKILL it would lose some.
            f"--state={self.folder / 'simulator.json'}",
        ]
        command = ["simulator", f"--port={port}", f"--api-key={INFOBIP_KEY}", *pushed, *self._switches]
        self._spawn("simulator", "simulator", command, lambda _pid, _at: self._lives(self.simulator.url))

    def _add(self, role: str, index: int) -> None:
        name = f"{role}-{index + 1}"
        if role == "api":
            url = self.api_urls[index]
            command = ["api", f"--port={self._api_ports[index]}"]
            self._spawn(name, role, command, lambda _pid, _at: self._lives(f"{url}/health/live"))
        elif role == "beat":
            self._spawn(name, role, ["beat"], lambda pid, _at: self._shows_life("beat", pid))
        else:
            served = ["--queues=periodic,slow", "--jobs=12"] if role == "periodic" else ["--queues=send"]
            self._spawn(name, role, ["worker", *served], lambda pid, _at: self._shows_life("worker", pid))

    def _spawn(
        self, name: str, role: str, command: Sequence[str], ready: Callable[[int, float], bool]
    ) -> None:
        process = otpqueue_process(
            name,
            command,
            env=self.environment or bare_environment() | {"PYTHONPATH": str(PROJECT)},
            log=self.folder / "logs" / f"{name}.log",
            cwd=self.folder,
        )
        node = _Node(role, process, ready)
        self._nodes[name] = node
        process.start()
        node.started = time.time()

    def _stop_processes(self) -> None:
        left = [node.process for node in self._nodes.values() if node.process.running]
        for process in left:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.kill(process.pid, signal.SIGTERM)
        for process in left:
            with suppress(TimeoutError):
                process.wait(10)
            process.stop(grace=0)

    # What can be done to a node.

    def kill(self, name: str) -> Outage:
        """Kill a node by SIGKILL, its own children with it."""
        outage = self._begin(name, "killed")
        if name in self._engines:
            os.kill(outage.pid, signal.SIGKILL)
            while self._engines[name].running:
                time.sleep(0.01)
        else:
            with suppress(ProcessLookupError):
                os.killpg(outage.pid, signal.SIGKILL)
            self._nodes[name].process.wait(10)
        return outage

    def kill_parent(self, name: str) -> Outage:
        """Kill a node's main process alone, by SIGKILL. Call `count_children` before the next start."""
        self._nodes[name].parent_alone = True
        outage = self._begin(name, "killed")
        with suppress(ProcessLookupError):
            os.kill(outage.pid, signal.SIGKILL)
        return outage

    def count_children(self, name: str) -> None:
        """Note the children that still run though their main process was killed, and end them."""
        pid = self._nodes[name].process.pid
        listed = subprocess.run(
            ["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=True
        )
        rows = [line.split() for line in listed.stdout.splitlines()]
        left = [row[0] for row in rows if row[1] == str(pid) and row[2][0] != "Z" and row[0] != row[1]]
        if left:
            self.misbehaved.append(f"{name}: processes {', '.join(left)} outlived their main process {pid}")
        self._nodes[name].parent_alone = False

    def refuse(self, refusal: str) -> Outage:
        """Have Redis answer with errors; `refusal` is one of REFUSALS. Raises RedisError while it is down."""
        outage = self._begin("redis", "refusing")
        try:
            self.redis.execute_command(*REFUSALS[refusal][0])
        except RedisError:
            self._end("redis", "refusing")
            raise
        return outage

    def obey(self, refusal: str) -> None:
        """Have Redis accept commands again. Raises RedisError while it is down."""
        self.redis.execute_command(*REFUSALS[refusal][1])
        self._end("redis", "refusing")

    def lock_requests(self, count: int) -> ForeignLock:
        """Lock rows of requests from a foreign session. Raises psycopg.OperationalError."""
        return ForeignLock(self._postgres.url.replace("+psycopg", ""), count)

    def terminate(self, name: str) -> Outage:
        """Stop a node gracefully, by SIGTERM. Waits for Postgres and Redis only."""
        outage = self._begin(name, "terminated")
        if name in self._engines:
            self._engines[name].stop()
        else:
            with suppress(ProcessLookupError):
                os.kill(outage.pid, signal.SIGTERM)
        return outage

    def pause(self, name: str) -> Outage:
        """Pause a node's processes (SIGSTOP)."""
        outage = self._begin(name, "paused")
        with suppress(ProcessLookupError):
            os.killpg(outage.pid, signal.SIGSTOP)
        return outage

    def resume(self, name: str) -> None:
        """Resume a paused node (SIGCONT)."""
        with suppress(ProcessLookupError):
            os.killpg(self._nodes[name].process.pid, signal.SIGCONT)
        self._end(name, "paused")

    def start(self, name: str) -> None:
        """Start a stopped node again. Its outage ends with its first heartbeat."""
        if name in self._engines:
            self._engines[name].start()
            self._end(name)
            return
        node = self._nodes[name]
        with suppress(TimeoutError):
            node.process.wait(20)
        node.process.stop(grace=0)
        node.process.start()
        node.started = time.time()

    def restart_ended(self) -> None:
        """Restart the nodes that ended unexpectedly, as a process manager would."""
        with self._lock:
            ended = {one.node for one in self.outages if one.how == "ended" and one.ended is None}
        for name in ended:
            if not self._nodes[name].process.running:
                self.start(name)

    def names(self, role: str) -> list[str]:
        """Return the nodes of a role: `api`, `send`, `periodic`, `beat`, `simulator`, `postgres`, `redis`."""
        if role in self._engines:
            return [role]
        return [name for name, node in self._nodes.items() if node.role == role]

    def pid(self, name: str) -> int:
        """Return the process id of a node, also of one that was killed."""
        return self._engines[name].pid if name in self._engines else self._nodes[name].process.pid

    def log(self, name: str) -> str:
        """Return what a node of ours has printed."""
        return (self.folder / "logs" / f"{name}.log").read_text(errors="replace")

    def whole(self) -> bool:
        """Whether no outage of a node is known."""
        with self._lock:
            return all(outage.ended is not None for outage in self.outages)

    # What a caller or an operator can do.

    def call(
        self, method: str, path: str, body: object = None, *, api: int = 0, key: str | None = None
    ) -> web.Answer:
        """Call an API with our key unless another is given. Raises web.NotConnected or web.NoAnswer."""
        headers = {"Authorization": f"Bearer {key or self.api_key}"}
        return web.call(method, self.api_urls[api] + path, body, headers=headers)

    @property
    def database_url(self) -> str:
        """Postgres, for SQLAlchemy."""
        return self._postgres.url

    def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """Ask Postgres. Raises psycopg.OperationalError while it is down."""
        url = self._postgres.url.replace("+psycopg", "")
        with psycopg.connect(url, connect_timeout=3, row_factory=dict_row) as connection:
            return connection.execute(sql.encode(), values or None).fetchall()

    # How nodes do.

    @property
    def _engines(self) -> Mapping[str, Engine]:
        return {"postgres": self._postgres, "redis": self._valkey}

    def _begin(self, name: str, how: str) -> Outage:
        role = name if name in self._engines else self._nodes[name].role
        outage = Outage(name, role, how, self.pid(name), time.time())
        with self._lock:
            self.outages.append(outage)
        return outage

    def _end(self, name: str, how: str | None = None) -> None:
        with self._lock:
            for outage in self.outages:
                if outage.node == name and outage.ended is None and how in {None, outage.how}:
                    outage.ended = time.time()

    def _watch(self) -> None:
        while not self._stopping.wait(_LOOK_EVERY_S):
            with self._lock:
                down = {one.node for one in self.outages if one.ended is None and one.how != "paused"}
                paused = {one.node for one in self.outages if one.ended is None and one.how == "paused"}
            for name in down - set(self._engines) - paused:
                # A start on the main thread changes pid and time together with nothing of ours in between.
                if not self._nodes[name].parent_alone and self._ready(name) and not self._is_old(name):
                    self._end(name)
            for name, node in self._nodes.items():
                # Asked last: what is struck is noted as an outage before.
                if name not in down | paused and not node.process.running and not self._is_struck(name):
                    self.misbehaved.append(f"{name} ended unexpectedly, exit code {node.process.returncode}")
                    self._begin(name, "ended")

    def _is_struck(self, name: str) -> bool:
        with self._lock:
            return any(one.node == name and one.ended is None for one in self.outages)

    def _is_old(self, name: str) -> bool:
        """Whether the running process is still the one that was stopped: a graceful stop takes time."""
        pid = self.pid(name)
        with self._lock:
            return any(one.node == name and one.ended is None and one.pid == pid for one in self.outages)

    def _ready(self, name: str) -> bool:
        node = self._nodes[name]
        return node.process.running and node.ready(node.process.pid, node.started)

    def _lives(self, url: str) -> bool:
        try:
            return web.call("GET", url, timeout_s=1).status == 200
        except (web.NotConnected, web.NoAnswer):
            return False

    def _shows_life(self, kind: str, pid: int) -> bool:
        sql = "SELECT 1 FROM heartbeats WHERE in_touch AND process LIKE %s"
        try:
            return bool(self.rows(sql, f"{kind}|%:{pid}"))
        except psycopg.OperationalError:
            return False

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not condition():
            for name, node in self._nodes.items():
                if not node.process.running:
                    raise RuntimeError(f"{name} did not start:\n{self.log(name)[-3000:]}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} not ready within {READY_WITHIN_S:g} s")
            time.sleep(0.05)
