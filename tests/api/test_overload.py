"""More callers than can be served: the excess hears so at once, health answers, and it passes by itself."""

from __future__ import annotations

import re
import socket
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from otpqueue.store.engine import connection
from tests.api.serving import Served, serving, settings_over_a_database
from tests.conftest import NO_LIMITS, Engines
from tests.scraping import scraped

ASK = "/v1/otp-requests"
NIL = "00000000-0000-7000-8000-000000000000"
PLACES = 8
CHECKS, WAITERS = 4 * PLACES, 2 * PLACES
POOL = 3
TOKEN = "a-token-of-prometheus"


@pytest.fixture(scope="module")
def small(engines: Engines, _simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield an API with eight threads and a pool of three, over a database of its own."""
    with settings_over_a_database(engines, provider_url=_simulator) as settings:
        few = {
            "OTPQUEUE_API_THREADS": str(PLACES),
            "OTPQUEUE_TUNING_API_QUEUE_MS": "250",
            "OTPQUEUE_METRICS_TOKEN": TOKEN,
            "OTPQUEUE_DATABASE_POOL": str(POOL),
            "OTPQUEUE_TUNING_DATABASE_WAIT_S": "1",
            "OTPQUEUE_TUNING_DATABASE_LOCK_TIMEOUT_S": "10",
            "OTPQUEUE_TUNING_DATABASE_STATEMENT_TIMEOUT_S": "15",
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
    """A slow provider holds the threads for checks; more checks are refused, all else goes on."""
    count = CHECKS + 2 * PLACES
    codes = [small.sent(f"+4477009001{i:02}") for i in range(count)]
    small.provider.fault(match={"path": "*/verify"}, latency_ms=4000)
    try:
        checks: Answers = [
            callers.submit(small.call, "POST", f"{path}/verify", json={"code": code}) for path, code in codes
        ]
        while done(checks) < PLACES:
            assert small.call("GET", "/health").status_code == 200
        ask = {"phone_number": "+447700900199"}
        while_slow = [small.call("GET", "/health"), small.call("POST", ASK, json=ask)]
        assert done(checks) < count

        answers = kinds(checks)
    finally:
        small.provider.clear_faults()

    assert [answer.status_code for answer in while_slow] == [200, 202]
    assert set(answers) == {(200, None), (503, "too_busy")}
    assert answers[200, None] >= CHECKS // 2


@pytest.mark.parametrize(
    ("path", "body"),
    [(ASK, {"phone_number": "+447700900202"}), ("/request-otp", {"phoneNumber": "+447700900203"})],
)
def test_burst_while_all_slots_are_taken(
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


def test_callers_that_wait(small: Served, callers: ThreadPoolExecutor) -> None:
    """Callers with `wait`, many more than may wait at a time, take no thread of others."""
    path = f"{ASK}/{small.ask('+447700900206')['id']}"
    waiting: Answers = [callers.submit(small.call, "GET", f"{path}?wait=20") for _ in range(3 * WAITERS)]
    while done(waiting) < WAITERS:
        assert small.call("POST", "/request-otp", json={"phoneNumber": "x"}).status_code == 400

    others = [
        small.call("GET", f"{ASK}/{NIL}"),
        small.call("POST", f"{ASK}/{NIL}/verify", json={"code": "1" * 6}),
    ]
    small.call("DELETE", path)

    answers = [answer.result(60) for answer in waiting]
    assert [other.status_code for other in others] == [404, 404]
    assert {answer.status_code for answer in answers} == {200}
    assert Counter(answer.json()["status"] for answer in answers)["cancelled"] >= WAITERS // 2


def test_refusal_comes_at_once(small: Served, callers: ThreadPoolExecutor) -> None:
    """Who cannot be served hears so in a moment, however long the others hold all threads."""

    def ask(_: int) -> tuple[str | None, float]:
        began = time.monotonic()
        answer = small.call("POST", ASK, json={"phone_number": "+447700900207"})
        return answer.json().get("code"), time.monotonic() - began

    with locked_out(small):
        asking = [callers.submit(ask, number) for number in range(4 * PLACES)]
        while sum(call.done() for call in asking) < 2 * PLACES:
            time.sleep(0.01)
    took = [seconds for code, seconds in (call.result(60) for call in asking) if code == "too_busy"]

    assert len(took) >= 2 * PLACES
    assert min(took) < 0.75


def test_metrics_when_all_threads_are_taken(small: Served, callers: ThreadPoolExecutor) -> None:
    """An API that refuses callers is still seen, and so are the refusals."""

    def refused() -> float:
        answer = small.call("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
        assert answer.status_code == 200
        return scraped(answer.text)("otpqueue_http_requests_total", route=ASK, status="503")

    before = refused()
    with locked_out(small):
        burst: Answers = [
            callers.submit(small.call, "POST", ASK, json={"phone_number": "+447700900208"})
            for _ in range(4 * PLACES)
        ]
        while done(burst) < 2 * PLACES:
            refused()
        after = refused()
    kinds(burst)

    assert after - before >= 2 * PLACES


def test_threads_outlive_their_calls(small: Served) -> None:
    """Whatever becomes of a call, its thread answers the next one: a refusal, a bug, a wrong path."""
    path = f"{ASK}/{small.ask('+447700900209')['id']}"
    for _ in range(2 * PLACES):
        refusals = [
            small.call("GET", f"{ASK}/{path[-4:]}"),
            small.call("POST", ASK, data=b"{", headers={"Content-Type": "application/json"}),
            small.call("GET", "/nowhere"),
            small.call("DELETE", ASK),
            small.call("POST", "/request-otp", json={}),
            small.call("POST", ASK, json={}, headers={"Authorization": "Bearer x"}),
        ]
        assert [one.status_code for one in refusals] == [404, 400, 404, 405, 400, 401]
    assert [_with_a_bug(small, path) for _ in range(2 * PLACES)] == [500] * 2 * PLACES

    assert small.call("GET", path).status_code == 200


def _with_a_bug(served: Served, path: str) -> int:
    with connection(served.parts.engine) as conn:
        conn.exec_driver_sql("ALTER TABLE otp_requests RENAME TO lost")
    try:
        return served.call("GET", path).status_code
    finally:
        with connection(served.parts.engine) as conn:
            conn.exec_driver_sql("ALTER TABLE lost RENAME TO otp_requests")


def test_server_ends_in_good_order(
    module_settings: dict[str, str], tmp_path: Path, callers: ThreadPoolExecutor
) -> None:
    """What is being answered when the server is told to end is answered, and no task is left."""
    with serving(module_settings, tmp_path) as served:
        path = f"{ASK}/{served.ask('+447700900210')['id']}"
        waiting = callers.submit(served.call, "GET", f"{path}?wait=3")
        time.sleep(0.5)
        assert served.call("GET", path).status_code == 200
    log = served.log.read_text()

    assert waiting.result().json()["status"] == "queued"
    assert not re.findall(r"destroyed|never awaited|Traceback|raised an exception", log)
