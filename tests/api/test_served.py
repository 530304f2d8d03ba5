"""The API as granian serves it: what HTTP itself brings, many callers at once, and the logs."""

from __future__ import annotations

import json
import socket
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
import requests

from tests.api import contract
from tests.api.serving import Served
from tests.conftest import NO_LIMITS

ASK = "/v1/otp-requests"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def module_settings(module_settings: dict[str, str]) -> dict[str, str]:
    """Return settings under which one caller may ask as often as these tests do."""
    return module_settings | NO_LIMITS


def raw(served: Served, request: bytes, *later: bytes) -> bytes:
    """Send these bytes, in pieces with pauses between, and return all that is answered."""
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(request)
        for piece in later:
            time.sleep(0.15)
            connection.sendall(piece)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
        return answer


def head(served: Served, *headers: str, path: str = ASK, method: str = "POST") -> bytes:
    """Return the head of a request that ends its connection."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    lines += [f"Authorization: Bearer {served.key}", "Content-Type: application/json", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"


def test_whole_path(served: Served) -> None:
    """A code travels from request to verified over HTTP."""
    accepted = served.call("POST", ASK, json={"phone_number": "+447700900001"})
    path = accepted.headers["Location"]
    served.parts.pump.run()

    sent = served.call("GET", path)
    verified = served.call("POST", f"{path}/verify", json={"code": served.provider.code("+447700900001")})
    again = served.call("GET", path, headers={"If-None-Match": sent.headers["ETag"]})
    known = served.call("GET", path, headers={"If-None-Match": again.headers["ETag"]})

    assert accepted.status_code == 202
    assert sent.json()["status"] == "sent"
    assert (verified.status_code, verified.json()["verified"]) == (200, True)
    assert (again.status_code, again.json()["status"]) == (200, "verified")
    assert (known.status_code, known.content) == (304, b"")


def test_fifty_checks_of_one_right_code(served: Served) -> None:
    """Of fifty checks of the right code at once exactly one is a 200, all others are 409."""
    path, code = served.sent("+447700900002")

    def check(_: int) -> tuple[int, str | None]:
        answer = served.call("POST", f"{path}/verify", json={"code": code})
        return answer.status_code, answer.json().get("code")

    with ThreadPoolExecutor(50) as pool:
        answers = Counter(pool.map(check, range(50)))

    assert answers[200, None] == 1
    assert answers[409, "already_verified"] + answers[409, "check_in_progress"] == 49


def test_fifty_requests_for_one_number(served: Served) -> None:
    """Of fifty requests for one number and session at once all are accepted and one lives."""
    ask = {"phone_number": "+447700900003", "session_id": "one"}

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda _: served.call("POST", ASK, json=ask), range(50)))
    states = [served.call("GET", answer.headers["Location"]).json() for answer in answers]

    assert {answer.status_code for answer in answers} == {202}
    assert Counter(state["status"] for state in states) == {"queued": 1, "cancelled": 49}
    assert {state["reason"] for state in states} == {None, "replaced"}


def test_many_waiters(served: Served) -> None:
    """Callers that wait, more than there are places, do not keep others from being served."""
    path = served.ask("+447700900004")["id"]
    with ThreadPoolExecutor(40) as pool:
        waiting = [pool.submit(served.call, "GET", f"{ASK}/{path}?wait=20") for _ in range(40)]
        other = served.call("POST", ASK, json={"phone_number": "+447700900005"})

        served.parts.pump.run()
        statuses = Counter(answer.result().json()["status"] for answer in waiting)

    assert other.status_code == 202
    assert statuses["sent"] >= 1
    assert set(statuses) <= {"queued", "sending", "sent"}


@pytest.mark.parametrize("pieces", [1, 3, 20])
def test_chunked_body(served: Served, pieces: int) -> None:
    """A body without a length that comes in pieces, with pauses between, is read to its end."""
    body = json.dumps({"phone_number": "+447700900006"}).encode()
    size = -(-len(body) // pieces)
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    coded = [f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n" for chunk in chunks]

    answer = raw(
        served, head(served, "Transfer-Encoding: chunked"), *coded[:3], b"".join(coded[3:]) + b"0\r\n\r\n"
    )

    assert answer.startswith(b"HTTP/1.1 202")


def test_body_in_two_pieces(served: Served) -> None:
    """A body with a length that comes in pieces is read to its end."""
    body = json.dumps({"phone_number": "+447700900007"}).encode()

    answer = raw(served, head(served, f"Content-Length: {len(body)}") + body[:10], body[10:])

    assert answer.startswith(b"HTTP/1.1 202")


def test_large_chunked_body(served: Served) -> None:
    """A megabyte without a length is refused as too large."""
    chunks = (b" " * 10_000 for _ in range(100))

    answer = served.call("POST", ASK, data=chunks, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_large_body(served: Served) -> None:
    """A megabyte with a length is refused as too large."""
    answer = served.call("POST", ASK, data=b" " * 1_000_000, headers=JSON)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


def test_large_body_is_not_waited_for(served: Served) -> None:
    """A length that is too large is refused before the body comes."""
    answer = raw(served, head(served, "Content-Length: 1000000000") + b"{")

    assert answer.startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("length", ["x", "-1", "1.5", "99999999999999999999999"])
def test_invalid_content_length(served: Served, length: str) -> None:
    """A Content-Length that is no length is the caller's fault."""
    answer = raw(served, head(served, f"Content-Length: {length}") + b"{}")

    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 413"))


@pytest.mark.parametrize(
    "header",
    ["Authorization: Bearer \x80\xff", "X-Request-Id: \xff\xfe", "If-None-Match: \xff", "Content-Type: \xe9"],
)
def test_headers_that_are_no_text(served: Served, header: str) -> None:
    """Bytes in a header that are no UTF-8 break nothing."""
    name = header.partition(":")[0]
    lines = [line for line in head(served).split(b"\r\n")[:-2] if not line.startswith(name.encode())]
    request = b"\r\n".join([*lines, header.encode("latin-1"), b"Content-Length: 2", b"", b"{}"])

    answer = raw(served, request)

    assert answer.startswith(b"HTTP/1.1 4")
    assert served.call("GET", "/health/live").status_code == 200


@pytest.mark.parametrize("path", [f"{ASK}/%ff", f"{ASK}/\xff", f"{ASK}/%00", "//", "/a/../health", "/%"])
def test_paths_that_are_no_text(served: Served, path: str) -> None:
    """Bytes in a path that are no UTF-8 break nothing."""
    answer = raw(served, head(served, path=path, method="GET"))

    assert answer.startswith(b"HTTP/1.1 4")


def test_very_long_header(served: Served) -> None:
    """A header of 20 KB is refused."""
    answer = served.call("GET", f"{ASK}/x", headers={"Authorization": "Bearer " + "x" * 20_000})

    assert (answer.status_code, answer.json()["code"]) == (431, "headers_too_large")


def test_half_a_body(served: Served) -> None:
    """A caller that goes away in the middle of its body leaves nothing behind."""
    before = len(served.records("internal_error"))
    address = urlsplit(served.url)
    with socket.create_connection((address.hostname, address.port), timeout=20) as connection:
        connection.sendall(head(served, "Content-Length: 100") + b'{"phone_number": "+44770')

    assert served.call("GET", "/health/live").status_code == 200
    assert len(served.records("internal_error")) == before


def test_refusals_over_http(served: Served) -> None:
    """Refusals carry the same documents and headers as in a test client."""
    answers = [
        requests.request("POST", served.url + ASK, timeout=20),
        served.call("POST", ASK, data=b"{", headers=JSON),
        served.call("GET", "/nowhere"),
        served.call("DELETE", ASK),
        served.call("POST", "/request-otp", json={}, headers={"Authorization": "Bearer x"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 400, 404, 405, 401]
    for answer, (method, path) in zip(
        answers,
        [("POST", ASK), ("POST", ASK), ("GET", "/nowhere"), ("DELETE", ASK), ("POST", "/request-otp")],
        strict=True,
    ):
        contract.check(method, path, answer.status_code, answer.headers, answer.text)


def test_pages_over_http(served: Served) -> None:
    """The docs, their style sheet and the document are served; the try-it page is not."""
    answers = [served.call("GET", path) for path in ("/docs", "/assets/page.css", "/openapi.json", "/try")]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 404]


def test_bug(served: Served) -> None:
    """What goes wrong inside is a 500 problem without details, logged with its id and without secrets."""
    body = {
        "phone_number": "+447700900008",
        "client_reference": "a private reference",
        "session_id": "a private session",
        "client_ip": "198.51.100.77",
    }
    path = f"{ASK}/{served.ask('+447700900009')['id']}"
    with served.parts.engine.connect() as conn:
        conn.exec_driver_sql("ALTER TABLE otp_requests RENAME TO lost")
        try:
            answers = [
                served.call("POST", ASK, json=body, headers={"X-Request-Id": "bug-1"}),
                served.call("GET", path),
                served.call(
                    "POST", f"{path}/verify", json={"code": "918273", "session_id": "a private session"}
                ),
                served.call("DELETE", path),
                served.call("POST", "/request-otp", json={"phoneNumber": "+447700900008"}),
            ]
        finally:
            conn.exec_driver_sql("ALTER TABLE lost RENAME TO otp_requests")
        # Here the statement that fails holds what the caller sent.
        conn.exec_driver_sql("ALTER TABLE otp_requests RENAME COLUMN client_reference TO lost")
        try:
            answers.append(served.call("POST", ASK, json=body, headers={"X-Request-Id": "bug-2"}))
        finally:
            conn.exec_driver_sql("ALTER TABLE otp_requests RENAME COLUMN lost TO client_reference")

    for answer in answers:
        assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
        assert "otp_requests" not in answer.json()["detail"]
    logged = [record["request_id"] for record in served.records("internal_error")]
    assert logged.count("bug-1") == logged.count("bug-2") == 1
    log = served.log.read_text()
    for secret in ("700900008", "private", "198.51.100.77", "918273", served.key):
        assert secret not in log
    assert served.call("GET", path).status_code == 200


def test_bug_while_waiting(served: Served) -> None:
    """The thread that asks for all waiters outlives a bug: a later waiter hears of its change."""
    path = f"{ASK}/{served.ask('+447700900010')['id']}"
    with ThreadPoolExecutor(1) as pool, served.parts.engine.connect() as conn:
        waiting = pool.submit(served.call, "GET", f"{path}?wait=2")
        time.sleep(0.4)
        conn.exec_driver_sql("ALTER TABLE otp_requests RENAME TO lost")
        time.sleep(0.4)
        conn.exec_driver_sql("ALTER TABLE lost RENAME TO otp_requests")
        assert waiting.result().json()["status"] == "queued"

        later = pool.submit(served.call, "GET", f"{path}?wait=25")
        time.sleep(0.3)
        started = time.monotonic()
        served.call("DELETE", path)
        answer = later.result()

    assert answer.json()["status"] == "cancelled"
    assert time.monotonic() - started < 15


def test_requests_are_logged(served: Served) -> None:
    """Each call leaves one record with its id, route and status; probes leave none."""
    path = f"{ASK}/{served.ask('+447700900011')['id']}"

    served.call("GET", f"{path}?wait=0", headers={"X-Request-Id": "seen-1"})
    served.call("GET", "/health/live", headers={"X-Request-Id": "probe-1"})

    (record,) = [one for one in served.records("http_request") if one["request_id"] == "seen-1"]
    assert (record["route"], record["status"]) == (f"{ASK}/{{request_id}}", 200)
    assert (record["client"], record["process"]) == ("served", "api")
    assert record["otp_id"] == path.rpartition("/")[2]
    assert not [one for one in served.records("http_request") if one["request_id"] == "probe-1"]


def test_no_secrets_in_the_logs(served: Served) -> None:
    """Neither a number, a code, a key nor a session of all that was asked here is in the logs."""
    path, code = served.sent("+447700900012", session_id="a private session")
    served.call("POST", f"{path}/verify", json={"code": code, "session_id": "another private one"})
    served.call("POST", f"{path}/verify", json={"code": code, "session_id": "a private session"})
    served.call("POST", ASK, json={"phone_number": "+447700900012345"})

    log = served.log.read_text()

    assert path.rpartition("/")[2] in log
    for secret in ("7700900", f'"{code}"', served.key, "private", served.provider.messages()[0]["pinId"]):
        assert secret not in log
    assert all(line.startswith("{") for line in log.splitlines())
