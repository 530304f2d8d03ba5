"""The Celery application: `celery -A otpqueue.worker.main worker -Q send` (or `otpqueue worker`)."""

from __future__ import annotations

import os
import socket
from typing import Any

from celery import Celery, signals

from otpqueue import jobs, logs, settings
from otpqueue.wiring import Parts
from otpqueue.worker import tasks
from otpqueue.worker.schedule import beat_schedule
from otpqueue.worker.stopping import Stopping


def build(parts: Parts) -> Celery:
    """Return the application with its tasks, schedule and signal receivers."""
    celery = jobs.make_celery(parts.settings.broker, quick=False)
    celery.conf.beat_schedule = beat_schedule(parts.settings)
    # In memory: the schedule is all intervals, and a file would only be one more thing to lose.
    celery.conf.beat_scheduler = "celery.beat:Scheduler"
    tasks.register(celery, parts)
    _receive_signals(parts)
    return celery


def _receive_signals(parts: Parts) -> None:
    this_process = f"{socket.gethostname()}:{os.getpid()}"

    def configure_logs(process: str) -> None:
        logs.configure(process=process, style=parts.settings.log_format, level=parts.settings.log_level)

    def name_worker(options: dict[str, Any], **_: Any) -> None:
        queues = options.get("queues") or jobs.QUEUES
        configure_logs("worker-" + (queues if isinstance(queues, str) else "+".join(queues)))

    def show_life(sender: Any, **_: Any) -> None:
        served = sorted(sender.eventer.app.amqp.queues.consume_from)
        parts.presence.announce(this_process, ",".join(served))

    # weak=False: nothing else holds these functions. A receiver of setup_logging keeps Celery's hands off it.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.celeryd_init.connect(name_worker, weak=False)
    signals.beat_init.connect(lambda **_: configure_logs("beat"), weak=False)
    signals.heartbeat_sent.connect(show_life, weak=False)
    stopping = Stopping(
        parts.pump,
        also=parts.purge,
        within_s=parts.settings.stop_within_s,
        at_end=parts.tracer.close,
    )
    signals.worker_shutting_down.connect(stopping, weak=False)
    signals.worker_shutdown.connect(lambda **_: parts.tracer.close(), weak=False)


app = build(Parts(settings.load(), process="otpqueue-worker"))
