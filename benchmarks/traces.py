"""What traces cost: calls that ask for a code, with traces off and on, and with a collector that is away.

    python -m benchmarks.traces [--requests 1000] [--rounds 5]

Embedded engines (durable, as in production); the whole API but for the socket, 8 threads, in this process; a
collector as a process of its own; by turns, so that what else the machine does hits all alike. Prints the
medians: how many a second, and the processor time of this process for one, the sending of spans included.
Then that of one span alone.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import multiprocessing
import os
import statistics
import tempfile
import time
import timeit
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sqlalchemy import text

from otpqueue import clock, logs
from otpqueue.api.app import create_app
from otpqueue.domain.limits import LIMITS
from otpqueue.embedded import EngineHome, Postgres, Valkey
from otpqueue.embedded.home import free_port
from otpqueue.settings import load
from otpqueue.store import migrate
from otpqueue.store.engine import connection
from otpqueue.traces import Attributes, Kind, Tracer
from otpqueue.wiring import Parts

THREADS = 8
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
ABOUT: Attributes = {"http.request.method": "POST", "url.scheme": "http"}


def collect(port: int) -> None:
    """Take whatever is sent."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


class Api:
    """The API in this process."""

    def __init__(self, parts: Parts, key: str) -> None:
        self.parts, self._key, self._app = parts, key, create_app(parts)

    def ask(self, index: int) -> None:
        """Ask for a code."""
        body = json.dumps({"phone_number": f"+44740{index % 10_000_000:07}"}).encode()
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/v1/otp-requests",
            "QUERY_STRING": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "8000",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_AUTHORIZATION": f"Bearer {self._key}",
            "HTTP_TRACEPARENT": f"00-{os.urandom(16).hex()}-{os.urandom(8).hex()}-01",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": io.StringIO(),
        }
        said: list[str] = []
        b"".join(self._app(environ, lambda line, _headers, _error=None: said.append(line)))
        if not said[0].startswith("202"):
            raise RuntimeError(said[0])

    def measure(self, count: int, start_at: int) -> tuple[float, float]:
        """Return how many calls a second, and the processor time of one in microseconds."""
        before, processor = time.perf_counter(), time.process_time()
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self.ask, range(start_at, start_at + count)))
        seconds, used = time.perf_counter() - before, time.process_time() - processor
        return count / seconds, used / count * 1e6


def made(environment: dict[str, str], endpoint: str | None) -> Parts:
    """Return parts that send traces to this collector, or none."""
    if endpoint is None:
        return Parts(load(environment, dotenv=None))
    # OpenTelemetry reads the process's own environment.
    os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = endpoint
    parts = Parts(load(environment | {"OTPQUEUE_TRACES": "true"}, dotenv=None))
    _ = parts.tracer
    return parts


def span_us(tracer: Tracer) -> float:
    """Return the processor time of a call's span in microseconds, its sending included."""

    def one() -> None:
        with tracer.begin("POST", kind=Kind.SERVER, parent=PARENT, attributes=ABOUT) as span:
            span.note({"otpqueue.otp_id": "01a20f3b-dd5d-754f-9fbd-cec92d4a20c2", "otpqueue.client": "shop"})
            span.note({"http.route": "/v1/otp-requests", "http.response.status_code": 202})
            _ = span.context

    count = 5_000
    return min(timeit.repeat(one, number=count, repeat=5, timer=time.process_time)) / count * 1e6


def compare(apis: dict[str, Api], *, requests: int, rounds: int) -> None:
    """Measure by turns and print the medians."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in apis}
    index = 0
    for turn in range(rounds + 1):
        for name, api in apis.items():
            with connection(api.parts.engine) as conn:
                conn.execute(text("TRUNCATE otp_requests CASCADE"))
            measured = api.measure(requests, index)
            index += requests
            # The first round warms up.
            if turn:
                found[name].append(measured)
    for name, measures in found.items():
        rates, costs = zip(*measures, strict=True)
        print(f"{name:<18}{statistics.median(rates):8.0f} /s {statistics.median(costs):8.0f} us")


def main() -> None:
    """Start everything, measure, stop everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000, help="calls in each measure")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    logs.configure(process="benchmark", style="readable", level="CRITICAL")
    port = free_port()
    collector = multiprocessing.get_context("spawn").Process(target=collect, args=(port,), daemon=True)
    collector.start()
    with (
        tempfile.TemporaryDirectory() as folder,
        EngineHome(Path(folder)) as home,
        Postgres(home.path / "postgres") as postgres,
        Valkey(home.path / "valkey") as valkey,
    ):
        environment = {
            **{limit.setting: "off" for limit in LIMITS.values()},
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "INFOBIP_BASE_URL": "http://127.0.0.1:9",
            "INFOBIP_API_KEY": "none",
            "OTPQUEUE_GUARD": "off",
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
        }
        parts = {
            "off": made(environment, None),
            "on": made(environment, f"http://127.0.0.1:{port}"),
            "collector away": made(environment, f"http://127.0.0.1:{free_port()}"),
        }
        migrate.upgrade(parts["off"].engine)
        key = parts["off"].keys.create(client="benchmark", scopes=frozenset({"send"}), now=clock.now())
        apis = {name: Api(of, key) for name, of in parts.items()}
        compare(apis, requests=given.requests, rounds=given.rounds)
        print(f"{'one span, on':<18}{span_us(parts['on'].tracer):20.2f} us")
        print(f"{'one span, off':<18}{span_us(parts['off'].tracer):20.2f} us")
        for part in parts.values():
            part.close()
    collector.terminate()


if __name__ == "__main__":
    main()
