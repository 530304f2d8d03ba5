"""Imports the modules that the processes of `otpqueue dev` share, before these are forked."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.util import find_spec

SETUP_MODULES = ("otpqueue.infobip.provisioning", "otpqueue.store.migrate", "otpqueue.wiring")
"""Needed to set up an instance."""

SERVICE_MODULES = (
    "otpqueue.cli.services",
    # The API.
    "multiprocessing.popen_fork",
    "granian._loops",
    "granian.server.mp",
    "otpqueue.api.server",
    "otpqueue.api.http.tls",
    # Workers and beat. `otpqueue.worker.main` itself builds the application when it is imported.
    "billiard.pool",
    "celery.app.control",
    "celery.app.log",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.bin.beat",
    "celery.bin.celery",
    "celery.bin.worker",
    "celery.concurrency.thread",
    "celery.fixups.django",
    "celery.events.receiver",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.request",
    "celery.worker.strategy",
    "kombu.transport.redis",
    "otpqueue.worker.exposition",
    "otpqueue.worker.schedule",
    "otpqueue.worker.stopping",
    "otpqueue.worker.tasks",
)
"""Needed by API, workers and beat. A module missing here costs only memory and time."""

OPTIONAL_MODULES = ("valkey",)
"""Imported by libraries if installed: `limits` imports this one."""

SIMULATOR_MODULES = ("otpqueue.simulator.command", "uvicorn.lifespan.on")


def import_modules(*, services: bool, simulator: bool) -> None:
    """Import the modules for setup and, with `services`, those of the processes that will be forked.

    Raises ModuleNotFoundError when an extra is not installed.
    """
    for name in (
        *SETUP_MODULES,
        *(SERVICE_MODULES if services else ()),
        *(SIMULATOR_MODULES if services and simulator else ()),
    ):
        import_module(name)
    if services:
        for name in filter(find_spec, OPTIONAL_MODULES):
            import_module(name)
        # The caller freezes the heap; garbage would be frozen with it.
        gc.collect()
