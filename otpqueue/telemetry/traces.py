"""Traces: the one seam between our code and OpenTelemetry, which is an extra and sits behind it (`otel.py`).

Where traces are off, or nothing has begun one, a span is `NO_SPAN`: it takes everything and does nothing. A
tracer is needed only where a trace begins or goes on: at a call that comes in, and at a row that a worker has
claimed, since a wake-up carries no request. All else is `span()`, a child of the current one.

No number, code, key, pinId or session is an attribute, nor a path or URL that may hold one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar, Token
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Protocol, Self

Attributes = Mapping[str, str | int | float | bool | None]
"""By their names in the semantic conventions of OpenTelemetry, or `otpqueue.`; None says nothing."""


class SpanKind(StrEnum):
    """What a span is to the other side."""

    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"


class Span(Protocol):
    """Something that takes time. A context manager: the current span of its thread until it ends."""

    @property
    def context(self) -> str | None:
        """Its W3C `traceparent`, by which another process goes on with the trace."""

    @property
    def ids(self) -> Mapping[str, str]:
        """Its `trace_id` and `span_id`, as log records carry them; empty where it is not recorded."""

    def child(self, name: str, /, *, kind: SpanKind, attributes: Attributes) -> Span:
        """Return a span within this one, begun."""

    def name(self, name: str, /) -> None:
        """Give it another name: that of a call's route is known late."""

    def note(self, attributes: Attributes, /) -> None:
        """Add attributes."""

    def link(self, context: str | None, /) -> None:
        """Say that it has to do with the span of another trace, given by its `traceparent`."""

    def fail(self, error: str, /) -> None:
        """Say that it did not do what it should; `error` is a word of ours, or an error's class."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Tracer(Protocol):
    """Begins spans whose parent, if there is one, is in another process."""

    def begin(self, name: str, /, *, kind: SpanKind, parent: str | None, attributes: Attributes) -> Span:
        """Return a span, begun, whose parent is given by its `traceparent`; what is none begins a trace."""

    def close(self) -> None:
        """Send what has not been sent yet, within a time."""


class _NoSpan:
    """Takes everything and does nothing."""

    context: str | None = None
    ids: Mapping[str, str] = MappingProxyType({})

    def child(self, _name: str, /, **_: object) -> _NoSpan:
        return self

    def name(self, _name: str, /) -> None: ...
    def note(self, _attributes: Attributes, /) -> None: ...
    def link(self, _context: str | None, /) -> None: ...
    def fail(self, _error: str, /) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...


class _Off:
    """Begins nothing."""

    def begin(self, _name: str, /, **_: object) -> Span:
        return NO_SPAN

    def close(self) -> None: ...


NO_SPAN: Span = _NoSpan()
OFF: Tracer = _Off()

_current: ContextVar[Span] = ContextVar("span", default=NO_SPAN)


def current() -> Span:
    """Return the current span of this thread, NO_SPAN where there is none."""
    return _current.get()


def enter(span: Span) -> Token[Span]:
    """Make a span the current one of this thread; what is returned makes the one before it so again."""
    return _current.set(span)


def leave(token: Token[Span]) -> None:
    """Make the span current again that was so before `enter`."""
    _current.reset(token)


def span(name: str, *, kind: SpanKind = SpanKind.INTERNAL, attributes: Attributes) -> Span:
    """Return a span within the current one; NO_SPAN where there is none."""
    return _current.get().child(name, kind=kind, attributes=attributes)
