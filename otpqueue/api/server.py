"""Serve the API with granian."""

from __future__ import annotations

import logging

from granian.constants import Interfaces
from granian.server import Server

from otpqueue.settings import Settings


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
        blocking_threads=settings.api_threads,
        # As many requests as there are threads: more wait in the socket's backlog, not in a queue of ours.
        backpressure=settings.api_threads,
        respawn_failed_workers=True,
        respawn_interval=1,
        workers_kill_timeout=20,
        log_access=False,
        # Its own records go where all others go.
        log_dictconfig={"formatters": {}, "handlers": {}, "loggers": {"_granian": {"propagate": True}}},
    ).serve()
