"""Calls of the API as a caller makes them: in this process for most tests, over granian for some."""

from __future__ import annotations

import itertools
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import falcon.testing
import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.api.app import App, create_app
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.api import contract
from tests.api.serving import Served, free_port, parts_of, serving, settings_over_a_database
from tests.conftest import Engines, Provider
from tests.pooled import IdleEngines

Result = falcon.testing.Result


class Caller:
    """A caller of an API in this process: a client of its own, a number of its own, a key for all scopes.

    Every answer is held against the contract.
    """

    def __init__(self, parts: Parts, provider: Provider, *, app: App | None = None) -> None:
        self.parts, self.provider = parts, provider
        self.client = f"client-{uuid4().hex}"
        self.key: str | None = self.new_key("send", "verify")
        self.client_id = parts.keys.client_id(self.client, now=clock.now())
        self.number = next(_NUMBERS)
        self.app = app or create_app(parts)
        self._client = falcon.testing.TestClient(self.app)

    def over(self, parts: Parts) -> Caller:
        """Return the same caller, with the same key, of an API over other parts."""
        other = copy(self)
        other.parts, other.app = parts, create_app(parts)
        other._client = falcon.testing.TestClient(other.app)
        return other

    def new_key(self, *scopes: str, client: str | None = None) -> str:
        """Return a fresh key with these scopes, of this caller's client unless another is named."""
        return self.parts.keys.create(client=client or self.client, scopes=frozenset(scopes), now=clock.now())

    def call(self, method: str, path: str, **kwargs: Any) -> Result:
        """Make one call, with the key if there is one and no other is given."""
        headers = dict(kwargs.pop("headers", {}))
        if self.key is not None:
            headers.setdefault("Authorization", f"Bearer {self.key}")
        answer = self._client.simulate_request(method, path, headers=headers, **kwargs)
        contract.check(method, path, answer.status_code, answer.headers, answer.text)
        return answer

    def get(self, path: str, **kwargs: Any) -> Result:
        """Make a GET."""
        return self.call("GET", path, **kwargs)

    def post(self, path: str, **kwargs: Any) -> Result:
        """Make a POST; `json` is the body as a value, `body` as bytes."""
        return self.call("POST", path, **kwargs)

    def send_bytes(self, path: str, body: bytes | str, **headers: str) -> Result:
        """Post these bytes as JSON."""
        return self.post(path, body=body, headers={"Content-Type": "application/json", **headers})

    def ask(self, **fields: Any) -> str:
        """Ask for a code, for the caller's number unless another is given; return the request's path."""
        answer = self.post("/v1/otp-requests", json={"phone_number": self.number, **fields})
        assert answer.status_code == 202, answer.text
        return str(answer.headers["Location"])

    def sent(self, **fields: Any) -> tuple[str, str]:
        """Ask for a code for the caller's number, send it, and return the request's path and the code."""
        path = self.ask(**fields)
        self.parts.pump.run()
        return path, self.provider.code(self.number)

    def verify(self, path: str, code: object, **fields: Any) -> Result:
        """Check a code."""
        return self.post(f"{path}/verify", json={"code": code, **fields})

    def become(self, path: str, columns: str) -> None:
        """Set columns of the request's row: time passes for it, or a receipt comes in."""
        statement = f"UPDATE otp_requests SET {columns}, updated_at = now() WHERE id = :id"
        self.execute(statement, id=path.rpartition("/")[2])

    def execute(self, statement: str, **values: Any) -> list[Any]:
        """Run a statement and return its rows, if it has any."""
        with connection(self.parts.engine) as conn:
            result = conn.execute(text(statement), values)
            return list(result.all()) if result.returns_rows else []

    def stored(self, table: str, columns: str = "*") -> list[Any]:
        """Return the rows of this caller's client in a table."""
        statement = f"SELECT {columns} FROM {table} WHERE client_id = :client_id"
        return self.execute(statement, client_id=self.client_id)


_NUMBERS = (f"+447700900{last:03}" for last in itertools.cycle(range(300, 770)))
"""No test names one of these itself: no request that another test has left due is for a caller's number."""


def wrong(code: str) -> str:
    """Return a code that is not this one."""
    return f"{(int(code) + 1) % 1_000_000:06}"


MakeCaller = Callable[..., Caller]
MakeOtherParts = Callable[..., Parts]


@pytest.fixture(scope="module")
def module_settings(engines: Engines, _simulator: str) -> Iterator[dict[str, str]]:
    """Yield settings over a database that the tests of a module share, with a simulator that is emptied."""
    with closing(Provider(_simulator)) as provider:
        provider.reset()
    with settings_over_a_database(engines, provider_url=_simulator) as settings:
        yield settings


@pytest.fixture(scope="module")
def module_parts(module_settings: dict[str, str]) -> Iterator[Parts]:
    """Yield parts that the tests of a module share: a database for each would cost more than the tests."""
    with parts_of(module_settings) as parts:
        parts.provision(parts.transport, now=clock.now())
        yield parts


@pytest.fixture(scope="module")
def module_provider(_simulator: str) -> Iterator[Provider]:
    """Yield the simulator."""
    provider = Provider(_simulator)
    yield provider
    provider.close()


@pytest.fixture(scope="module")
def module_app(module_parts: Parts) -> App:
    """Return the API that the tests of a module share."""
    return create_app(module_parts)


@pytest.fixture
def caller(module_parts: Parts, module_app: App, module_provider: Provider) -> Iterator[Caller]:
    """Yield a caller: a fresh client, whose requests no other test sees."""
    yield Caller(module_parts, module_provider, app=module_app)
    module_provider.clear_faults()


@pytest.fixture(scope="module")
def module_idle_engines(module_settings: dict[str, str]) -> Iterator[IdleEngines]:
    """Yield the engines over the module's database that no test uses."""
    with closing(IdleEngines()) as idle:
        yield idle


@pytest.fixture
def make_other_parts(
    module_settings: dict[str, str], module_idle_engines: IdleEngines
) -> Iterator[MakeOtherParts]:
    """Yield a function that wires parts over the module's database with settings that differ."""
    with ExitStack() as stack:
        yield lambda **differing: stack.enter_context(
            parts_of(module_settings | differing, idle=module_idle_engines)
        )


@pytest.fixture
def make_caller(
    make_other_parts: MakeOtherParts, module_parts: Parts, module_provider: Provider
) -> Iterator[MakeCaller]:
    """Yield a function that wires an API with settings that differ, and a caller of it."""

    def make(**differing: str) -> Caller:
        parts = make_other_parts(**differing)
        if parts.provision != replace(module_parts.provision, engine=parts.engine):
            parts.provision(parts.transport, now=clock.now())
        return Caller(parts, module_provider)

    yield make
    module_provider.clear_faults()


@pytest.fixture
def lonely(engines: Engines, module_provider: Provider) -> Iterator[Caller]:
    """Yield a caller over a database of its own, which a test may break."""
    with (
        settings_over_a_database(engines, provider_url=module_provider.url) as settings,
        parts_of(settings) as parts,
    ):
        parts.provision(parts.transport, now=clock.now())
        yield Caller(parts, module_provider)


@pytest.fixture
def nowhere() -> str:
    """Return an address on this machine where nobody listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def served(module_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield an API served by granian, which the tests of a module share; each uses numbers of its own."""
    folder: Path = tmp_path_factory.mktemp("served")
    with serving(module_settings, folder) as running:
        yield running


@pytest.fixture
def hung() -> Iterator[int]:
    """Yield a port that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]
