"""Serve the API with granian."""

from __future__ import annotations

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.server import Server
from granian.server.common import AbstractServer

from otpqueue import clock, parent
from otpqueue.api.app import create_app
from otpqueue.api.http.bridge import Bridge
from otpqueue.api.http.pools import CallPools
from otpqueue.api.resources import receipts
from otpqueue.api.watchdog import Watchdog
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.heap import collect_rarely
from otpqueue.settings import Settings, load
from otpqueue.telemetry import logs, metrics, metrics_folder
from otpqueue.wiring import Parts

ORPHANED_S = 5.0
"""How long a process may finish its calls after its main process was killed."""

_CONNECTIONS_AT_MOST = 4096
_HEAD_BYTES_AT_MOST = 64 * 1024
"""granian's own limit, with an empty answer. The bridge has a lower limit, with problem details."""


def create_from_environment() -> Bridge:
    """Return the application for the settings in the environment. Each of granian's processes calls this."""
    metrics.share_metrics()
    current = load()
    logs.configure_logs(process="api", style=current.log_format, level=current.log_level)
    parent.end_with_parent(grace_s=ORPHANED_S)
    parts = Parts(current, process="otpqueue-api")
    app = create_app(parts)
    watch_workers = parts.evaluate_workers
    watchdog = Watchdog(
        heart=parts.make_heartbeat_reporter(ProcessKind.API),
        watch=lambda now: watch_workers(now=now),
        clock=clock.now,
    )
    watchdog.start()

    def end() -> None:
        watchdog.stop()
        parts.tracer.close()

    collect_rarely()
    return Bridge(
        app,
        pools=CallPools(
            calls=current.api_threads,
            checks=current.api_checks,
            waiters=current.api_waiters,
            queue_timeout_s=current.api_queue_ms / 1000,
        ),
        body_timeout_s=current.body_timeout_s,
        large_bodies={receipts.PATH: receipts.MAX_BODY_BYTES},
        refusals={receipts.PATH: receipts.ReceiptsCredentials.of(current).refusal},
        at_end=end,
    )


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. A process that exits is replaced.

    The TLS files and the address must have been checked.
    """
    parent.end_with_parent()
    with _share_metrics(settings.api_processes):
        _create_server(settings).serve()


@contextmanager
def _share_metrics(processes: int) -> Iterator[None]:
    """Give several processes a shared folder for their metrics, so that each can answer for all."""
    if processes == 1:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="otpqueue-metrics-") as folder:
        os.environ[metrics_folder.FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[metrics_folder.FOLDER]


def _create_server(settings: Settings) -> AbstractServer[Any]:
    return Server(
        "otpqueue.api.server:create_from_environment",
        factory=True,
        interface=Interfaces.RSGI,
        # HTTP/2 needs limits of its own, and has no timeout for a head. Services do not need it, and a proxy
        # can offer it to other callers.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(settings.header_timeout_s * 1000), max_buffer_size=_HEAD_BYTES_AT_MOST
        ),
        websockets=False,
        ssl_cert=settings.tls_cert_file,
        ssl_key=settings.tls_key_file,
        ssl_protocol_min=SSLProtocols.tls12,
        address=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        # The number of connections, idle ones included: many more than threads, or the idle connections of a
        # load balancer would block all others. `pools` limits the calls in progress.
        backpressure=_count_connections(settings.api_threads),
        respawn_failed_workers=True,
        respawn_interval=1,
        workers_kill_timeout=20,
        log_access=False,
        # Its log records go to the root logger.
        log_dictconfig={"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}},
    )


def _count_connections(threads: int) -> int:
    # Half of the open files allowed. The rest is for Postgres, Redis and the provider.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = _CONNECTIONS_AT_MOST if files == resource.RLIM_INFINITY else files // 2
    return max(2 * threads, min(half, _CONNECTIONS_AT_MOST))
