"""Tracing with OpenTelemetry, which the extra `otpqueue[otel]` installs. Imported only if tracing is on.

OpenTelemetry reads from the environment (`OTEL_...`) where to send spans and which to keep. A thread sends
them in batches from a queue that drops spans when it is full. A collector that is slow or unavailable
therefore only costs spans.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from contextvars import Token
from importlib.metadata import entry_points, version
from types import TracebackType
from typing import Any, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from otpqueue.telemetry import masks, traces
from otpqueue.telemetry.logs import get_logger
from otpqueue.telemetry.traces import Attributes, Span, SpanKind

log = get_logger(__name__)

FLUSH_WITHIN_S = 2.0
"""How long the end of a process waits for the collector to accept the last spans."""

_KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
}
_W3C = TraceContextTextMapPropagator()
_PARENT = "traceparent"
_GROUP = "opentelemetry_traces_exporter"


class OpenTelemetry:
    """A tracer. Thread-safe."""

    def __init__(self, *, process: str) -> None:
        """Start a tracer with this service name. Raises ValueError for an invalid environment variable."""
        provider = TracerProvider(resource=_make_resource(process), shutdown_on_exit=False)
        for exporter in _load_exporters():
            provider.add_span_processor(BatchSpanProcessor(exporter))
        self._provider = provider
        self._tracer = provider.get_tracer("otpqueue", version("otpqueue"))

    def start_span(self, name: str, /, *, kind: SpanKind, parent: str | None, attributes: Attributes) -> Span:
        """Start and return a span. `parent` is a `traceparent`; without a valid one, a new trace starts."""
        return self.start_in_context(name, kind=kind, context=_extract_context(parent), attributes=attributes)

    def start_in_context(
        self, name: str, *, kind: SpanKind, context: Context, attributes: Attributes
    ) -> Span:
        """Start and return a span in an OpenTelemetry context."""
        span = self._tracer.start_span(name, context, _KINDS[kind], _mask_attributes(attributes))
        return _Span(self, span)

    def close(self) -> None:
        """Send pending spans, within `FLUSH_WITHIN_S`."""
        # The library would wait for half a minute.
        ending = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(FLUSH_WITHIN_S)
        if ending.is_alive():
            log.warning("traces_not_sent", waited_s=FLUSH_WITHIN_S)


class _Span:
    """A span of OpenTelemetry."""

    def __init__(self, tracer: OpenTelemetry, span: trace.Span) -> None:
        self._tracer, self._span = tracer, span
        self.ids = _get_ids(span)
        self._token: Token[Span] | None = None

    @property
    def context(self) -> str | None:
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, self._context)
        return carrier.get(_PARENT)

    @property
    def _context(self) -> Context:
        return trace.set_span_in_context(self._span, Context())

    def start_child(self, name: str, /, *, kind: SpanKind, attributes: Attributes) -> Span:
        return self._tracer.start_in_context(name, kind=kind, context=self._context, attributes=attributes)

    def set_name(self, name: str, /) -> None:
        self._span.update_name(name)

    def set_attributes(self, attributes: Attributes, /) -> None:
        if self._span.is_recording():
            self._span.set_attributes(_mask_attributes(attributes))

    def add_link(self, context: str | None, /) -> None:
        other = trace.get_current_span(_extract_context(context)).get_span_context()
        if other.is_valid:
            self._span.add_link(other)

    def mark_failed(self, error: str, /) -> None:
        self.set_attributes({"error.type": error})
        self._span.set_status(trace.StatusCode.ERROR)

    def __enter__(self) -> Self:
        self._token = traces.enter_span(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if kind is not None:
            # Only the class, because the text of an error may contain sensitive data.
            self.mark_failed(kind.__name__)
        self._span.end()
        if self._token is not None:
            traces.leave_span(self._token)


def _get_ids(span: trace.Span) -> Mapping[str, str]:
    if not span.is_recording():
        return {}
    known = span.get_span_context()
    return {"trace_id": f"{known.trace_id:032x}", "span_id": f"{known.span_id:016x}"}


def _extract_context(parent: str | None) -> Context:
    # Without `tracestate`, which contains data of other vendors.
    return _W3C.extract({_PARENT: parent} if parent else {}, Context())


def _mask_attributes(attributes: Attributes) -> dict[str, Any]:
    return masks.mask_values({name: value for name, value in attributes.items() if value is not None})


def _make_resource(process: str) -> Resource:
    ours = {
        "service.namespace": "otpqueue",
        "service.name": process,
        "service.version": version("otpqueue"),
        "service.instance.id": f"{socket.gethostname()}:{os.getpid()}",
    }
    given = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in ours.items() if name not in given})


def _load_exporters() -> Iterator[Any]:
    for name in _list_exporter_names():
        found = next(iter(entry_points(group=_GROUP, name=name)), None)
        if found is None:
            raise ValueError(f"no installed package provides the trace exporter {name!r}")
        yield found.load()()


def _list_exporter_names() -> list[str]:
    """Return the entry point names of the exporters that OpenTelemetry's environment variables select."""
    wanted = os.environ.get("OTEL_TRACES_EXPORTER", "").strip() or "otlp"
    protocol = (
        os.environ.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
        or os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL")
        or "http/protobuf"
    )
    otlp = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}.get(protocol.strip(), protocol)
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    return [otlp if name == "otlp" else name for name in names if name != "none"]
