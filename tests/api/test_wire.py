"""The door on the wire: heads that mean two things, callers that dawdle, methods and paths that trick."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest

from otpqueue.api.http.bridge import MAX_BODY_BYTES
from tests.api import contract
from tests.api.serving import Served, serving, settings_over_a_database
from tests.conftest import Engines

ASK = "/v1/otp-requests"
NIL = "00000000-0000-7000-8000-000000000000"
BODY = b'{"phone_number": "+447700900123"}'


@pytest.fixture(scope="module")
def hasty(engines: Engines, _simulator: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Yield an API with little patience and few threads."""
    with settings_over_a_database(engines, provider_url=_simulator) as settings:
        little = {
            "OTPQUEUE_HEADER_TIMEOUT_S": "1",
            "OTPQUEUE_TUNING_BODY_TIMEOUT_S": "1",
            "OTPQUEUE_API_THREADS": "8",
        }
        with serving(settings | little, tmp_path_factory.mktemp("hasty")) as served:
            yield served


def connect(served: Served, *, timeout: float = 20) -> socket.socket:
    """Return a connection to the API."""
    address = urlsplit(served.url)
    return socket.create_connection((address.hostname, address.port), timeout=timeout)


def read(connection: socket.socket) -> bytes:
    """Return all that comes until the connection ends."""
    answer = b""
    try:
        while piece := connection.recv(65536):
            answer += piece
    except ConnectionError:
        pass
    return answer


def say(served: Served, request: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Send these bytes; return status, headers and body of each answer until the API ends the connection."""
    with connect(served) as connection:
        connection.sendall(request)
        rest, answers = read(connection), []
    while rest:
        head, _, rest = rest.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        status = int(line.split()[1])
        headers = {name.lower(): value for name, _, value in (one.partition(": ") for one in lines)}
        if status == 100:
            continue
        length = int(headers.get("content-length", 0))
        answers.append((status, headers, rest[:length]))
        rest = rest[length:]
    return answers


def ask(served: Served, *lines: str | bytes, body: bytes = BODY, key: bool = True) -> bytes:
    """Return a request for a code with these header lines."""
    head = [b"POST /v1/otp-requests HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    if key:
        head.append(b"Authorization: Bearer " + served.key.encode())
    head += [line.encode("latin-1") if isinstance(line, str) else line for line in lines]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def refused(answers: list[tuple[int, dict[str, str], bytes]], status: int, code: str) -> dict[str, Any]:
    """Hold that there was one answer, this problem, and that the connection ended with it; return it."""
    ((found, headers, body),) = answers
    assert found == status
    contract.check_problem(ASK, found, headers, body.decode())
    problem: dict[str, Any] = json.loads(body)
    assert problem["code"] == code
    assert headers["connection"] == "close"
    return problem


LENGTH = f"Content-Length: {len(BODY)}"
TWICE = [
    ("Authorization: Bearer x", "authorization"),
    ("Host: elsewhere", "host"),
    ("Content-Type: application/json", "content-type"),
]


@pytest.mark.parametrize(("line", "name"), TWICE, ids=[name for _, name in TWICE])
def test_header_that_comes_twice(served: Served, line: str, name: str) -> None:
    """A header that decides something comes once: a proxy may have looked at the other one."""
    problem = refused(say(served, ask(served, LENGTH, line)), 400, "bad_http")

    assert name in problem["detail"]


def test_idempotency_key_that_comes_twice(served: Served) -> None:
    """So it is with the key of idempotency."""
    request = ask(served, LENGTH, "Idempotency-Key: a", "idempotency-key: b")

    assert "idempotency-key" in refused(say(served, request), 400, "bad_http")["detail"]


@pytest.mark.parametrize(
    "lines",
    [
        ("Content-Length: 33", "Content-Length: 34"),
        ("Content-Length: 33, 33",),
        ("Content-Length: +33",),
        ("Content-Length: 0x21",),
        ("Content-Length: 33 33",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding : chunked",),
        ("X-A: b\r\n folded: c", LENGTH),
        ("X-A: b\rX-B: c", LENGTH),
        ("X-A: b\x00", LENGTH),
        ("X A: b", LENGTH),
        (": b", LENGTH),
    ],
    ids=repr,
)
def test_heads_that_mean_two_things(served: Served, lines: tuple[str, ...]) -> None:
    """What servers read differently is refused before it is a call, and the connection ends."""
    ((status, headers, body),) = say(served, ask(served, *lines))

    assert (status, body) == (400, b"")
    assert headers["connection"] == "close"


@pytest.mark.parametrize("coding", ["gzip, chunked", "chunked, chunked"])
def test_other_transfer_codings(served: Served, coding: str) -> None:
    """Of transfer codings only `chunked`, once, is taken."""
    request = ask(served, f"Transfer-Encoding: {coding}", body=b"0\r\n\r\n")

    ((status, headers, _),) = say(served, request)

    assert status == 400
    assert headers["connection"] == "close"


@pytest.mark.parametrize("first", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_smuggled_request(served: Served, first: str) -> None:
    """With a length and a coding the coding counts, and what follows on the connection is never a request."""
    second = ({"Content-Length: 5", "Transfer-Encoding: chunked"} - {first}).pop()
    smuggled = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"

    answers = say(served, ask(served, first, second, body=b"0\r\n\r\n" + smuggled))

    ((status, headers, _),) = answers
    assert status == 400
    assert headers["connection"] == "close"


def test_length_that_is_too_short(served: Served) -> None:
    """What follows the body is another request, and must be one."""
    answers = say(served, ask(served, LENGTH, body=BODY + b'{"phone_number": "x"}\r\n\r\n'))

    assert [status for status, _, _ in answers] == [202, 400]


def test_names_with_underscores(served: Served) -> None:
    """`Content_Length` and `X_Request_Id` are not what they look like."""
    request = ask(served, LENGTH, "Content_Length: 2", "X_Request_Id: not-mine", "Connection: close")

    ((status, headers, _),) = say(served, request)

    assert status == 202
    assert headers["x-request-id"] != "not-mine"


def test_host_is_missing(served: Served) -> None:
    """A call by HTTP/1.1 names its host."""
    request = b"GET /health/live HTTP/1.1\r\n\r\n"

    assert "Host" in refused(say(served, request), 400, "bad_http")["detail"]


def test_header_that_is_no_text(served: Served) -> None:
    """A header that is not ASCII is not taken for one that is empty."""
    request = ask(served, LENGTH, b"Idempotency-Key: \xff\xfe")

    assert "ASCII" in refused(say(served, request), 400, "bad_http")["detail"]


@pytest.mark.parametrize(
    "lines",
    [[f"X-{number}: a" for number in range(70)], ["X-A: " + "a" * 17_000], ["X-A: " + "a" * 9_000] * 2],
    ids=["many", "long", "long together"],
)
def test_large_headers(served: Served, lines: list[str]) -> None:
    """Over 64 headers or 16 KiB of them are refused in a problem."""
    refused(say(served, ask(served, LENGTH, *lines)), 431, "headers_too_large")


@pytest.mark.parametrize("lines", [["X-A: " + "a" * 300_000], [f"X-{number}: a" for number in range(200)]])
def test_huge_headers(served: Served, lines: list[str]) -> None:
    """Far more is refused by the server itself, without a body."""
    ((status, _, body),) = say(served, ask(served, LENGTH, *lines, body=b""))

    assert (status, body) == (431, b"")


def test_long_url(served: Served) -> None:
    """Path and query of over 8 KiB are refused in a problem."""
    request = f"GET /{'x' * 9000} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    refused(say(served, request), 414, "uri_too_long")


def test_body_that_is_shorter_than_it_says(served: Served) -> None:
    """A caller that stops sending, but listens, hears of it."""
    with connect(served) as connection:
        connection.sendall(ask(served, "Content-Length: 1000"))
        connection.shutdown(socket.SHUT_WR)
        answer = read(connection)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PROPFIND", "FROB", "get", "+447700900123"])
@pytest.mark.parametrize("path", [ASK, f"{ASK}/{NIL}", "/health", "/docs"])
def test_odd_methods(served: Served, method: str, path: str) -> None:
    """A method that a path does not take, known or not, is a 405 that says which it takes."""
    if method == "CONNECT":
        path = "localhost:443"  # names no path, and is answered as one for `/`
    request = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()

    ((status, headers, body),) = say(served, request)

    contract.check_problem(path, status, headers, body.decode())
    assert status == 405
    assert "OPTIONS" in headers["allow"]
    assert "7700900123" not in served.log.read_text()


def test_head_and_options(served: Served) -> None:
    """HEAD is for probes; OPTIONS tells what a path takes; the server as a whole has no options."""
    heads = [
        served.call("HEAD", path, checked=False).status_code
        for path in ("/health", "/health/live", f"{ASK}/{NIL}", "/docs")
    ]
    ((status, _, _),) = say(served, b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

    assert heads == [200, 200, 405, 200]
    assert served.call("OPTIONS", ASK).headers["Allow"] == "GET, POST"
    assert status == 404


@pytest.mark.parametrize(
    "path",
    [
        "//v1/otp-requests",
        "/v1//otp-requests",
        "/v1/./otp-requests",
        "/v1/x/../otp-requests",
        "/%2e%2e/v1/otp-requests",
        "/v1/otp-requests/",
        "/v1/otp-requests/%2e%2e/otp-requests",
        "/v1/otp-requests%00",
        "/v1/otp-requests%20",
        "/v1/otp-requests;x=y",
        "/v1%5cotp-requests",
        "/v1/otp%252Drequests",
        "/%ff/v1/otp-requests",
        "/v1/otp-requests%0d%0aX-Injected:%201",
        "/..%c0%af../etc/passwd",
    ],
)
def test_path_tricks(served: Served, path: str) -> None:
    """What is not a path of ours to the letter is a 404, whatever it becomes somewhere else."""
    request = ask(served, LENGTH, "Connection: close").replace(ASK.encode(), path.encode(), 1)

    ((status, headers, body),) = say(served, request)

    assert status == 404
    contract.check_problem(path, status, headers, body.decode())
    assert json.loads(body)["code"] in {"not_found", "request_not_found"}
    assert "x-injected" not in headers


@pytest.mark.parametrize(
    "path", ["/v1%2Fotp-requests", "/%76%31/otp-requests", "http://elsewhere/v1/otp-requests"]
)
def test_other_spellings_of_a_path(served: Served, path: str) -> None:
    """An encoded path is the path it encodes, with all its rules: the key is asked for."""
    request = ask(served, LENGTH, "Connection: close", key=False).replace(ASK.encode(), path.encode(), 1)

    ((status, _, _),) = say(served, request)

    assert status == 401


def test_no_banner(served: Served) -> None:
    """The server does not tell what it is."""
    answers = [served.call("GET", path) for path in ("/health/live", "/nowhere", "/docs")]

    for answer in answers:
        assert answer.headers["Server"] == ""
        assert "granian" not in str(answer.headers).lower()


def ended_within(connection: socket.socket, seconds: float) -> bytes:
    """Return what the API says until it ends the connection; fail if it does not in time."""
    connection.settimeout(seconds)
    return read(connection)


def trickle(connection: socket.socket, count: int, *, pause: float) -> int:
    """Send bytes one by one until the API ends the connection; return how many were sent, at most `count`."""
    for sent in range(count):
        try:
            connection.sendall(b" ")
        except ConnectionError:
            return sent
        time.sleep(pause)
    return count


def test_head_that_does_not_come(hasty: Served) -> None:
    """A connection without a whole head is ended: an idle one, half a head, and a head a byte at a time."""
    with connect(hasty) as idle, connect(hasty) as half, connect(hasty) as slow:
        half.sendall(b"GET /health HTTP/1.1\r\nHost: loc")
        slow.sendall(b"GET /health HTTP/1.1\r\nX-A: ")

        assert trickle(slow, 1000, pause=0.05) < 1000
        assert ended_within(idle, 20) == ended_within(half, 20) == b""


@pytest.mark.parametrize("head", ["Content-Length: 33", "Transfer-Encoding: chunked"])
def test_body_that_does_not_come(hasty: Served, head: str) -> None:
    """A body that does not come is answered 408, and the connection ends, though the caller keeps it open."""
    with connect(hasty) as connection:
        connection.sendall(ask(hasty, head, body=b"5\r\n{" if "chunked" in head else b"{"))

        answer = ended_within(connection, 20)

    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"body_timeout"' in answer


@pytest.mark.parametrize("path", [ASK, "/request-otp"])
def test_body_a_byte_at_a_time(hasty: Served, path: str) -> None:
    """So is one that comes a byte at a time; the guide's calls say it in the guide's words."""
    with connect(hasty) as connection:
        connection.sendall(
            ask(hasty, "Content-Length: 5000", body=b"").replace(ASK.encode(), path.encode(), 1)
        )
        sent = trickle(connection, 2000, pause=0.02)

    assert sent < 2000
    (record,) = [one for one in hasty.records("http_request") if one["status"] == 408][-1:]
    assert record["route"] == path


def test_slow_callers_hold_no_thread(hasty: Served) -> None:
    """Ten times as many slow callers as there are threads, in head and body, and all others are served."""
    slow = [connect(hasty) for _ in range(160)]
    try:
        for number, connection in enumerate(slow):
            request = ask(hasty, "Content-Length: 33", body=b"{")
            connection.sendall(request if number % 2 else request[:60])
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: hasty.call("GET", f"{ASK}/{NIL}").status_code, range(40)))
    finally:
        for connection in slow:
            connection.close()

    assert answers == [404] * 40


def test_refusal_reaches_a_caller_that_is_still_sending(hasty: Served) -> None:
    """Of a body that is too large so much is read that the caller gets to hear the answer."""
    with connect(hasty) as connection:
        connection.sendall(ask(hasty, "Content-Length: 400000", body=b" " * 400_000))
        answer = ended_within(connection, 20)

    assert answer.startswith(b"HTTP/1.1 413")


def test_chunked_body_at_the_bound(served: Served) -> None:
    """16 KiB are taken, one byte more is not, though no length was given."""
    body = BODY.ljust(MAX_BODY_BYTES)

    for more, expected in ((b"", 202), (b" ", 413)):
        whole = body + more
        chunks = [whole[start : start + 1000] for start in range(0, len(whole), 1000)]
        coded = b"".join(f"{len(one):x}\r\n".encode() + one + b"\r\n" for one in chunks) + b"0\r\n\r\n"
        ((status, headers, _),) = say(served, ask(served, "Transfer-Encoding: chunked", body=coded))
        assert status == expected
        assert headers["connection"] == "close"


def test_caller_that_does_not_read(hasty: Served) -> None:
    """Thousands of calls whose answers nobody reads hold no thread."""
    with connect(hasty, timeout=2) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 100
        for _ in range(10_000):
            try:
                deaf.sendall(request)
            except TimeoutError:  # all buffers are full: nobody takes more
                break
        else:
            pytest.fail("there is no end to what is taken")

        assert hasty.call("GET", f"{ASK}/{NIL}").status_code == 404


def test_nothing_went_wrong_inside(served: Served, hasty: Served) -> None:
    """None of it was an error of ours."""
    for one in (served, hasty):
        log = one.log.read_text()
        assert not re.findall(r"internal_error|raised an exception|Traceback", log)
