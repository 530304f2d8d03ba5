"""`/metrics` of an API of several processes: any of them answers for all, also for one that was killed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.telemetry import metrics
from tests.api.serving import Served, serving
from tests.operations.looking import heartbeats, until
from tests.scraping import Scraped, scraped

PAGES = "otpqueue_http_requests_total"
TOKEN = "a-token-of-prometheus"


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Return where the API makes folders for a time."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def two(module_settings: dict[str, str], tmp_path: Path, folders: Path) -> Iterator[Served]:
    """Yield an API of two processes."""
    differing = {
        "OTPQUEUE_API_PROCESSES": "2",
        "OTPQUEUE_METRICS_TOKEN": TOKEN,
        "TMPDIR": str(folders),
        "OTPQUEUE_ALERT_RULES": '{"workers_silent": {"threshold": 1, "opens_after": 1}}',
    }
    with serving(module_settings | differing, tmp_path) as served:
        yield served
    assert list(folders.iterdir()) == []


def page(served: Served) -> Scraped:
    """Return what one of the processes answers."""
    answer = served.call("GET", "/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    return scraped(answer.text)


def pids(served: Served) -> set[int]:
    """Return the processes that show life."""
    found = [one for one in heartbeats(served.parts) if one.kind is ProcessKind.API and one.is_alive]
    return {int(one.process.rpartition(":")[2]) for one in found}


def test_processes_are_counted_as_one(two: Served, folders: Path) -> None:
    """Totals are those of all processes, and do not fall when one is killed; the folder goes in the end."""
    until(lambda: len(pids(two)) == 2)
    calls = 200

    def call(_: int) -> int:
        return two.call("GET", "/openapi.json", checked=False).status_code

    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(call, range(calls))) == {200}
    time.sleep(2 * metrics.FLUSH_S)
    looks = [page(two) for _ in range(10)]

    assert {look(PAGES, route="/openapi.json", status="200") for look in looks} == {calls}
    assert {
        look("otpqueue_http_request_duration_seconds_count", route="/openapi.json") for look in looks
    } == {calls}
    assert {look("otpqueue_database_connections_max") for look in looks} == {2 * 8}
    assert {look("otpqueue_processes", kind="api", life="running") for look in looks} == {2}
    assert {look("otpqueue_build_info") for look in looks} == {1}
    assert min(look("process_resident_memory_bytes") for look in looks) > 0
    (folder,) = folders.glob("otpqueue-metrics-*")
    assert {int(path.stem.rpartition("_")[2]) for path in folder.glob("*.db")} == pids(two)

    killed = min(pids(two))
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(pids(two) - {killed}) == 2, within_s=30)
    after = page(two)

    assert after(PAGES, route="/openapi.json", status="200") == calls
    # Only what lives has connections.
    assert after("otpqueue_database_connections_max") == 2 * 8
    assert not list(folder.glob(f"gauge_*_{killed}.db"))

    # No worker and no beat lives: who still answers callers says so.
    # One for beat and one for each queue, however many processes watch.
    until(lambda: page(two)("otpqueue_alerts_open", rule="workers_silent") == 4, within_s=60)
    assert {record["rule"] for record in two.records("alert_opened")} == {"workers_silent"}
    assert len(two.records("alert_opened")) == 4
