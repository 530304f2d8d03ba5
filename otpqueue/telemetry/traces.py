"""Tracing: the interface between our code and OpenTelemetry, an optional extra that `otel.py` wraps.

If tracing is off, or no trace is active, a span is `NO_SPAN`, which ignores everything. A tracer is needed
only where a trace starts or continues: at an incoming call, and at a row that a worker has claimed, because a
wake-up carries no request. Everywhere else `span()` starts a child of the current span.

Attributes never contain a number, code, key, pinId or session, nor a path or URL that may contain one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

Attributes = Mapping[str, str | int | float | bool | None]
"""Named by OpenTelemetry's semantic conventions, or with the prefix `otpqueue.`. None values are ignored."""


class SpanKind(StrEnum):
    """The role of a span in a call between processes."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


class Span(Protocol):
    """A span. As a context manager, it is the current span of its thread until it ends."""

    @property
    def context(self) -> str | None:
        """Its W3C `traceparent`, with which another process continues the trace."""

    @property
    def ids(self) -> Mapping[str, str]:
        """Its `trace_id` and `span_id` for log records. Empty if it is not recorded."""

    def start_child(self, name: str, /, *, kind: SpanKind, attributes: Attributes) -> Span:
        """Start and return a child span."""

    def set_name(self, name: str, /) -> None:
        """Change the name. The route of a call is not known at its start."""

    def set_attributes(self, attributes: Attributes, /) -> None:
        """Add attributes."""

    def add_link(self, context: str | None, /) -> None:
        """Link to the span of another trace, given by its `traceparent`."""

    def mark_failed(self, error: str, /) -> None:
        """Mark the span as failed. `error` is a static identifier or an error's class name."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Starts spans without a parent, or with a parent in another process."""

    def start_span(self, name: str, /, *, kind: SpanKind, parent: str | None, attributes: Attributes) -> Span:
        """Start and return a span. `parent` is a `traceparent`; without a valid one, a new trace starts."""

    def close(self) -> None:
        """Send pending spans, within a time limit."""


class _NoSpan:
    """A span that ignores everything."""

    context: str | None = None
    ids: Mapping[str, str] = MappingProxyType({})

    def start_child(self, _name: str, /, **_: object) -> _NoSpan:
        return self

    def set_name(self, _name: str, /) -> None: ...
    def set_attributes(self, _attributes: Attributes, /) -> None: ...
    def add_link(self, _context: str | None, /) -> None: ...
    def mark_failed(self, _error: str, /) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Off:
    """A tracer that starts no spans."""

    def start_span(self, _name: str, /, **_: object) -> Span:
        return NO_SPAN

    def close(self) -> None: ...


NO_SPAN: Span = _NoSpan()
OFF: Tracer = _Off()

_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def get_current_span() -> Span:
    """Return the current span of this thread, or NO_SPAN."""
    return _current.get()


def enter_span(span: Span) -> Token[Span]:
    """Make a span the current one of this thread.

    `leave` restores the previous one with the returned token.
    """
    return _current.set(span)


def leave_span(token: Token[Span]) -> None:
    """Restore the span that was current before `enter`."""
    _current.reset(token)


def span(name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes) -> Span:
    """Start and return a child of the current span, or NO_SPAN if there is none."""
    return _current.get().start_child(name, kind=kind, attributes=attributes)
