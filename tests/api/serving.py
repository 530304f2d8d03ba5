"""The API as it is served: `otpqueue api` as a process of its own."""

from __future__ import annotations

import base64
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import requests

from otpqueue import clock
from otpqueue.settings import load
from otpqueue.wiring import Parts
from tests import leaks
from tests.api import contract
from tests.conftest import INFOBIP_KEY, NUMBER, TEMPLATE, Engines, Provider
from tests.pooled import IdleEngines, PooledParts
from tests.preloaded import otpqueue_process


@dataclass(frozen=True)
class Served:
    """A running API, its parts as a worker next to it has them, and a key."""

    url: str
    key: str
    parts: Parts
    provider: Provider
    log: Path
    verify: bool | str = True

    def call(self, method: str, path: str, *, checked: bool = True, **kwargs: Any) -> requests.Response:
        """Make one call with the key unless told otherwise, and hold the answer against the contract."""
        headers = {"Authorization": f"Bearer {self.key}", **kwargs.pop("headers", {})}
        answer = requests.request(
            method, self.url + path, headers=headers, timeout=30, verify=self.verify, **kwargs
        )
        if checked:
            contract.check(method, path, answer.status_code, answer.headers, answer.text)
        return answer

    def ask(self, phone_number: str = NUMBER, **fields: Any) -> dict[str, Any]:
        """Ask for a code."""
        answer = self.call("POST", "/v1/otp-requests", json={"phone_number": phone_number, **fields})
        assert answer.status_code == 202, answer.text
        accepted: dict[str, Any] = answer.json()
        return accepted

    def sent(self, phone_number: str = NUMBER, **fields: Any) -> tuple[str, str]:
        """Ask for a code, send it, and return the path of the request and the code."""
        accepted = self.ask(phone_number, **fields)
        self.parts.pump.run()
        return f"/v1/otp-requests/{accepted['id']}", self.provider.code(phone_number)

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return what the server has logged under a name."""
        lines = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in lines if line.get("event") == event]


@contextmanager
def settings_over_a_database(engines: Engines, *, provider_url: str) -> Iterator[dict[str, str]]:
    """Make a migrated database, yield the settings of what runs over it, and drop it again."""
    name = f"test_{uuid4().hex}"
    url = engines.postgres.create_database(name, template=TEMPLATE)
    yield {
        "DATABASE_URL": url,
        "REDIS_URL": engines.valkey.url,
        "INFOBIP_BASE_URL": provider_url,
        "INFOBIP_API_KEY": INFOBIP_KEY,
        "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
        # Redis is shared: with a key of its own nobody else's counts are in the way.
        "OTPQUEUE_HASH_KEY": base64.b64encode(sha256(name.encode()).digest()).decode(),
        "OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS": "true",
        # Tests call as quickly as they can, many at once, and the machine may be busy.
        "OTPQUEUE_LIMIT_KEY_RATE": "off",
        # A change is seen by the next call; tests of the cache set it.
        "OTPQUEUE_TUNING_ACCESS_CACHE_S": "0",
        "OTPQUEUE_API_PROCESSES": "1",
        "OTPQUEUE_TUNING_API_QUEUE_MS": "10000",
        # A pump that a test calls returns when all is sent.
        "OTPQUEUE_TUNING_JOB_LINGER_S": "0",
    }
    found = leaks.in_clear(leaks.every_row(url) + leaks.every_key(engines.valkey.url))
    engines.postgres.drop_database(name)
    assert found == []


def free_port() -> int:
    """Return a port that nobody listens on."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextmanager
def parts_of(settings: Mapping[str, str], *, idle: IdleEngines | None = None) -> Iterator[Parts]:
    """Wire parts and close what they opened when the block ends, except engines if idle ones are kept."""
    loaded = load(settings, dotenv=None)
    parts = Parts(loaded) if idle is None else PooledParts(loaded, idle=idle)
    try:
        yield parts
    finally:
        parts.close()


@contextmanager
def serving(settings: Mapping[str, str], folder: Path, *, authority: Path | None = None) -> Iterator[Served]:
    """Serve the API over a migrated database until the block ends.

    With an `authority`, the file of a certificate that is to be trusted, it is called by HTTPS.
    """
    port, log = free_port(), folder / "api.log"
    url = f"http://127.0.0.1:{port}" if authority is None else f"https://localhost:{port}"
    verify = True if authority is None else str(authority)
    provider = Provider(settings["INFOBIP_BASE_URL"])
    child = otpqueue_process(
        "api",
        ["api", "--port", str(port)],
        ready=lambda: requests.get(f"{url}/health/live", timeout=1, verify=verify).raise_for_status(),
        env={**os.environ, **settings},
        log=log,
        cwd=folder,
    )
    with parts_of(settings) as parts, closing(provider):
        parts.provision(parts.transport, now=clock.now())
        key = parts.keys.create(client="served", scopes=frozenset({"send", "verify"}), now=clock.now())
        try:
            child.start()
            child.wait_ready(30)
            yield Served(url, key, parts, provider, log, verify)
        finally:
            child.stop()
