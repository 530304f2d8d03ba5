"""More callers than can be served: the excess hears so at once, health answers, and it passes by itself."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import pytest
import requests
import structlog

from otpqueue.store.engine import connection
from tests.api.conftest import Caller, MakeCaller
from tests.api.serving import Served, serving, settings_over_a_database
from tests.conftest import NO_LIMITS, Engines

ASK = "/v1/otp-requests"
PLACES = 8
POOL = 3


@pytest.fixture(scope="module")
def small(engines: Engines, _simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield an API with eight places and a pool of three, over a database of its own."""
    with settings_over_a_database(engines, provider_url=_simulator) as settings:
        few = {
            "OTPQUEUE_API_THREADS": str(PLACES),
            "OTPQUEUE_DATABASE_POOL": str(POOL),
            "OTPQUEUE_DATABASE_WAIT_S": "1",
            "OTPQUEUE_DATABASE_LOCK_TIMEOUT_S": "10",
            "OTPQUEUE_DATABASE_STATEMENT_TIMEOUT_S": "15",
        }
        with serving(settings | few | NO_LIMITS, tmp_path_factory.mktemp("small")) as served:
            yield served


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    """Yield more callers than there are places."""
    with ThreadPoolExecutor(10 * PLACES) as threads:
        yield threads


Answers = list["Future[requests.Response]"]


def kinds(answers: Answers) -> Counter[tuple[int, str | None]]:
    """Count the answers by status and code; every 503 must say when to try again."""
    found = [answer.result(60) for answer in answers]
    assert all(int(one.headers["Retry-After"]) >= 1 for one in found if one.status_code == 503)
    return Counter((one.status_code, one.json().get("code")) for one in found)


def done(answers: Answers) -> int:
    """Return how many have been answered."""
    return sum(answer.done() for answer in answers)


@contextmanager
def locked_out(served: Served) -> Iterator[None]:
    """Let nobody read or write requests; the rest of the database is as it was."""
    with served.parts.engine.connect() as conn:
        conn.execution_options(isolation_level="READ COMMITTED")
        with conn.begin():
            conn.exec_driver_sql("LOCK TABLE otp_requests IN ACCESS EXCLUSIVE MODE")
            yield


def test_many_probes(small: Served, callers: ThreadPoolExecutor) -> None:
    """However many ask at once how everything is, nobody is told that it is ill."""
    answers = list(callers.map(lambda _: small.call("GET", "/health"), range(20 * PLACES)))

    assert {(answer.status_code, answer.json()["database"]) for answer in answers} == {(200, "connected")}


def test_checks_that_take_long(small: Served, callers: ThreadPoolExecutor) -> None:
    """A slow provider may hold half of the places; more checks are refused, all else goes on."""
    count = 5 * PLACES
    codes = [small.sent(f"+4477009001{i:02}") for i in range(count)]
    small.provider.fault(match={"path": "*/verify"}, latency_ms=4000)
    try:
        checks: Answers = [
            callers.submit(small.call, "POST", f"{path}/verify", json={"code": code}) for path, code in codes
        ]
        while done(checks) < count // 2:
            assert small.call("GET", "/health").status_code == 200
        ask = {"phone_number": "+447700900199"}
        while_slow = [small.call("GET", "/health"), small.call("POST", ASK, json=ask)]
        # The checks that are being refused have a place each, for as long as that takes.
        while while_slow[1].status_code == 503 and done(checks) < count:
            while_slow[1] = small.call("POST", ASK, json=ask)
        assert done(checks) < count

        answers = kinds(checks)
    finally:
        small.provider.clear_faults()

    assert [answer.status_code for answer in while_slow] == [200, 202]
    assert set(answers) == {(200, None), (503, "too_busy")}
    assert answers[200, None] >= PLACES // 2


@pytest.mark.parametrize(
    ("path", "body"),
    [(ASK, {"phone_number": "+447700900202"}), ("/request-otp", {"phoneNumber": "+447700900203"})],
)
def test_burst_while_all_places_are_taken(
    small: Served, callers: ThreadPoolExecutor, path: str, body: dict[str, str]
) -> None:
    """With all places waiting for Postgres the rest of a burst is refused, in the call's own words."""
    with locked_out(small):
        burst: Answers = [callers.submit(small.call, "POST", path, json=body) for _ in range(10 * PLACES)]
        while done(burst) < 8 * PLACES:
            health = small.call("GET", "/health")
            assert (health.status_code, health.json()["database"]) == (200, "connected")
        refused = Counter(one.result().json()["code"] for one in burst if one.done())
        assert done(burst) < len(burst)

    answers = kinds(burst)

    assert refused["too_busy"] >= 6 * PLACES
    assert set(answers) <= {(202, None), (503, "too_busy"), (503, "database_unavailable")}
    assert answers[202, None] >= POOL
    assert small.call("POST", path, json=body).status_code == 202


def test_pool_that_is_empty(small: Served, callers: ThreadPoolExecutor) -> None:
    """Who finds no connection in time is told while others still wait for a lock; then all is as before."""
    ask = {"phone_number": "+447700900204"}
    with locked_out(small):
        calls: Answers = [callers.submit(small.call, "POST", ASK, json=ask) for _ in range(PLACES)]
        while done(calls) < PLACES - POOL:
            health = small.call("GET", "/health")
            assert (health.status_code, health.json()["database"]) == (200, "connected")
        told = kinds([call for call in calls if call.done()])
        assert done(calls) < PLACES

    assert set(told) == {(503, "database_unavailable")}
    assert kinds(calls)[202, None] == POOL
    assert small.call("POST", ASK, json=ask).status_code == 202


def test_idle_connections(small: Served) -> None:
    """Connections that a load balancer keeps open, many more than there are places, keep nobody out."""
    address = urlsplit(small.url)
    with ExitStack() as stack:
        for _ in range(20 * PLACES):
            idle = stack.enter_context(socket.create_connection((address.hostname, address.port), timeout=20))
            idle.sendall(b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert idle.recv(65536).startswith(b"HTTP/1.1 200")

        assert small.call("GET", "/health").status_code == 200
        assert small.call("POST", ASK, json={"phone_number": "+447700900205"}).status_code == 202


def test_places_are_given_back(make_caller: MakeCaller) -> None:
    """Whatever becomes of a call, its place is free after it: a refusal, a bug, a wrong path."""
    caller = make_caller(OTPQUEUE_API_THREADS=str(PLACES))
    path = caller.ask()
    for _ in range(2 * PLACES):
        refusals = [
            caller.get(f"{ASK}/{path[-4:]}"),
            caller.send_bytes(ASK, b"{"),
            caller.get("/nowhere"),
            caller.call("DELETE", ASK),
            caller.post("/request-otp", json={}),
            caller.post(ASK, json={"phone_number": caller.number}, headers={"Authorization": "Bearer x"}),
        ]
        assert [one.status_code for one in refusals] == [404, 400, 404, 405, 400, 401]
    with structlog.testing.capture_logs():  # to draw a traceback takes longer than all else
        assert [_with_a_bug(caller, path) for _ in range(2 * PLACES)] == [500] * 2 * PLACES

    assert caller.get(path).status_code == 200


def _with_a_bug(caller: Caller, path: str) -> int:
    with connection(caller.parts.engine) as conn:
        conn.exec_driver_sql("ALTER TABLE otp_requests RENAME TO lost")
        try:
            return int(caller.get(path).status_code)
        finally:
            conn.exec_driver_sql("ALTER TABLE lost RENAME TO otp_requests")
