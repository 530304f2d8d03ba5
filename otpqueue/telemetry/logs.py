"""Structured logs: static event names with fields, as JSON or in a readable format.

Log identifiers, never objects. A phone number, a code, a key or a pinId is never a field. As a safeguard
`masks` hides such values in our records, in those of libraries, and in the error that ends a process or
thread.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import MappingProxyType, TracebackType
from typing import Any, Literal, cast

import structlog
from structlog.processors import ExceptionRenderer
from structlog.types import EventDict, FilteringBoundLogger, Processor

from otpqueue.telemetry import masks, traces

Logger = FilteringBoundLogger

_in_call: ContextVar[bool] = ContextVar("in_call", default=False)
_fields: ContextVar[Mapping[str, str]] = ContextVar("fields", default=MappingProxyType({}))
"""Fields of all records of a call. A mapping is never changed, only replaced."""


class _ModuleLogger:
    """Caches structlog's method for a level as an attribute. `configure` clears the cache.

    structlog's own loggers are either rebuilt for each record or cached permanently.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:
        method = getattr(structlog.get_logger(self._name), level)
        if _caching:
            self.__dict__[level] = method
        return method

    def clear_cache(self) -> None:
        """Clear the cached methods."""
        for level in self.__dict__.keys() - {"_name"}:
            self.__dict__.pop(level, None)


_caching = False
_loggers: weakref.WeakSet[_ModuleLogger] = weakref.WeakSet()


def get_logger(name: str) -> Logger:
    """Return the logger of a module."""
    logger = _ModuleLogger(name)
    _loggers.add(logger)
    return cast("Logger", logger)


def _cache_methods(*, caching: bool) -> None:
    global _caching  # noqa: PLW0603 - goes with structlog's configuration, which is global
    _caching = caching
    for logger in list(_loggers):
        logger.clear_cache()


def begin_call(**fields: str) -> None:
    """Start a call in this thread. Its log records and its span get these fields.

    End it with `end_call`, because the thread serves other calls later.
    """
    _in_call.set(True)
    _fields.set({})
    bind_fields(**fields)


def end_call() -> None:
    """End the call of this thread and remove its fields."""
    _in_call.set(False)
    _fields.set({})


def bind_fields(**fields: str) -> None:
    """Add fields to all further records of this thread's call, and to its span.

    Does nothing outside a call, where no one would remove the fields.
    """
    if _in_call.get():
        _fields.set({**_fields.get(), **fields})
        span = traces.get_current_span()
        if span is not traces.NO_SPAN:
            span.set_attributes({f"otpqueue.{name}": value for name, value in fields.items()})


@contextmanager
def bound_fields(**fields: str) -> Iterator[None]:
    """Add fields to this thread's records until the block ends."""
    token = _fields.set({**_fields.get(), **fields})
    try:
        yield
    finally:
        _fields.reset(token)


def add_fields(_: Any, __: str, event: EventDict) -> EventDict:
    """Add the fields of this thread's call to a record; a processor of structlog."""
    for name, value in _fields.get().items():
        event.setdefault(name, value)
    return event


_writing = threading.RLock()
"""Reentrant: a signal handler may log while its thread writes."""


def _replace_lock() -> None:
    global _writing  # noqa: PLW0603 - another thread of the parent may have held it at the fork
    _writing = threading.RLock()


os.register_at_fork(after_in_child=_replace_lock)


def write_line(line: str) -> None:
    """Write a line to the current standard error, which may be redirected."""
    with _writing:
        try:
            _write_stderr(line)
        except (OSError, ValueError) as error:  # it is closed or full, or cannot encode a character
            # If this cannot be written either, the failure cannot be reported.
            with suppress(OSError, ValueError):
                _write_stderr(_format_failure(error))


def _write_stderr(line: str) -> None:
    stream = sys.stderr
    if stream is not None:  # a process may start without one
        stream.write(line + "\n")
        stream.flush()


def _format_failure(error: Exception) -> str:
    # Without the record, which has not been masked.
    return f'{{"event": "record_not_written", "error": "{type(error).__name__}"}}'


class _Stderr(logging.Handler):
    """Writes the standard library's records."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            line = self.format(record)
        except Exception as error:  # noqa: BLE001 - a record that cannot be made must not stop the work
            line = _format_failure(error)
        write_line(line)


class _LineLogger:
    """Receives the rendered records of a module from structlog."""

    def __init__(self, name: str) -> None:
        self.name = name

    def _write(self, line: str) -> None:
        write_line(line)

    debug = info = warning = error = critical = _write


class _LineRenderer:
    """Renders one record as a line. It is the only processor, because each one runs for every record."""

    def __init__(self, *, process: str, exceptions: ExceptionRenderer, ending: Processor) -> None:
        self._process, self._exceptions, self._ending = process, exceptions, ending

    def __call__(self, logger: _LineLogger, level: str, event: EventDict) -> str:
        try:
            return self._render_line(logger, level, event)
        except Exception as error:  # noqa: BLE001 - a record that cannot be made must not stop the work
            return _format_failure(error)

    def _render_line(self, logger: _LineLogger, level: str, event: EventDict) -> str:
        add_fields(logger, level, event)
        _add_span_ids(logger, level, event)
        event["level"], event["logger"] = level, logger.name
        event["timestamp"] = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        event.setdefault("process", self._process)
        if "exc_info" in event:
            event = self._exceptions(logger, level, event)
        return str(self._ending(logger, level, masks.mask_values(event)))


def _render_json(_: Any, __: str, event: EventDict) -> str:
    # The values are plain, because they are masked.
    return json.dumps(event)


def _make_exception_renderer() -> ExceptionRenderer:
    # Local variables may contain numbers and keys.
    transformer = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return ExceptionRenderer(transformer)


def _mask_event(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    return masks.mask_values(event)


def _add_span_ids(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    for name, value in traces.get_current_span().ids.items():
        event.setdefault(name, value)
    return event


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    get_logger(__name__).critical("uncaught", exc_info=(kind, error, trace))


def _log_uncaught_in_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None:
        _log_uncaught(args.exc_type, args.exc_value, args.exc_traceback)


def configure_logs(*, process: str, style: Literal["json", "readable"] = "json", level: str = "INFO") -> None:
    """Write our records and the standard library's to stderr, one line each in one format.

    `process` ("api", "worker", ...) is a field of every record. Call once, at an entry point.
    """

    def name_process(_: Any, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
        event.setdefault("process", process)
        return event

    exceptions: ExceptionRenderer
    ending: Processor
    if style == "json":
        exceptions, ending = _make_exception_renderer(), _render_json
    else:
        exceptions = ExceptionRenderer()
        ending = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    structlog.configure(
        processors=[_LineRenderer(process=process, exceptions=exceptions, ending=ending)],
        logger_factory=_LineLogger,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # `_ModuleLogger` caches them, and can clear its cache.
        cache_logger_on_first_use=False,
    )
    _cache_methods(caching=True)
    handler = _Stderr()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                add_fields,
                _add_span_ids,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                name_process,
                structlog.stdlib.ExtraAdder(),
            ],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                exceptions,
                _mask_event,
                ending,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    # Python itself would print an unmasked traceback.
    sys.excepthook, threading.excepthook = _log_uncaught, _log_uncaught_in_thread
    for chatty in ("alembic.runtime", "celery.app.trace", "celery.beat", "celery.worker.strategy"):
        logging.getLogger(chatty).setLevel("WARNING")
    # It logs URLs, which contain pinIds, and the unparsed parts of responses.
    logging.getLogger("urllib3").setLevel("ERROR")
    # While a trace collector is unavailable, it logs every try.
    logging.getLogger("opentelemetry.exporter").setLevel("ERROR")


def reset_logs() -> None:
    """Restore structlog's defaults, so that a test does not affect the next one."""
    structlog.reset_defaults()
    _cache_methods(caching=False)
