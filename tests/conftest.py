"""Real parts for every test: one Postgres and one Valkey a run, a database of its own for each test.

Environment variables that would change the settings are removed before anything reads them.
"""

from __future__ import annotations

import base64
import gc
import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
import redis
import requests
import structlog
from sqlalchemy import Engine

from otpqueue import clock
from otpqueue.domain.limits import LIMITS
from otpqueue.domain.request import OtpRequest
from otpqueue.domain.templates import ProviderIds
from otpqueue.embedded import EngineHome, Postgres, Valkey
from otpqueue.operations.request import RequestedCode
from otpqueue.settings import load
from otpqueue.simulator.options import Options
from otpqueue.simulator.server import RunningSimulator, running
from otpqueue.store import clients, migrate, provider_ids
from otpqueue.store.engine import connection, make_engine
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts
from tests import leaks
from tests.emptying import empty_tables
from tests.pooled import IdleEngines, PooledParts
from tests.provisionings import Provisionings

for _name in [name for name in os.environ if name.startswith(("OTPQUEUE_", "INFOBIP_", "INDIA_", "PG"))]:
    del os.environ[_name]
for _name in ("DATABASE_URL", "REDIS_URL", "PORT"):
    os.environ.pop(_name, None)

# Bytecode of tests is written even if the environment forbids it: three processes compile them otherwise.
sys.dont_write_bytecode = False

INFOBIP_KEY = "test-infobip-key"
NUMBER = "+447700900123"
TEMPLATE = "template_otpqueue"
NO_LIMITS = {limit.setting: "off" for limit in LIMITS.values()}
"""For tests whose subject is something else, and that ask more often than a person would."""

NO_CHROMIUM = "Chromium and chromedriver are not installed: NOBODY HAS LOOKED AT THE CONSOLE IN A BROWSER"
NO_NODE = "Node.js is not installed: THE JAVASCRIPT LIBRARY AND EXAMPLES HAVE NOT RUN"
NO_EXPRESS = "npm cannot install Express: THE EXPRESS EXAMPLE HAS NOT RUN"
NO_GENERATOR = "A generator is not installed: NO CLIENT WAS GENERATED FROM THE OPENAPI DOCUMENT"

_WARNINGS = {
    NO_CHROMIUM: "Install them: apt-get install chromium chromium-driver",
    NO_NODE: "Install it: apt-get install nodejs npm",
    NO_EXPRESS: "Check that npm reaches its registry.",
    NO_GENERATOR: "Install them: pip install -e '.[generators]' and npm ci --prefix tests/generated",
}


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Report skipped tests of a whole kind loudly: a line among many skipped tests is overlooked."""
    for reason, remedy in _WARNINGS.items():
        skipped = [one for one in terminalreporter.stats.get("skipped", ()) if reason in str(one.longrepr)]
        if skipped:
            terminalreporter.section("WARNING", sep="=", red=True, bold=True)
            terminalreporter.line(f"{len(skipped)} tests were skipped. {reason}.", red=True)
            terminalreporter.line(remedy, red=True)


_LONG = ("faults", "browser", "system", "worker", "docs")
"""Folders of few tests that take long: begun first, they are not what all others are waited with for."""


def pytest_collection(session: pytest.Session) -> None:
    """Import a share of the test modules before all are collected, so that others find them compiled.

    Every process collects every test, and compiling tests takes longer than importing them.
    """
    worker = getattr(session.config, "workerinput", None)
    if worker and session.config.args == session.config.getini("testpaths"):
        root = session.config.rootpath
        number, count = int(worker["workerid"].removeprefix("gw")), worker["workercount"]
        for path in sorted(root.glob("tests/**/test_*.py"))[number::count]:
            # Collecting imports the module again, and reports what is wrong with it.
            with suppress(Exception, pytest.skip.Exception):
                importlib.import_module(".".join(path.relative_to(root).with_suffix("").parts))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes long; files are handed out in that order."""
    items.sort(key=lambda item: item.path.parent.name not in _LONG)


def pytest_collection_finish() -> None:
    """Have the garbage collector pass over the tests and modules, which stay until the end."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


@dataclass(frozen=True)
class Engines:
    """The servers of this run."""

    postgres: Postgres
    valkey: Valkey


@pytest.fixture(autouse=True)
def records_as_they_were() -> Iterator[None]:
    """Undo what a command in this process has set up for its records: the next test looks for its own."""
    hooks = sys.excepthook, threading.excepthook
    yield
    if structlog.is_configured():
        logs.reset_logs()
        root = logging.getLogger()
        root.handlers[:] = [one for one in root.handlers if type(one).__module__ != "otpqueue.telemetry.logs"]
        root.setLevel(logging.WARNING)
        sys.excepthook, threading.excepthook = hooks


@pytest.fixture(scope="session")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """Start both engines once a run, and migrate the database that tests are copied from."""
    with (
        EngineHome(tmp_path_factory.mktemp("engines")) as home,
        Postgres(home.path / "postgres", durable=False) as postgres,
        Valkey(home.path / "valkey", durable=False) as valkey,
    ):
        engine = make_engine(postgres.create_database(TEMPLATE), pool_size=2)
        migrate.upgrade(engine)
        with engine.connect() as conn:
            # Deriving a key by 4096 rounds is most of what a connection costs; tests make thousands.
            conn.exec_driver_sql("SET scram_iterations = 1")
            conn.exec_driver_sql(f"ALTER ROLE {engine.url.username} PASSWORD '{engine.url.password}'")
        engine.dispose()
        yield Engines(postgres, valkey)


@pytest.fixture
def database_url(engines: Engines) -> Iterator[str]:
    """Yield a fresh, migrated database; whatever a test does, nothing secret stands in it in clear."""
    name = f"test_{uuid4().hex}"
    url = engines.postgres.create_database(name, template=TEMPLATE)
    yield url
    found = leaks.in_clear(leaks.every_row(url))
    engines.postgres.drop_database(name)
    assert found == []


@pytest.fixture(scope="session")
def shared_database(engines: Engines) -> Iterator[Engine]:
    """Yield a migrated database for tests that empty it before they begin."""
    engine = make_engine(engines.postgres.create_database("shared", template=TEMPLATE), pool_size=2)
    yield engine
    engine.dispose()
    engines.postgres.drop_database("shared")


@pytest.fixture
def emptied_database_url(shared_database: Engine) -> Iterator[str]:
    """Yield the shared database, emptied; whatever a test does, nothing secret stands in it in clear."""
    with connection(shared_database) as conn:
        empty_tables(conn)
    yield shared_database.url.render_as_string(hide_password=False)
    with connection(shared_database) as conn:
        assert leaks.in_clear(leaks.copy_rows(conn.connection.driver_connection)) == []


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """Yield a Valkey that the test may stop."""
    with EngineHome(tmp_path / "own") as home, Valkey(home.path / "valkey", durable=False) as valkey:
        yield valkey


@pytest.fixture(scope="session")
def _shared_redis(engines: Engines) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(engines.valkey.url) as client:
        yield client


@pytest.fixture
def redis_url(engines: Engines, _shared_redis: redis.Redis) -> Iterator[str]:
    """Yield an empty Redis; whatever a test does, nothing secret is kept in it."""
    _shared_redis.flushall()
    yield engines.valkey.url
    assert leaks.in_clear(leaks.dump_keys(_shared_redis)) == []


class Provider:
    """The simulator as tests see it, over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"App {INFOBIP_KEY}"

    def call(self, method: str, path: str, **kwargs: Any) -> requests.Response:
        """Make one call with the right key."""
        return self._session.request(method, self.url + path, timeout=10, **kwargs)

    def messages(self, number: str | None = None) -> list[dict[str, Any]]:
        """Return what was sent (to one number), newest first."""
        query = {"to": number.removeprefix("+")} if number else {}
        answer = self.call("GET", "/_simulator/messages", params=query)
        found: list[dict[str, Any]] = answer.json()["messages"]
        return found

    def code(self, number: str = NUMBER) -> str:
        """Return the code that was sent last to a number."""
        return str(self.messages(number)[0]["pin"])

    def fault(self, **fault: Any) -> None:
        """Order a fault; `match` is empty unless given."""
        answer = self.call("POST", "/_simulator/faults", json={"match": {}, **fault})
        assert answer.status_code == 201, answer.text

    def clear_faults(self) -> None:
        """Take all faults back."""
        self.call("DELETE", "/_simulator/faults")

    def reset(self) -> None:
        """Forget everything."""
        self.call("POST", "/_simulator/reset")

    def close(self) -> None:
        """Close the connections."""
        self._session.close()


@pytest.fixture(scope="session")
def _running_simulator() -> Iterator[RunningSimulator]:
    with running(Options(api_keys=(INFOBIP_KEY,))) as simulator:
        yield simulator


@pytest.fixture(scope="session")
def _simulator(_running_simulator: RunningSimulator) -> str:
    return _running_simulator.url


@pytest.fixture(scope="session")
def _provider(_simulator: str) -> Iterator[Provider]:
    with closing(Provider(_simulator)) as provider:
        yield provider


@pytest.fixture
def provider(_provider: Provider) -> Provider:
    """Return the simulator, emptied."""
    _provider.reset()
    return _provider


@pytest.fixture
def environment(database_url: str, redis_url: str, provider: Provider) -> dict[str, str]:
    """Return an environment in which every part can run, with a lease and time-outs short enough to watch."""
    return {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "INFOBIP_BASE_URL": provider.url,
        "INFOBIP_API_KEY": INFOBIP_KEY,
        "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
        "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
        "OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS": "true",
        "OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S": "1",
        "OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S": "1",
        "OTPQUEUE_TUNING_SEND_LEASE_S": "2",
        "OTPQUEUE_TUNING_CHECK_LEASE_S": "2",
        "OTPQUEUE_TUNING_BACKOFF_BASE_S": "0.05",
        "OTPQUEUE_TUNING_BACKOFF_MAX_S": "0.2",
        "OTPQUEUE_TUNING_CIRCUIT_PAUSE_S": "0.05",
        "OTPQUEUE_TUNING_CIRCUIT_PAUSE_MAX_S": "0.1",
        "OTPQUEUE_SENDER_THREADS": "8",
        # A change is seen by the next call; tests of the cache set it.
        "OTPQUEUE_TUNING_ACCESS_CACHE_S": "0",
        "OTPQUEUE_API_PROCESSES": "1",
        # Tests that call a pump want it to return when all is sent.
        "OTPQUEUE_TUNING_JOB_LINGER_S": "0",
    }


MakeParts = Callable[..., Parts]


@pytest.fixture(scope="session")
def _idle_engines(engines: Engines) -> Iterator[IdleEngines]:
    with closing(IdleEngines()) as idle:
        yield idle


@pytest.fixture
def make_parts(environment: dict[str, str], _idle_engines: IdleEngines) -> Iterator[MakeParts]:
    """Yield a function that wires parts; keyword arguments are environment variables that differ."""
    made: list[Parts] = []

    def make(**differing: str) -> Parts:
        parts = PooledParts(load(environment | differing, dotenv=None), idle=_idle_engines)
        made.append(parts)
        return parts

    yield make
    for parts in made:
        parts.close()


@pytest.fixture(scope="session")
def _provisionings(_running_simulator: RunningSimulator) -> Provisionings:
    return Provisionings(_running_simulator)


@pytest.fixture
def parts(make_parts: MakeParts, _provisionings: Provisionings) -> Parts:
    """Return wired and provisioned parts; provisioning has more time than what tests look at."""
    parts = make_parts()
    if not _provisionings.repeat(parts):
        patient = make_parts(
            OTPQUEUE_TUNING_PROVIDER_CONNECT_TIMEOUT_S="15",
            OTPQUEUE_TUNING_PROVIDER_TIMEOUT_S="15",
            OTPQUEUE_TUNING_SEND_LEASE_S="60",
            OTPQUEUE_TUNING_CHECK_LEASE_S="60",
        )
        _provisionings.provision(patient)
    return parts


@pytest.fixture
def client_id(parts: Parts) -> UUID:
    """Return a client."""
    with connection(parts.engine) as conn:
        return clients.ensure_client(conn, "test", now=clock.now())


def forget_template(parts: Parts, language: str) -> None:
    """Have sends in a language name a template that the provider does not know, as after a deletion."""
    ids, provision = parts.provision.ids(), parts.provision
    assert ids is not None
    lost = ProviderIds(ids.application_id, {**ids.message_ids, language: "DELETED"})
    with connection(parts.engine) as conn:
        provider_ids.store_ids(
            conn,
            lost,
            base_url=provision.base_url,
            application_name=provision.wanted.application_name,
            now=clock.now(),
        )


Ask = Callable[..., OtpRequest]


@pytest.fixture
def ask(parts: Parts, client_id: UUID) -> Ask:
    """Return a function that asks for a code, by default for NUMBER."""

    def ask(phone_number: str = NUMBER, **wanted: Any) -> OtpRequest:
        return parts.request(
            RequestedCode(phone_number=phone_number, **wanted), client_id=client_id, now=clock.now()
        )

    return ask


@pytest.fixture
def project() -> Path:
    """Return the project's folder."""
    return Path(__file__).resolve().parent.parent
