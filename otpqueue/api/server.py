"""Serve the API with granian."""

from __future__ import annotations

import logging
import resource

from granian.constants import Interfaces
from granian.server import Server

from otpqueue.settings import Settings

SPARE_THREADS = 8
"""Beside those for calls in flight: for refusals, which take no time, and for health."""

_CONNECTIONS_AT_MOST = 4096


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. A process that dies is replaced."""
    # It warns of many threads; ours wait for Postgres and the provider, and are bounded on purpose.
    logging.getLogger("_granian").addFilter(
        lambda record: not record.getMessage().startswith("Configuration allows spawning")
    )
    Server(
        "otpqueue.api.app:create_from_environment",
        factory=True,
        interface=Interfaces.WSGI,
        address=settings.host,
        port=settings.port,
        workers=settings.api_processes,
        blocking_threads=settings.api_threads + SPARE_THREADS,
        # Of connections, idle ones that are kept alive among them: so many more than threads, or the idle
        # ones of a load balancer keep everybody else out. `Gate` bounds what is in flight.
        backpressure=_connections(settings.api_threads),
        respawn_failed_workers=True,
        respawn_interval=1,
        workers_kill_timeout=20,
        log_access=False,
        # Its own records go where all others go.
        log_dictconfig={"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}},
    ).serve()


def _connections(threads: int) -> int:
    # Half of the files that may be open: the rest is for Postgres, Redis and the provider.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    half = _CONNECTIONS_AT_MOST if files == resource.RLIM_INFINITY else files // 2
    return max(2 * threads, min(half, _CONNECTIONS_AT_MOST))
