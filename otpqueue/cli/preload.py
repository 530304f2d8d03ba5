"""The modules that the parts of `otpqueue dev` share: imported once, before the parts are forked."""

from __future__ import annotations

import gc
from importlib import import_module
from importlib.util import find_spec

OWN = ("otpqueue.infobip.provisioning", "otpqueue.store.migrate", "otpqueue.wiring")
"""What setting up an instance needs."""

PARTS = (
    "otpqueue.cli.services",
    # The API.
    "multiprocessing.popen_fork",
    "granian._loops",
    "granian.server.mp",
    "otpqueue.api.server",
    "otpqueue.api.tls",
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
"""What the parts need besides, except for the simulator. A missing name costs only memory and time."""

OPTIONAL = ("valkey",)
"""What libraries import where it is installed: `limits` imports this one."""

SIMULATOR = ("otpqueue.simulator.command", "uvicorn.lifespan.on")


def load(*, parts: bool, simulator: bool) -> None:
    """Import what setting up needs and, if they are to be forked, what the parts and the simulator need.

    Raises ModuleNotFoundError when an extra is not installed.
    """
    for name in (*OWN, *(PARTS if parts else ()), *(SIMULATOR if parts and simulator else ())):
        import_module(name)
    if parts:
        for name in filter(find_spec, OPTIONAL):
            import_module(name)
        # Garbage would be frozen with the rest.
        gc.collect()
