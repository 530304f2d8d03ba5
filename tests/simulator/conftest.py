"""A simulator per test module, emptied for each test, and a client for it."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from otpqueue.simulator.options import Options
from otpqueue.simulator.server import RunningSimulator, running

API_KEY = "test-key"
BASIC_USER = "ann:se:cret"
TO = "41793026727"


class Client(requests.Session):
    """A session bound to one simulator; it sends the right key unless told otherwise."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self.url = url
        self.headers["Authorization"] = f"App {API_KEY}"

    def request(self, method: Any, url: Any, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs.setdefault("timeout", 10)
        return super().request(method, self.url + str(url), *args, **kwargs)

    def application(self, **configuration: object) -> str:
        """Create an application and return its id."""
        answer = self.post("/2fa/2/applications", json={"name": "shop", "configuration": configuration})
        assert answer.status_code in {200, 201}
        return str(answer.json()["applicationId"])

    def template(self, application_id: str, **fields: object) -> str:
        """Create a template and return its id."""
        body = {"messageText": "Your code is {{pin}}", "pinType": "NUMERIC", "pinLength": 6, **fields}
        answer = self.post(f"/2fa/2/applications/{application_id}/messages", json=body)
        assert answer.status_code == 200
        return str(answer.json()["messageId"])

    def ready(self, **configuration: object) -> dict[str, str]:
        """Create an application and a template, and return the body of a send."""
        roomy = {"sendPinPerPhoneNumberLimit": "1000/1d", "verifyPinLimit": "1000/1s", **configuration}
        application_id = self.application(**roomy)
        return {"applicationId": application_id, "messageId": self.template(application_id), "to": TO}

    def send_pin(self, body: dict[str, Any]) -> str:
        """Send a PIN and return its id."""
        answer = self.post("/2fa/2/pin", json=body)
        assert answer.status_code == 200
        return str(answer.json()["pinId"])

    def check(self, pin_id: str, pin: object) -> requests.Response:
        """Check a PIN."""
        return self.post(f"/2fa/2/pin/{pin_id}/verify", json={"pin": pin})

    def inbox(self, to: str | None = None) -> list[dict[str, Any]]:
        """Return the messages in the inbox, newest first."""
        messages: list[dict[str, Any]] = self.get(
            "/_simulator/messages", params={"to": to} if to else None
        ).json()["messages"]
        return messages

    def pin(self) -> str:
        """Return the PIN of the newest message."""
        return str(self.inbox()[0]["pin"])

    def wrong_pin(self) -> str:
        """Return a PIN that differs from the newest message's."""
        return "x" * len(self.pin())

    def advance(self, seconds: float) -> None:
        """Move the simulator's clock forward."""
        answer = self.post("/_simulator/clock", json={"advance_s": seconds})
        assert answer.status_code == 200

    def tracked(self, body: dict[str, Any]) -> str:
        """Send a PIN with trackDelivery and return the id its reports carry."""
        answer = self.post("/2fa/2/pin", json={**body, "trackDelivery": True})
        assert answer.status_code == 200
        return str(answer.json()["externalMessageId"])

    def receipts(self, **body: object) -> dict[str, Any]:
        """Put a rule of delivery reports in force and return it."""
        answer = self.post("/_simulator/receipts", json=body)
        assert answer.status_code == 201, answer.text
        rule: dict[str, Any] = answer.json()
        return rule

    def fault(self, **body: object) -> dict[str, Any]:
        """Put a fault in force and return it."""
        answer = self.post("/_simulator/faults", json=body)
        assert answer.status_code == 201
        fault: dict[str, Any] = answer.json()
        return fault


@dataclass
class Push:
    """One request to the webhook."""

    path: str
    headers: dict[str, str]
    reports: list[dict[str, Any]]
    at: float


class Hook:
    """A webhook; it answers with the next of `statuses`, then 200, and runs `before_answer` if set."""

    def __init__(self) -> None:
        self.pushes: list[Push] = []
        self.statuses: list[int] = []
        self.before_answer: Callable[[], None] | None = None
        self.url = ""

    def reports(self) -> list[dict[str, Any]]:
        """Return all reports, in the order in which they came."""
        return [report for push in self.pushes for report in push.reports]

    def names(self, message_id: str | None = None) -> list[str]:
        """Return the status names of all reports, or of one message's."""
        return [
            report["status"]["name"] for report in self.reports() if message_id in {None, report["messageId"]}
        ]

    def wait(self, count: int, timeout_s: float = 5.0) -> list[dict[str, Any]]:
        """Return the reports once there are `count`; fails when they do not come, or more do."""
        deadline = time.monotonic() + timeout_s
        while len(self.reports()) < count and time.monotonic() < deadline:
            time.sleep(0.005)
        reports = self.reports()
        assert len(reports) == count, [report["status"]["name"] for report in reports]
        return reports


@pytest.fixture
def hook() -> Iterator[Hook]:
    """Return a webhook that listens on loopback."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if hook.before_answer is not None:
                hook.before_answer()
            headers = {name.lower(): value for name, value in self.headers.items()}
            status = hook.statuses.pop(0) if hook.statuses else 200
            hook.pushes.append(Push(self.path, headers, body["results"], time.monotonic()))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hook.url = f"http://127.0.0.1:{server.server_port}/receipts?a=b"
    yield hook
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def simulator() -> Iterator[RunningSimulator]:
    """Return a running simulator that the tests of a module share."""
    with running(Options(api_keys=(API_KEY,), basic_users=(BASIC_USER,))) as simulator:
        yield simulator


@pytest.fixture
def client(simulator: RunningSimulator) -> Iterator[Client]:
    """Return a client of the shared simulator, which starts out empty."""
    with Client(simulator.url) as client:
        assert client.post("/_simulator/reset").status_code == 204
        yield client


@pytest.fixture
def client_at() -> type[Client]:
    """Return a way to get a client of a simulator by its URL."""
    return Client


@pytest.fixture
def client_with() -> Callable[..., AbstractContextManager[Client]]:
    """Return a way to get a client of a simulator with other options."""

    @contextmanager
    def start(**options: Any) -> Iterator[Client]:
        with (
            running(Options(api_keys=(API_KEY,), **options)) as simulator,
            Client(simulator.url) as client,
        ):
            yield client

    return start


@pytest.fixture(scope="session")
def error_of() -> Callable[[requests.Response], tuple[int, str, str]]:
    """Return a reader of refusals: status, messageId and text from the old envelope."""

    def read(answer: requests.Response) -> tuple[int, str, str]:
        body = answer.json()
        assert list(body) == ["requestError"]
        assert list(body["requestError"]) == ["serviceException"]
        exception = body["requestError"]["serviceException"]
        assert set(exception) <= {"messageId", "text", "validationErrors"}
        return answer.status_code, exception["messageId"], exception["text"]

    return read


@pytest.fixture(scope="session")
def problems_of() -> Callable[[requests.Response], dict[str, list[str]]]:
    """Return a reader of 400s with `validationErrors`."""

    def read(answer: requests.Response) -> dict[str, list[str]]:
        assert answer.status_code == 400
        exception = answer.json()["requestError"]["serviceException"]
        assert (exception["messageId"], exception["text"]) == ("BAD_REQUEST", "Bad request")
        problems: dict[str, list[str]] = exception["validationErrors"]
        assert all(texts and all(isinstance(text, str) for text in texts) for texts in problems.values())
        return problems

    return read
