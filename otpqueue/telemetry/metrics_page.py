"""The exposition page: the metrics of all processes of a server in Prometheus's text format."""

from __future__ import annotations

import contextlib
import hmac
import os
import platform
from collections.abc import Iterable, Iterator
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Shown
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from otpqueue.telemetry.metrics import BUILD, Reading, flush_events, get_registry
from otpqueue.telemetry.metrics_folder import FOLDER, list_pids

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_TRIES = 5

_PROCESS = {
    "process_cpu_seconds": "CPU time, user and system, in seconds.",
    "process_resident_memory_bytes": "Resident memory.",
    "process_virtual_memory_bytes": "Virtual memory.",
    "process_open_fds": "Open file descriptors.",
    "process_max_fds": "File descriptors that the process may open.",
    "process_start_time_seconds": "When the process began, in seconds since 1970.",
}
"""The standard process metrics. Several processes are summed up; the start time is the earliest one."""


def is_valid_token(authorization: str | None, token: str) -> bool:
    """Return whether an `Authorization` header contains this bearer token."""
    word, _, given = (authorization or "").partition(" ")
    return word.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), token.encode())


@cache
def _get_versions() -> tuple[str, str]:
    return version("otpqueue"), platform.python_version()


class _MetricsPage(Collector):
    """The collector of one exposition page."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings = readings
        self._folder = os.environ.get(FOLDER)

    def collect(self) -> Iterator[Shown]:
        flush_events()
        if self._folder:
            yield from _collect_shared(self._folder)
            yield from _collect_processes(sorted(list_pids(Path(self._folder))))
        else:
            yield from get_registry().collect()
            yield from _collect_processes([os.getpid()])
        build: Reading = (BUILD, {_get_versions(): 1.0})
        for family, found in (build, *self._readings):
            shown = GaugeMetricFamily(family.name, family.help, labels=family.labels)
            for labels, value in sorted(found.items()):
                shown.add_metric(labels, value)
            yield shown


def _collect_shared(folder: str) -> list[Shown]:
    for _ in range(_TRIES):
        # A new process may delete files while we read.
        with contextlib.suppress(FileNotFoundError):
            return list(MultiProcessCollector(None, folder).collect())  # type: ignore[no-untyped-call]
    return []


def _collect_processes(pids: Iterable[int]) -> Iterator[Shown]:
    found: dict[str, list[float]] = {}
    for pid in pids:
        for metric in ProcessCollector(pid=partial(int, pid), registry=None).collect():
            found.setdefault(metric.name, []).extend(sample.value for sample in metric.samples)
    for name, measured in found.items():
        value = min(measured) if name == "process_start_time_seconds" else sum(measured)
        kind = CounterMetricFamily if name == "process_cpu_seconds" else GaugeMetricFamily
        yield kind(name, _PROCESS[name], value=value)


def render_page(readings: Iterable[Reading] = ()) -> bytes:
    """Return the exposition page in Prometheus's text format."""
    return generate_latest(_MetricsPage(readings))
