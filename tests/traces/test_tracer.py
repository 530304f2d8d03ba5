"""The tracer: unavailable collectors, environment variables, and tracing turned off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from otpqueue.embedded.home import free_port
from otpqueue.settings import SettingsError, load
from otpqueue.telemetry import traces
from otpqueue.telemetry.otel import OpenTelemetry
from otpqueue.telemetry.traces import NO_SPAN, SpanKind
from otpqueue.wiring import Parts
from tests.operations.looking import until
from tests.traces.collector import Collector, collecting
from tests.traces.hung import Hung

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """Wait until the threads of this test's tracers have ended."""
    before = set(threading.enumerate())
    yield
    until(lambda: set(threading.enumerate()) <= before, within_s=60)


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Yield a collector to which the tracers of this test send."""
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        yield collector


@pytest.fixture
def hung(nothing_left: None) -> Iterator[Hung]:
    """Yield a collector that hangs, and refuses when the test is over."""
    with closing(Hung()) as hung:
        yield hung
        hung.refuse()
        until(lambda: not [one for one in threading.enumerate() if one.name.startswith("OtelBatch")])


def begin(tracer: traces.Tracer, parent: str | None = None, **attributes: str | int) -> traces.Span:
    """Begin a span."""
    return tracer.start_span("call", kind=SpanKind.SERVER, parent=parent, attributes=attributes)


def test_spans_within_one_another(collector: Collector) -> None:
    """A span that begins within another is its child; when it ends, the other is the current one again."""
    tracer = OpenTelemetry(process="test")

    with begin(tracer, PARENT) as outer:
        with traces.span("inner", attributes={"otpqueue.attempt": 1, "otpqueue.country": None}) as inner:
            assert traces.get_current_span() is inner
        assert traces.get_current_span() is outer
    assert traces.get_current_span() is NO_SPAN
    tracer.close()

    first, second = collector.spans()
    assert (first.name, first.parent_id) == ("call", "00f067aa0ba902b7")
    assert (second.name, second.parent_id, second.kind) == ("inner", first.span_id, "internal")
    assert second.attributes == {"otpqueue.attempt": 1}
    assert first.context == (first.trace_id, outer.ids["span_id"])
    assert outer.context == f"00-{first.trace_id}-{first.span_id}-01"


def test_error_that_leaves_a_span_is_named_by_its_class(collector: Collector) -> None:
    """A span that an error ends records its class, not its text."""
    tracer = OpenTelemetry(process="test")

    with pytest.raises(ValueError, match="7700"), begin(tracer):
        raise ValueError("no way to +44 7700 900123")
    tracer.close()

    (span,) = collector.spans()
    assert span.failed
    assert span.attributes == {"error.type": "ValueError"}
    assert b"900123" not in b"".join(collector.bodies)


def test_attributes_are_masked(collector: Collector) -> None:
    """Should a number or a code come into an attribute all the same, it is hidden as in the logs."""
    tracer = OpenTelemetry(process="test")

    with begin(tracer, **{"otpqueue.request_id": "447700900123", "otpqueue.code": "123456"}) as span:
        span.set_attributes({"http.route": "/v1/+447700900123"})
    tracer.close()

    (sent,) = collector.spans()
    assert sent.attributes == {
        "otpqueue.request_id": "***",
        "otpqueue.code": "***",
        "http.route": "/v1/***",
    }


@pytest.mark.parametrize(
    "parent",
    [None, "", "nonsense", PARENT + ",", "00-" + "0" * 32 + "-00f067aa0ba902b7-01", "ff" + PARENT[2:]],
)
def test_invalid_parent_begins_a_trace(collector: Collector, parent: str | None) -> None:
    """A `traceparent` that is none, or two in one header, is as good as none."""
    tracer = OpenTelemetry(process="test")

    with begin(tracer, parent) as span:
        span.add_link(parent)
    tracer.close()

    (sent,) = collector.spans()
    assert (sent.parent_id, sent.links) == ("", [])
    assert sent.trace_id not in PARENT


def test_new_thread_has_no_span(collector: Collector) -> None:
    """The pool's threads outlive a call: none of them takes its span along."""
    tracer, seen = OpenTelemetry(process="test"), []

    with begin(tracer):
        thread = threading.Thread(target=lambda: seen.append(traces.get_current_span()))
        thread.start()
        thread.join()
    tracer.close()

    assert seen == [NO_SPAN]
    assert len(collector.spans()) == 1


def test_collector_that_is_away_costs_spans_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a collector, spans over the queue's limit are dropped, and the process ends in time."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    tracer = OpenTelemetry(process="test")

    for _ in range(500):
        with begin(tracer):
            pass
    tracer.close()

    assert traces.get_current_span() is NO_SPAN


def test_collector_that_hangs_costs_spans_only(monkeypatch: pytest.MonkeyPatch, hung: Hung) -> None:
    """While a collector holds back its answer, spans begin and end; the end of the process gives up on it."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{hung.port}")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "60")
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    tracer = OpenTelemetry(process="test")
    for _ in range(8):
        begin(tracer).__exit__(None, None, None)
    until(lambda: hung.asked)

    for _ in range(500):
        with begin(tracer):
            pass
    tracer.close()

    assert "traces" in {thread.name for thread in threading.enumerate()}


@pytest.mark.parametrize(
    ("variables", "services"),
    [
        ({}, {"otpqueue-api"}),
        ({"OTEL_SERVICE_NAME": "codes"}, {"codes"}),
        ({"OTEL_RESOURCE_ATTRIBUTES": "service.name=codes,deployment.environment.name=prod"}, {"codes"}),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, set()),
        ({"OTEL_SDK_DISABLED": "true"}, set()),
        ({"OTEL_TRACES_EXPORTER": "none"}, set()),
        ({"OTEL_TRACES_EXPORTER": "otlp,none", "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}, {"otpqueue-api"}),
    ],
)
def test_environment_says_what_is_sent(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], services: set[str]
) -> None:
    """The variables that every program with OpenTelemetry takes hold here, too."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    tracer = OpenTelemetry(process="otpqueue-api")

    with begin(tracer) as span, traces.span("inner", attributes={}):
        assert bool(span.ids) == bool(services or variables.get("OTEL_TRACES_EXPORTER") == "none")
    tracer.close()

    assert {span.service for span in collector.spans()} == services


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("OTEL_TRACES_EXPORTER", "pigeon", "'pigeon'"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "'otlp_proto_grpc'"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "0", "max_queue_size"),
    ],
)
def test_invalid_environment_is_reported(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    """A process with an invalid trace configuration does not start, and says why."""
    monkeypatch.setenv(variable, value)
    parts = Parts(load({"OTPQUEUE_TRACES": "true"}, dotenv=None))

    with pytest.raises(SettingsError, match=said):
        _ = parts.tracer


def test_unread_variable_is_reported(tmp_path: Path) -> None:
    """OpenTelemetry does not read `.env`, so its variables there are rejected."""
    dotenv = tmp_path / ".env"
    dotenv.write_text("OTEL_SERVICE_NAME=codes\nOTEL_SDK_DISABLED=false\n")
    environment = {"OTPQUEUE_TRACES": "true", "OTEL_SDK_DISABLED": "false"}

    with pytest.raises(SettingsError) as error:
        load(environment, dotenv=dotenv)

    assert error.value.problems == [
        "OTEL_SERVICE_NAME must be in the environment: OpenTelemetry does not read .env"
    ]
    assert not load({}, dotenv=dotenv).traces


def test_missing_extra_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """With tracing on and without the extra, a process says what to install."""
    monkeypatch.delitem(sys.modules, "otpqueue.telemetry.otel", raising=False)
    for name in [name for name in sys.modules if name.partition(".")[0] == "opentelemetry"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    parts = Parts(load({"OTPQUEUE_TRACES": "true"}, dotenv=None))

    with pytest.raises(SettingsError, match=r"pip install 'otpqueue\[otel\]'"):
        _ = parts.tracer


def test_nothing_of_it_is_loaded_unless_wanted(clean_import: Callable[[str], list[str]]) -> None:
    """With tracing off, its code is not imported and a span does nothing."""
    loaded = clean_import(
        """
from otpqueue.telemetry import traces
from otpqueue.settings import load
from otpqueue.wiring import Parts
import otpqueue.api.app
parts = Parts(load({}, dotenv=None))
assert parts.tracer is traces.OFF
with parts.tracer.start_span("x", kind=traces.SpanKind.SERVER, parent=None, attributes={}) as span:
    assert span is traces.get_current_span() is traces.NO_SPAN
    assert traces.span("y", attributes={}) is span
    assert (span.context, dict(span.ids)) == (None, {})
"""
    )

    # The client of Redis imports the rest where it is installed.
    assert "otpqueue.telemetry.otel" not in loaded
    assert [name for name in loaded if name.startswith("opentelemetry.exporter")] == []


@pytest.fixture
def clean_import() -> Callable[[str], list[str]]:
    """Return a function that runs a script in a fresh Python and returns what that has imported."""

    def run(script: str) -> list[str]:
        script += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        loaded: list[str] = json.loads(done.stdout)
        return loaded

    return run
