"""An open-loop load generator: requests start at a fixed rate, however long the answers take.

A latency counts from the moment at which the request was due. A server that falls behind thus shows in the
percentiles, although the generator starts fewer requests meanwhile.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from otpqueue.cli.target import ApiTarget

_TIMEOUT_S = 30.0
_PATH = "/v1/otp-requests"


@dataclass(frozen=True, kw_only=True)
class LoadPlan:
    """How much to send."""

    rate: int
    """Requests per second."""
    connections: int
    seconds: int


@dataclass
class LoadFigures:
    """What has been answered so far. Thread-safe."""

    accepted: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    """Answers other than 202, by problem code."""
    errors: Counter[str] = field(default_factory=Counter)
    """Requests without an answer, by the name of the error."""
    latencies_s: list[float] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def record_answer(self, status: int, problem: str, latency_s: float) -> None:
        """Count an answer."""
        with self._lock:
            self.latencies_s.append(latency_s)
            if status == 202:
                self.accepted += 1
            else:
                self.refused[problem] += 1

    def record_error(self, error: Exception) -> None:
        """Count a request without an answer."""
        with self._lock:
            self.errors[type(error).__name__] += 1

    def compute_percentiles(self) -> dict[str, float | None]:
        """Return the percentiles of the latencies, in milliseconds; None without an answer."""
        with self._lock:
            ordered = sorted(self.latencies_s)
        return {
            f"p{percent}": round(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)] * 1000, 1)
            if ordered
            else None
            for percent in (50, 95, 99)
        }


def generate_numbers() -> Iterator[str]:
    """Yield numbers that are reserved for audiovisual works, so that no message can reach a person.

    France (ARCEP decision 2018-0881) and Australia (ACMA) reserve the most: 150 000. A random start keeps one
    run from the limits that the last one used up.
    """
    ranges = [f"+33{prefix}" for prefix in (19900, 26191, 35301, 46571, 53649, 63998)]
    ranges += [f"+61{area}{block}" for area in (2, 3, 7, 8) for block in (5550, 7010)]
    at = random.randrange(10_000 * len(ranges))  # noqa: S311 - guards nothing
    while True:
        at += 1
        number, place = divmod(at, len(ranges))
        yield f"{ranges[place]}{number % 10_000:04}"


class LoadGenerator:
    """Runs a plan with one thread for each connection."""

    def __init__(self, target: ApiTarget, plan: LoadPlan, numbers: Iterator[str]) -> None:
        self.figures = LoadFigures()
        self._target, self._plan, self._numbers = target, plan, numbers
        self._lock, self._started = threading.Lock(), 0
        self._stopped = threading.Event()
        self._ended = float("inf")

    @property
    def not_started(self) -> int:
        """How many requests of the plan were not started: all connections were waiting for answers."""
        return self._plan.rate * self._plan.seconds - self._started

    def run(self, *, on_second: Callable[[LoadFigures], None]) -> float:
        """Send all requests, and call `on_second` each second. Returns how many seconds it took."""
        begun = time.monotonic()
        threads = [
            threading.Thread(target=self._send_requests, args=(begun,), name="load", daemon=True)
            for _ in range(self._plan.connections)
        ]
        try:
            for thread in threads:
                thread.start()
            for second in range(1, self._plan.seconds + int(_TIMEOUT_S) + 1):
                for thread in threads:
                    thread.join(max(begun + second - time.monotonic(), 0))
                on_second(self.figures)
                if not any(thread.is_alive() for thread in threads):
                    break
        finally:
            self._stopped.set()
        return min(time.monotonic() - begun, self._ended - begun)

    def _send_requests(self, begun: float) -> None:
        connection = _connect(self._target)
        try:
            while (due := self._take_slot(begun)) is not None and not self._stopped.wait(
                max(due - time.monotonic(), 0)
            ):
                with self._lock:
                    number = next(self._numbers)
                self._send_request(connection, number, due)
        finally:
            connection.close()
            self._ended = time.monotonic()

    def _take_slot(self, begun: float) -> float | None:
        """Return when the next request is due, or None if the time has passed or all have been started."""
        with self._lock:
            if self.not_started == 0 or time.monotonic() >= begun + self._plan.seconds:
                return None
            self._started += 1
            return begun + (self._started - 1) / self._plan.rate

    def _send_request(self, connection: HTTPConnection, number: str, due: float) -> None:
        try:
            status, problem = post_request(connection, self._target, number)
        except (OSError, HTTPException) as error:
            # The next request opens the connection again.
            connection.close()
            self.figures.record_error(error)
        else:
            self.figures.record_answer(status, problem, time.monotonic() - due)


def _connect(target: ApiTarget) -> HTTPConnection:
    url = urlsplit(target.url)
    kind = HTTPSConnection if url.scheme == "https" else HTTPConnection
    return kind(url.hostname or "", url.port, timeout=_TIMEOUT_S)


def post_request(connection: HTTPConnection, target: ApiTarget, number: str) -> tuple[int, str]:
    """Request a code. Returns the status and the problem code, `http_STATUS` if the answer names none.

    Raises OSError, HTTPException.
    """
    headers = {"Authorization": f"Bearer {target.api_key}", "Content-Type": "application/json"}
    connection.request(
        "POST", urlsplit(target.url).path + _PATH, json.dumps({"phone_number": number}), headers
    )
    response = connection.getresponse()
    body = response.read()
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    problem = answer.get("code") if isinstance(answer, dict) else None
    return response.status, str(problem or f"http_{response.status}")


def request_one_code(target: ApiTarget, number: str) -> tuple[int, str]:
    """Request one code on a connection of its own, as `post_request` does."""
    connection = _connect(target)
    try:
        return post_request(connection, target, number)
    finally:
        connection.close()
