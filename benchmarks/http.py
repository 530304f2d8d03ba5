"""What an HTTP call costs before and after its operation: CPU time per call, by server and number of threads.

    python -m benchmarks http [--connections 32] [--seconds 2] [--rounds 5] [--server NAME ...]

Serves the API, all of its middleware, logs (INFO, to a file) and metrics included, over parts that connect
to nothing, with two resources that only read and answer: a GET like a poll, and a POST whose body is
validated and which logs a record besides `http_request`. One process, called by another over keep-alive
connections. CPU time is the server's own, from /proc: calls per second depend on what else the machine does.
All servers run side by side and are called by turns; the least of the rounds is printed beside the median.

`wsgi` is granian's own WSGI interface, which keeps none of the bounds that `otpqueue.api.http.bridge` adds.
"""

from __future__ import annotations

import argparse
import base64
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from granian.constants import HTTPModes, Interfaces
from granian.server import Server

from otpqueue.api import bodies, tags
from otpqueue.api.app import App, create_app
from otpqueue.api.endpoints import OPEN, ApiCall, ApiEndpoint, Success, add_routes, serves
from otpqueue.api.http.bridge import Bridge
from otpqueue.api.http.pools import CallPools
from otpqueue.api.responses import OtpRequestResponse
from otpqueue.domain.replay import StoredResponse
from otpqueue.domain.request import Channel, OtpRequest, SendState, Status
from otpqueue.embedded.home import free_port
from otpqueue.settings import load
from otpqueue.telemetry import logs
from otpqueue.wiring import Parts

log = logs.get_logger("benchmarks.http")

ID = "01a219a6-8d8c-7654-8f8d-d0d07a4a36e7"
NOW = datetime.now(UTC)
REQUEST = OtpRequest(
    id=UUID(ID),
    client_id=UUID(ID),
    phone_number="+44********23",
    channel=Channel.SMS,
    status=Status.QUEUED,
    send_state=SendState.IDLE,
    reason=None,
    provider_code=None,
    client_reference=None,
    created_at=NOW,
    send_by=NOW,
    sent_at=None,
    expires_at=None,
    verified_at=None,
    checks_allowed=5,
    checks_used=0,
    check_in_flight=False,
    sends=1,
    resend=None,
    resend_channel=None,
    resend_reason=None,
    resend_after=None,
    updated_at=NOW,
)
BODY = b'{"phone_number": "+447700900123", "session_id": "a-session", "client_ip": "198.51.100.7"}'
HEAD = (
    "Host: localhost\r\nAuthorization: Bearer oq_aaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n"
    "User-Agent: benchmark\r\nAccept: */*\r\n"
)
CALLS = {
    "404": f"GET /nowhere HTTP/1.1\r\n{HEAD}\r\n".encode(),
    "GET": f"GET /benchmark HTTP/1.1\r\n{HEAD}\r\n".encode(),
    "POST": f"POST /benchmark HTTP/1.1\r\n{HEAD}Content-Type: application/json\r\n"
    f"Content-Length: {len(BODY)}\r\n\r\n".encode()
    + BODY,
}
SERVERS = ("wsgi-8", "bridge-4", "bridge-8", "bridge-16", "bridge-32")


class BenchmarkResource:
    """Reads and answers, and does nothing between."""

    @serves(
        ApiEndpoint(
            method="GET",
            path="/benchmark",
            operation_id="poll",
            tag=tags.CODES,
            summary="Poll",
            description="",
            successes={200: Success(description="", model=OtpRequestResponse)},
            access=OPEN,
            query=bodies.StatusQuery,
        )
    )
    def on_get(self, _call: ApiCall, query: bodies.StatusQuery) -> OtpRequestResponse:  # noqa: ARG002
        """Answer as a poll does."""
        logs.bind_fields(client="shop")
        logs.bind_fields(otp_id=ID)
        return OtpRequestResponse.of(REQUEST)

    @serves(
        ApiEndpoint(
            method="POST",
            path="/benchmark",
            operation_id="accept",
            tag=tags.CODES,
            summary="Accept",
            description="",
            successes={202: Success(description="", model=OtpRequestResponse)},
            access=OPEN,
            body=bodies.NewOtpRequest,
            accepts_idempotency_key=True,
        )
    )
    def on_post(self, _call: ApiCall, body: bodies.NewOtpRequest) -> StoredResponse:  # noqa: ARG002
        """Answer as a request for a code does."""
        logs.bind_fields(client="shop")
        logs.bind_fields(otp_id=ID)
        log.info("otp_requested", otp_id=ID, client_id=ID, country="GB")
        return StoredResponse(
            status=202,
            headers={"Location": f"/v1/otp-requests/{ID}"},
            body=OtpRequestResponse.of(REQUEST).model_dump_json(),
        )


def application() -> App:
    """Return the API with the resource of this benchmark."""
    nowhere = "127.0.0.1:9"
    settings = load(
        {
            "DATABASE_URL": f"postgresql://{nowhere}/none",
            "REDIS_URL": f"redis://{nowhere}/0",
            "INFOBIP_BASE_URL": f"http://{nowhere}",
            "INFOBIP_API_KEY": "none",
            "OTPQUEUE_SEAL_KEYS": "k1:" + base64.b64encode(b"s" * 32).decode(),
            "OTPQUEUE_HASH_KEY": base64.b64encode(b"h" * 32).decode(),
        },
        dotenv=None,
    )
    logs.configure_logs(process="api", level="INFO")
    app = create_app(Parts(settings))
    add_routes(app, BenchmarkResource())
    return app


def bridge() -> Bridge:
    """Return what granian serves as `otpqueue api` does."""
    threads = int(os.environ["BENCHMARK_THREADS"])
    pools = CallPools(calls=threads, checks=threads, waiters=threads, queue_timeout_s=10)
    return Bridge(application(), pools=pools, body_timeout_s=10, large_bodies={})


def serve(name: str, port: int) -> None:
    """Serve until SIGTERM."""
    kind, _, threads = name.partition("-")
    os.environ["BENCHMARK_THREADS"] = threads
    is_wsgi = kind == "wsgi"
    more: dict[str, Any] = {"blocking_threads": int(threads)} if is_wsgi else {}
    Server(
        "benchmarks.http:application" if is_wsgi else "benchmarks.http:bridge",
        factory=True,
        interface=Interfaces.WSGI if is_wsgi else Interfaces.RSGI,
        http=HTTPModes.http1,
        websockets=False,
        port=port,
        log_access=False,
        **more,
    ).serve()


@dataclass
class Running:
    """A server that runs, and what its calls cost in microseconds."""

    process: subprocess.Popen[bytes]
    port: int
    costs: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)

    def cpu_s(self) -> float:
        """Return the CPU time of the server's processes so far."""
        ticks = 0
        for pid in (self.process.pid, *_children(self.process.pid)):
            found = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(found[11]) + int(found[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def running(name: str, folder: Path) -> Iterator[Running]:
    """Start a server and yield it when it answers."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.http", "--serve", name, "--port", str(port)]
    with (folder / f"{name}.log").open("wb") as written:
        process = subprocess.Popen(command, stderr=written, stdout=written)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.1)
        yield Running(process, port)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def call(port: int, request: bytes, *, connections: int, seconds: float) -> int:
    """Make this call over and over on each connection; return how many were answered."""
    selector, answered, end = selectors.DefaultSelector(), 0, time.monotonic() + seconds
    for _ in range(connections):
        connection = socket.create_connection(("127.0.0.1", port))
        selector.register(connection, selectors.EVENT_READ)
        connection.sendall(request)
    while selector.get_map():
        for key, _ in selector.select(5):
            connection = key.fileobj  # type: ignore[assignment]
            answer = connection.recv(65536)
            if not answer.startswith(b"HTTP/1.1 ") or b"\r\n\r\n" not in answer:
                raise SystemExit(f"no answer: {answer[:200]!r}")
            answered += 1
            if time.monotonic() < end:
                connection.sendall(request)
            else:
                selector.unregister(connection)
                connection.close()
    return answered


def _measure(server: Running, name: str, measure: Callable[[], int], seconds: float) -> None:
    before = server.cpu_s()
    count = measure()
    server.costs.setdefault(name, []).append((server.cpu_s() - before) / count * 1e6)
    server.rates.setdefault(name, []).append(count / seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--server", action="append", help=f"of {', '.join(SERVERS)}; all unless given")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve, given.port)
        return
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        names = given.server or SERVERS
        servers = {name: stack.enter_context(running(name, Path(folder))) for name in names}
        for kind, request in CALLS.items():
            for turn in range(given.rounds + 1):
                for server in servers.values():
                    seconds = given.seconds if turn else 0.3  # to warm up
                    _measure(
                        server,
                        kind if turn else "warm-up",
                        lambda server=server, request=request, seconds=seconds: call(  # type: ignore[misc]
                            server.port, request, connections=given.connections, seconds=seconds
                        ),
                        seconds,
                    )
    print(f"CPU us per call, least (median); calls/s, median; {given.connections} connections")
    for name, server in servers.items():
        cells = [
            f"{kind} {min(server.costs[kind]):4.0f} ({statistics.median(server.costs[kind]):4.0f}) "
            f"{statistics.median(server.rates[kind]):6.0f}/s"
            for kind in CALLS
        ]
        print(f"{name:10} {'   '.join(cells)}")


if __name__ == "__main__":
    main()
