"""The Celery application: `celery -A otpqueue.worker.main worker -Q send` (or `otpqueue worker`)."""

from __future__ import annotations

import atexit
from collections.abc import Sequence
from typing import Any

from celery import Celery, signals
from celery.bin.celery import celery as celery_command

from otpqueue import broker, jobs, parent, settings
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.operations.heartbeat import HeartbeatReporter
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts
from otpqueue.worker import tasks
from otpqueue.worker.consumer import Consumer
from otpqueue.worker.exposition import Exposition
from otpqueue.worker.schedule import build_beat_schedule
from otpqueue.worker.stopping import Stopping

CONTACT_TIMEOUT_S = 10.0
"""Celery reports contact with the broker every two seconds.

After this long without a report, it counts as lost.
"""

MISSED_MESSAGES = 3
"""Contact counts as lost when this many messages of beat's most frequent job fail in a row."""


def build_app(parts: Parts) -> Celery:
    """Return the application with its tasks, schedule and signal receivers."""
    celery = broker.make_celery(parts.settings.broker, quick=False)
    celery.conf.beat_schedule = build_beat_schedule(parts.settings)
    # In memory: the schedule consists of intervals and needs no persistence.
    celery.conf.beat_scheduler = "celery.beat:Scheduler"
    celery.conf.worker_consumer = Consumer
    celery.conf.broker_channel_error_retry = True
    tasks.register_tasks(celery, parts)
    _receive_signals(celery, parts)
    return celery


def _receive_signals(celery: Celery, parts: Parts) -> None:
    most_often_s = min(entry["schedule"] for entry in celery.conf.beat_schedule.values())
    worker_reporter = parts.make_heartbeat_reporter(ProcessKind.WORKER, in_touch_for_s=CONTACT_TIMEOUT_S)
    beat_reporter = parts.make_heartbeat_reporter(
        ProcessKind.BEAT, in_touch_for_s=max(MISSED_MESSAGES * most_often_s, CONTACT_TIMEOUT_S)
    )

    def configure_logs(process: str) -> None:
        logs.configure_logs(process=process, style=parts.settings.log_format, level=parts.settings.log_level)

    def start_worker(options: dict[str, Any], **_: Any) -> None:
        queues = options.get("queues") or jobs.QUEUES
        configure_logs("worker-" + (queues if isinstance(queues, str) else "+".join(queues)))
        worker_reporter.serve(tuple(queues.split(",") if isinstance(queues, str) else queues))
        start_reporter(worker_reporter)
        if parts.settings.worker_metrics_port:
            Exposition(
                host=parts.settings.worker_metrics_host,
                port=parts.settings.worker_metrics_port,
                token=parts.settings.require("metrics_token"),
            ).start()

    def start_beat(**_: Any) -> None:
        configure_logs("beat")
        # Celery calls this in the publishing process for every published message. In beat only beat
        # publishes.
        signals.after_task_publish.connect(lambda **_: beat_reporter.touch(), weak=False)
        start_reporter(beat_reporter)

    def start_reporter(reporter: HeartbeatReporter) -> None:
        parent.end_with_parent()
        reporter.start()
        atexit.register(reporter.stop)

    def record_contact(**_: Any) -> None:
        # Celery's heartbeat also runs while a broker rejects every command.
        if Consumer.listening:
            worker_reporter.touch()

    Consumer.on_listening.append(worker_reporter.touch)

    # weak=False: nothing else references these functions. A receiver of setup_logging stops Celery from
    # configuring logging.
    signals.setup_logging.connect(lambda **_: None, weak=False)
    signals.celeryd_init.connect(start_worker, weak=False)
    signals.beat_init.connect(start_beat, weak=False)
    signals.heartbeat_sent.connect(record_contact, weak=False)
    stopping = Stopping(
        parts.pump,
        parts.webhook_pump,
        also=parts.purge,
        within_s=parts.settings.stop_within_s,
        at_end=parts.tracer.close,
    )
    signals.worker_shutting_down.connect(stopping, weak=False)
    signals.worker_shutdown.connect(lambda **_: parts.tracer.close(), weak=False)


def run_worker(arguments: Sequence[str]) -> int:
    """Run a worker until it ends. Return the exit code, which is 0 only after a requested stop."""
    requested: list[object] = []
    signals.worker_shutting_down.connect(lambda **_: requested.append(None), weak=False)
    celery_command.params[0].default = app
    # `app.start` would drop the exit code.
    code = celery_command.main(args=list(arguments), standalone_mode=False)
    return int(code or 0) or (0 if requested else 1)


def _build_or_exit() -> Celery:
    try:
        return build_app(Parts(settings.load(), process="otpqueue-worker"))
    except settings.SettingsError as problem:
        # Otherwise `celery -A otpqueue.worker.main` would show a traceback.
        raise SystemExit(f"Error: {problem}") from None


app = _build_or_exit()
