"""`POST /v1/infobip/receipts`: who may push, what is taken, and a report's whole way over HTTP."""

from __future__ import annotations

import base64
import json
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest

from otpqueue.api.http import bridge
from otpqueue.infobip import provisioning
from tests.api.conftest import Caller, MakeCaller, MakeOtherParts, Result
from tests.api.serving import Served, serving

PATH = "/v1/infobip/receipts"
USER, PASSWORD = "infobip", "pässword:with colon"


def basic(text: str) -> str:
    """Return the header of Basic authorization."""
    return "Basic " + base64.b64encode(text.encode()).decode()


RIGHT = basic(f"{USER}:{PASSWORD}")


def report(message_id: str, group: str = "DELIVERED", name: str = "DELIVERED_TO_HANDSET") -> dict[str, Any]:
    """Return a report in the current shape."""
    return {
        "messageId": message_id,
        "doneAt": "2026-03-01T12:00:00.000+0000",
        "price": {"pricePerMessage": 0.01, "currency": "EUR"},
        "status": {"groupName": group, "name": name},
        "error": {"name": "NO_ERROR"},
    }


@dataclass(frozen=True)
class Pusher:
    """Infobip, as far as it pushes reports."""

    caller: Caller

    def __call__(self, body: Any, *, authorization: str | None = RIGHT, **kwargs: Any) -> Result:
        """Push a body: bytes as they are, anything else as JSON."""
        headers = {"Content-Type": "application/json"} | kwargs.pop("headers", {})
        if authorization is not None:
            headers["Authorization"] = authorization
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        key, self.caller.key = self.caller.key, None
        try:
            return self.caller.post(PATH, body=data, headers=headers, **kwargs)
        finally:
            self.caller.key = key

    def id_of(self, path: str) -> str:
        """Return what reports call the newest message of a request."""
        rows = self.caller.execute(
            "SELECT external_message_id FROM send_attempts WHERE request_id = :id ORDER BY number DESC",
            id=path.rpartition("/")[2],
        )
        return str(rows[0][0])

    def status(self, path: str) -> str:
        """Return a request's status."""
        return str(self.caller.get(path).json["status"])


@pytest.fixture
def push(make_caller: MakeCaller) -> Pusher:
    """Return somebody who pushes reports to an API that takes them."""
    return Pusher(make_caller(OTPQUEUE_RECEIPTS_USER=USER, OTPQUEUE_RECEIPTS_PASSWORD=PASSWORD))


def test_report_moves_the_request(push: Pusher) -> None:
    """A report is taken with 200 and shows in the status; the same again is taken and changes nothing."""
    path, code = push.caller.sent()
    body = {"results": [report(push.id_of(path))]}

    first = push(body)
    tag = push.caller.get(path).headers["ETag"]
    second = push(body)

    assert (first.status_code, first.json) == (200, {"received": 1, "new": 1})
    assert (second.status_code, second.json) == (200, {"received": 1, "new": 0})
    assert push.status(path) == "delivered"
    assert push.caller.get(path).headers["ETag"] == tag
    assert push.caller.verify(path, code).status_code == 200


def test_undelivered(push: Pusher) -> None:
    """A message that did not arrive makes the request `undelivered`; its code still verifies."""
    path, code = push.caller.sent()

    push({"results": [report(push.id_of(path), "UNDELIVERABLE", "UNDELIVERABLE_NOT_DELIVERED")]})

    assert push.status(path) == "undelivered"
    assert push.caller.verify(path, code).status_code == 200


def test_legacy_shape(push: Pusher) -> None:
    """The legacy shape does the same."""
    path, _ = push.caller.sent()
    legacy = report(push.id_of(path)) | {"from": "InfoSMS", "smsCount": 1, "error": {"name": "NO_ERROR"}}

    assert push({"results": [legacy]}).json == {"received": 1, "new": 1}

    assert push.status(path) == "delivered"


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!",
        "Basic ÿ",
        basic(""),
        basic(":"),
        basic(USER),
        basic(f"{USER}:"),
        basic(f"{USER}:wrong"),
        basic(f"other:{PASSWORD}"),
        basic(f"{USER}:{PASSWORD} "),
        RIGHT.replace("Basic", "Bearer"),
        RIGHT.removeprefix("Basic "),
    ],
    ids=repr,
)
def test_unauthenticated_reports_are_refused(push: Pusher, authorization: str | None) -> None:
    """Without the right user and password nothing is taken, and the body is not looked at."""
    path, _ = push.caller.sent()

    answer = push({"results": [report(push.id_of(path))]}, authorization=authorization)
    broken = push(b"{", authorization=authorization)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    scheme = (authorization or "").partition(" ")[0]
    fault = "wrong_password" if scheme == "Basic" else "wrong_scheme" if scheme else "no_credentials"
    assert answer.json["reason"] == fault
    assert broken.status_code == 401
    assert push.status(path) == "sent"


def test_scheme_is_not_case_sensitive(push: Pusher) -> None:
    """The word Basic may be written in any case."""
    assert push({"results": []}, authorization=RIGHT.replace("Basic", "bAsIc")).status_code == 200


def test_api_key_is_no_credential(push: Pusher) -> None:
    """The reports' credentials are their own: an API key opens nothing here, and they open nothing else."""
    key = push.caller.new_key("send", "verify", "admin")

    assert push({"results": []}, authorization=f"Bearer {key}").status_code == 401
    headers = {"Authorization": RIGHT}
    assert push.caller.get("/v1/otp-requests/x", headers=headers).status_code == 401


@pytest.mark.parametrize("authorization", [None, RIGHT, basic(":"), basic("None:None")])
def test_not_configured(caller: Caller, authorization: str | None) -> None:
    """Where no credentials are set nobody may push, with whatever credentials."""
    answer = Pusher(caller)({"results": []}, authorization=authorization)

    assert (answer.status_code, answer.json["code"]) == (401, "unauthenticated")
    assert answer.json["reason"] == "not_configured"
    assert "OTPQUEUE_RECEIPTS_USER" in answer.json["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"null",
        b"[]",
        b'"x"',
        b"{}",
        b'{"results": null}',
        b'{"results": {}}',
        b'{"result": []}',
        b"[" * 100_000,
        b'{"results": [' + b"9" * 5000 + b"]}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_malformed(push: Pusher, body: bytes) -> None:
    """What is not a batch of reports is 400."""
    answer = push(body)

    assert (answer.status_code, answer.json["code"]) == (400, "malformed_json")


@pytest.mark.parametrize(
    ("result", "received"),
    [
        (None, 0),
        (7, 0),
        ({}, 0),
        ({"messageId": "m"}, 0),
        ({"messageId": "odd-1", "status": {"name": "X"}, "price": "free", "error": 3, "doneAt": {}}, 1),
        ({"messageId": "odd-2", "status": {"name": "X"}, "doneAt": "0001-01-01T00:00:00+14:00"}, 1),
        ({"messageId": "odd-3", "status": {"name": "X"}, "price": {"pricePerMessage": "1e-99999"}}, 1),
        ({"messageId": "odd-4", "status": {"name": "X"}, "price": {"pricePerMessage": "0e99999"}}, 1),
        ({"messageId": "nul\x00", "status": {"name": "X"}}, 0),
        ({"messageId": "\ud800", "status": {"name": "X"}}, 0),
    ],
    ids=str,
)
def test_odd_reports_hold_nothing_up(push: Pusher, result: Any, received: int) -> None:
    """A report nobody understands is answered with 200, and the others of its batch are taken."""
    path, _ = push.caller.sent()

    answer = push({"results": [result, report(push.id_of(path))]})

    assert (answer.status_code, answer.json["received"]) == (200, received + 1)
    assert push.status(path) == "delivered"


def test_type_of_body(push: Pusher) -> None:
    """Reports are JSON; another type is refused."""
    answer = push({"results": []}, headers={"Content-Type": "application/xml"})

    assert (answer.status_code, answer.json["code"]) == (415, "unsupported_media_type")


def test_largest_batch_of_infobip(push: Pusher) -> None:
    """Two thousand reports in full, the largest batch there is, are taken in one push and in good time."""
    paths = [push.caller.sent()[0] for _ in range(3)]
    batch = [report(f"stranger-{number}") for number in range(1997)]
    batch += [report(push.id_of(path)) for path in paths[-1:]] * 3
    for one in batch:
        one["status"] |= {"description": "d" * 200, "action": "a" * 200}
    body = json.dumps({"results": batch}).encode()
    assert len(body) > 1_000_000

    start = time.monotonic()
    answer = push(body)

    assert answer.json == {"received": 2000, "new": 1998}
    assert time.monotonic() - start < 5
    assert push.status(paths[-1]) == "delivered"


def test_small_reports_by_the_thousand(push: Pusher) -> None:
    """As many reports as a body has room for are taken, however small they are."""
    tiny = [{"messageId": f"t{number}", "status": {"name": "X"}} for number in range(20_000)]

    assert push({"results": tiny}).json == {"received": 20_000, "new": 20_000}


def test_four_mebibytes(push: Pusher) -> None:
    """A body of 4 MiB is read, one byte more is refused."""
    empty = b'{"results": []}'
    full = empty.ljust(4 * 1024 * 1024)

    assert push(full).json == {"received": 0, "new": 0}
    answer = push(full + b" ")
    assert (answer.status_code, answer.json["code"]) == (413, "body_too_large")


def test_other_methods(push: Pusher) -> None:
    """Reports are pushed, not asked for."""
    assert push.caller.get(PATH, headers={"Authorization": RIGHT}).status_code == 405


@pytest.fixture(scope="module")
def hooked(module_settings: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield a served API that takes reports, with the simulator subscribed to push them there."""
    differing = {"OTPQUEUE_RECEIPTS_USER": USER, "OTPQUEUE_RECEIPTS_PASSWORD": "plain"}
    with serving(module_settings | differing, tmp_path_factory.mktemp("hooked")) as served:
        provisioning.subscribe_to_reports(
            served.parts.transport, url=served.url + PATH, username=USER, password="plain"
        )
        yield served


def when(call: Callable[[], str], expected: str) -> None:
    """Wait until a call returns what is expected."""
    deadline = time.monotonic() + 10
    while (found := call()) != expected:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


MAGIC = {
    "+442079460920": "undelivered",
    "+442079460921": "undelivered",
    "+442079460922": "undelivered",
    "+442079460927": "delivered",
    "+442079460928": "delivered",
    "+442079460929": "delivered",
    "+442079460930": "delivered",
}


def test_pushed_by_the_provider(hooked: Served) -> None:
    """Reports pushed over HTTP move requests: final at once, doubled, reordered, early, mended."""
    sent = {number: hooked.sent(number) for number in MAGIC}

    for number, status in MAGIC.items():
        path, code = sent[number]
        when(lambda path=path: str(hooked.call("GET", path).json()["status"]), status)  # type: ignore[misc]
        assert hooked.call("POST", f"{path}/verify", json={"code": code}).status_code == 200


def open_report(url: str, *headers: str, length: int = 1_000_000) -> socket.socket:
    """Begin to push a large report: its head, and one byte of its body."""
    address = urlsplit(url)
    connection = socket.create_connection((address.hostname, address.port), timeout=20)
    head = [f"POST {PATH} HTTP/1.1", "Host: x", "Content-Type: application/json", *headers]
    connection.sendall("\r\n".join([*head, f"Content-Length: {length}", "", "{"]).encode())
    return connection


def test_unauthenticated_calls_take_no_slots(hooked: Served) -> None:
    """Who has not the credentials is refused by the head: Infobip's reports have the places for bodies."""
    strangers = [open_report(hooked.url, "Authorization: Basic eDp5") for _ in range(2 * bridge.LARGE_BODIES)]
    try:
        said = [one.recv(2000) for one in strangers]
        body = b'{"results": [' + b" " * 20_000 + b"]}"
        headers = {"Authorization": basic(f"{USER}:plain"), "Content-Type": "application/json"}
        reported = hooked.call("POST", PATH, data=body, headers=headers)
    finally:
        for one in strangers:
            one.close()

    assert {one.split(b"\r\n")[0] for one in said} == {b"HTTP/1.1 401 Unauthorized"}
    assert b'www-authenticate: basic realm="delivery reports"' in said[0].lower()
    assert b'"code":"unauthenticated"' in said[0]
    assert (reported.status_code, reported.json()) == (200, {"received": 0, "new": 0})


def test_body_of_an_unauthenticated_call_is_not_read(hooked: Served) -> None:
    """A body that is too large, or comes in chunks without end, makes no other answer."""
    for headers in ((), ("Transfer-Encoding: chunked",)):
        with open_report(hooked.url, *headers, length=10**9 if not headers else 0) as connection:
            assert connection.recv(2000).startswith(b"HTTP/1.1 401 ")


def test_wrong_password_costs_no_connection(
    caller: Caller, make_other_parts: MakeOtherParts, nowhere: str
) -> None:
    """Strangers are refused without a look into Postgres: also while it is away."""
    parts = make_other_parts(
        DATABASE_URL=f"postgresql://x@{nowhere}/x",
        OTPQUEUE_RECEIPTS_USER=USER,
        OTPQUEUE_RECEIPTS_PASSWORD=PASSWORD,
    )
    push = Pusher(caller.over(parts))

    assert push({"results": []}, authorization=basic(f"{USER}:wrong")).status_code == 401
    assert push({"results": [report("x")]}).status_code == 503
