"""An OTLP collector over HTTP that keeps the received spans."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan

KIND = {
    SentSpan.SPAN_KIND_INTERNAL: "internal",
    SentSpan.SPAN_KIND_SERVER: "server",
    SentSpan.SPAN_KIND_CLIENT: "client",
}


@dataclass(frozen=True)
class Seen:
    """A span as the collector received it. Ids are hexadecimal."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    failed: bool
    links: list[tuple[str, str]]
    start: int
    end: int

    @property
    def context(self) -> tuple[str, str]:
        """What others name it by."""
        return self.trace_id, self.span_id


@dataclass
class Collector:
    """What was sent so far."""

    url: str
    bodies: list[bytes] = field(default_factory=list)

    def spans(self) -> list[Seen]:
        """Return all spans, in the order of their beginning."""
        found = []
        for body in self.bodies:
            for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                resource = _values(of_resource.resource.attributes)
                for of_scope in of_resource.scope_spans:
                    found += [_seen(span, str(resource["service.name"])) for span in of_scope.spans]
        return sorted(found, key=lambda span: span.start)

    def resources(self) -> list[dict[str, Any]]:
        """Return the resource attributes of each sender."""
        return [
            _values(one.resource.attributes)
            for body in self.bodies
            for one in ExportTraceServiceRequest.FromString(body).resource_spans
        ]


def _seen(span: SentSpan, service: str) -> Seen:
    return Seen(
        service=service,
        name=span.name,
        kind=KIND[span.kind],
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        attributes=_values(span.attributes),
        failed=span.status.code == 2,
        links=[(link.trace_id.hex(), link.span_id.hex()) for link in span.links],
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
    )


def _values(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


@contextmanager
def collecting() -> Iterator[Collector]:
    """Take traces until the block ends."""
    collector = Collector("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces"
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            collector.bodies.append(body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
