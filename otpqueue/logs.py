"""Structured logs: static event names with fields, as JSON for machines or readable for people.

Log identifiers, never objects; a phone number, a code, a key or a pinId is never a field. Should one be there
all the same, `masks` hides it: in our records, in those of libraries, and in what ends a process or a thread.
"""

from __future__ import annotations

import logging
import sys
import threading
from contextlib import AbstractContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Literal

import structlog
from structlog.types import Processor

from otpqueue import masks, traces

Logger = structlog.stdlib.BoundLogger

_in_call: ContextVar[bool] = ContextVar("in_call", default=False)


def get_logger(name: str) -> Logger:
    """Return the logger of a module."""
    logger: Logger = structlog.get_logger(name)
    return logger


def begin_call(**fields: str) -> None:
    """Begin a call in this thread; each of its records, and its span, has these fields.

    End it with `end_call`: the thread goes on to others.
    """
    structlog.contextvars.clear_contextvars()
    _in_call.set(True)
    bind(**fields)


def end_call() -> None:
    """End the call of this thread: its next records are about something else."""
    _in_call.set(False)
    structlog.contextvars.clear_contextvars()


def bind(**fields: str) -> None:
    """Say what this thread's call is about: in each of its records from now on, and in its span.

    Where no call has begun nothing is said: nobody would take it back.
    """
    if _in_call.get():
        structlog.contextvars.bind_contextvars(**fields)
        traces.current().note({f"otpqueue.{name}": value for name, value in fields.items()})


def bound(**fields: str) -> AbstractContextManager[None]:
    """Return a context in which this thread's records say what they are about."""
    return structlog.contextvars.bound_contextvars(**fields)


class _Stderr(logging.Handler):
    """Writes to what standard error is at that moment: who redirects it gets the records, too."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except Exception as error:  # noqa: BLE001 - a record that cannot be written must not stop the work
            # The base class would print the record as it is.
            sys.stderr.write(f'{{"event": "record_not_written", "error": "{type(error).__name__}"}}\n')


def _tracebacks_without_locals() -> Processor:
    # Local variables hold numbers and keys.
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return structlog.processors.ExceptionRenderer(transformer)


def _mask(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return masks.values(event)


def _name_span(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    for name, value in traces.current().ids.items():
        event.setdefault(name, value)
    return event


def _log_what_ends(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _log_what_ends_a_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log_what_ends(args.exc_type, args.exc_value, args.exc_traceback)


def configure(*, process: str, style: Literal["json", "readable"] = "json", level: str = "INFO") -> None:
    """Send structlog's and the standard library's records through one chain to stderr.

    `process` ("api", "worker", ...) stands in every record. Call once, at an edge.
    """

    def name_process(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("process", process)
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        _name_span,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        name_process,
        structlog.stdlib.ExtraAdder(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        # Not cached: what is configured later holds for loggers that have spoken before.
        cache_logger_on_first_use=False,
    )
    if style == "json":
        ending: list[Processor] = [_tracebacks_without_locals(), _mask, structlog.processors.JSONRenderer()]
    else:
        ending = [
            structlog.processors.ExceptionRenderer(),
            _mask,
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *ending],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # Python itself would print an error and its text.
    sys.excepthook, threading.excepthook = _log_what_ends, _log_what_ends_a_thread
    for chatty in ("alembic.runtime", "celery.app.trace", "celery.beat", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel("WARNING")
    # It logs URLs, which hold pinIds, and what of an answer it could not read.
    logging.getLogger("urllib3").setLevel("ERROR")
    # While a collector of traces is away it speaks of each try.
    logging.getLogger("opentelemetry.exporter").setLevel("ERROR")
