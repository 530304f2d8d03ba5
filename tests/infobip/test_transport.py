"""HTTP to Infobip: every failure of a server, network or environment is a value, in bounded time."""

from __future__ import annotations

import datetime as dt
import gzip
import ipaddress
import itertools
import json
import random
import socket
import ssl
import time
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from otpqueue.infobip.transport import (
    MAX_BODY_BYTES,
    NoResponse,
    NotConnected,
    ProviderResponse,
    Reply,
    Transport,
)
from tests.infobip.conftest import API_KEY, Connect, Script, ScriptedServer, at_most, http

TIMEOUT = NoResponse(code="timeout")
CUT = NoResponse(code="connection_cut")
TOO_LARGE = NoResponse(code="answer_too_large")
NOT_CONNECTED = NotConnected(code="connection_failed")


def once(*parts: bytes | float) -> Script:
    """Return a script of these parts, after which the server closes."""
    return lambda: parts


def post(transport: Transport) -> Reply:
    """Make a call as a send does, which must come back in time."""
    with at_most(5):
        return transport.call("POST", "/2fa/2/pin?ncNeeded=false", {"to": "447700900123"})


def test_call_is_sent_as_the_api_wants_it(connect: Connect) -> None:
    """A call carries the key, says that it is and takes JSON, and keeps path and query as they are."""
    with ScriptedServer(http(b'{"pinId": "1"}')) as server:
        reply = post(connect(server.url + "/"))

        assert reply == ProviderResponse(status=200, body={"pinId": "1"})
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        first, *headers = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in headers)}
        assert first == "POST /2fa/2/pin?ncNeeded=false HTTP/1.1"
        assert fields["authorization"] == f"App {API_KEY}"
        assert fields["content-type"] == fields["accept"] == "application/json"
        assert fields["user-agent"] == "otpqueue"
        assert fields["host"] == f"127.0.0.1:{server.port}"
        assert json.loads(body) == {"to": "447700900123"}


def test_call_without_a_body_has_none(connect: Connect) -> None:
    """A GET says nothing."""
    with ScriptedServer(http(b"[]")) as server:
        reply = connect(server.url).call("GET", "/2fa/2/applications")

        assert reply == ProviderResponse(status=200, body=[])
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"GET /2fa/2/applications HTTP/1.1")
        assert b"content-type" not in head.lower()
        assert body == b""


def test_one_call_leaves_nothing_for_the_next(connect: Connect) -> None:
    """Body and method of one call do not leak into another."""
    with ScriptedServer(http()) as server:
        transport = connect(server.url)
        transport.call("PUT", "/a", {"long": "x" * 500})
        transport.call("GET", "/b")
        transport.call("POST", "/c", {})

        heads = [request.partition(b"\r\n\r\n") for request in server.requests]
        assert [head.split(b" ")[0] for head, _, _ in heads] == [b"PUT", b"GET", b"POST"]
        assert [body for _, _, body in heads][1:] == [b"", b"{}"]


CHUNKED = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'5\r\n{"a":\r\n3\r\n 1}\r\n0\r\nX-Trailer: x\r\n\r\n'
)


@pytest.mark.parametrize(
    "answer",
    [
        http(b'{"a": 1}'),
        http(b'{"a": 1}', status="400 Bad Request"),
        http(b'{"a": 1}', headers=["Connection: keep-alive", "Set-Cookie: a=b"]),
        http(gzip.compress(b'{"a": 1}'), headers=["Content-Encoding: gzip"]),
        http(zlib.compress(b'{"a": 1}'), headers=["Content-Encoding: deflate"]),
        CHUNKED,
    ],
    ids=["plain", "error", "cookie", "gzip", "deflate", "chunked"],
)
def test_connection_is_used_again(connect: Connect, answer: bytes) -> None:
    """A connection serves one call after another, however the answers are framed; no cookie comes back."""
    with ScriptedServer(answer) as server:
        transport = connect(server.url)

        replies = [post(transport) for _ in range(5)]

        assert [reply.body for reply in replies if isinstance(reply, ProviderResponse)] == [{"a": 1}] * 5
        assert server.connections == 1
        assert b"cookie" not in b"".join(server.requests).lower()


@pytest.mark.parametrize(
    "answer",
    [
        http(b'{"a": 1}', headers=["Connection: close"]),
        b'HTTP/1.0 200 OK\r\nContent-Length: 8\r\n\r\n{"a": 1}',
        b'HTTP/1.0 200 OK\r\n\r\n{"a": 1}',
        b'HTTP/1.1 200 OK\r\n\r\n{"a": 1}',
    ],
    ids=["close", "HTTP/1.0", "HTTP/1.0 without a length", "HTTP/1.1 without a length"],
)
def test_connection_that_is_closed_after_the_answer_is_replaced(connect: Connect, answer: bytes) -> None:
    """An answer that ends with its connection is whole, and the next call has a connection of its own."""
    with ScriptedServer(once(answer)) as server:
        transport = connect(server.url)

        replies = [post(transport) for _ in range(3)]

        assert replies == [ProviderResponse(status=200, body={"a": 1})] * 3
        assert server.connections == 3


def test_connection_that_died_while_idle_is_replaced(connect: Connect) -> None:
    """A pooled connection that the server closed meanwhile costs no call."""
    with ScriptedServer(once(http()), http()) as server:
        transport = connect(server.url)
        post(transport)
        time.sleep(0.05)

        assert post(transport) == ProviderResponse(status=200, body={})


def test_calls_run_side_by_side(connect: Connect) -> None:
    """Threads do not wait for each other, and no more connections are kept than the pool has places."""

    def slow() -> Iterable[bytes | float]:
        return (0.15, http())

    with ScriptedServer(slow) as server:
        transport = connect(server.url, connections=8, timeout_s=5)

        with at_most(1.1), ThreadPoolExecutor(8) as threads:
            replies = list(threads.map(lambda _: post(transport), range(8)))

        assert replies == [ProviderResponse(status=200, body={})] * 8


def drip(data: bytes, pause_s: float) -> Script:
    """Return a script that sends one byte at a time."""

    def script() -> Iterable[bytes | float]:
        for byte in data:
            yield bytes([byte])
            yield pause_s

    return script


def for_ever(first: bytes, then: bytes, pause_s: float = 0) -> Script:
    """Return a script that does not end."""

    def script() -> Iterator[bytes | float]:
        yield first
        for part in itertools.repeat(then):
            yield part
            if pause_s:
                yield pause_s

    return script


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"


@pytest.mark.parametrize(
    ("script", "reply"),
    [
        pytest.param(once(10.0), TIMEOUT, id="silent"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\n", 10.0), TIMEOUT, id="silent within the head"),
        pytest.param(once(HEAD + b"{", 10.0), TIMEOUT, id="silent within the body"),
        pytest.param(drip(HEAD, 0.1), TIMEOUT, id="head drips"),
        pytest.param(for_ever(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n", 0.1), TIMEOUT, id="head drips on"),
        pytest.param(for_ever(HEAD, b" ", 0.1), TIMEOUT, id="body drips"),
        pytest.param(
            for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.1),
            TIMEOUT,
            id="chunks drip",
        ),
        pytest.param(for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01), TIMEOUT, id="only 100s"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000 + b"\r\n"), CUT, id="too many headers"),
        pytest.param(once(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000), CUT, id="header too long"),
        pytest.param(for_ever(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65536), CUT, id="header without end"),
        pytest.param(once(b""), CUT, id="cut before the answer"),
        pytest.param(once(b"HTTP/1.1 20"), CUT, id="cut within the status"),
        pytest.param(
            once(b"HTTP/1.1 200"), ProviderResponse(status=200, body=None), id="cut after the status"
        ),
        pytest.param(once(HEAD + b'{"verified": true}'), CUT, id="truncated"),
        pytest.param(
            once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}"), CUT, id="chunk truncated"
        ),
        pytest.param(
            once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n"),
            CUT,
            id="chunk garbage",
        ),
        pytest.param(
            once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n"), CUT, id="chunk of -5"
        ),
        pytest.param(
            for_ever(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", b" " * 65536),
            CUT,
            id="chunk of -1",
        ),
        pytest.param(once(b"\x00\xff\x16\x03garbage\r\n\r\n"), CUT, id="garbage"),
        pytest.param(once(b"220 smtp.example ESMTP\r\n"), CUT, id="another protocol"),
        pytest.param(once(b"HTTP/1.1 abc OK\r\n\r\n"), CUT, id="status is no number"),
        pytest.param(
            once(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}   "),
            CUT,
            id="two lengths",
        ),
        pytest.param(
            once(http(b"not gzip", headers=["Content-Encoding: gzip"])), CUT, id="gzip that is none"
        ),
        pytest.param(
            once(
                http(
                    gzip.compress(b'{"a": "%s"}' % bytes(range(48, 90)))[:-20],
                    headers=["Content-Encoding: gzip"],
                )
            ),
            ProviderResponse(status=200, body=None),
            id="gzip cut short",
        ),
        pytest.param(once(http(b"{" + b" " * MAX_BODY_BYTES + b"}")), TOO_LARGE, id="body over the limit"),
        pytest.param(
            for_ever(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n", b" " * 65536),
            TOO_LARGE,
            id="10 MB",
        ),
        pytest.param(for_ever(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 65536), TOO_LARGE, id="without end"),
        pytest.param(
            for_ever(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                b"10000\r\n" + b" " * 65536 + b"\r\n",
            ),
            TOO_LARGE,
            id="chunks without end",
        ),
    ],
)
def test_invalid_answer_is_a_value(connect: Connect, script: Script, reply: Reply) -> None:
    """A slow, truncated or invalid answer costs at most the timeout and never raises."""
    with ScriptedServer(script) as server:
        transport = connect(server.url, timeout_s=0.4)

        assert post(transport) == reply
        assert len(server.requests) == 1


def test_time_out_is_over_the_whole_answer(connect: Connect) -> None:
    """A byte just before the end of the time does not restart the timeout."""
    with ScriptedServer(once(1.3, b"H", 10.0)) as server:
        transport = connect(server.url, timeout_s=1.5)

        with at_most(2.5):
            assert post(transport) == TIMEOUT


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b"", None),
        (b"<html>", None),
        (b"\xff\xfe", None),
        (b"{", None),
        (b"[" * 60_000, None),
        (b"null", None),
        (b"true", True),
        (b'"text"', "text"),
        (b"\xef\xbb\xbf{}", {}),
        (b'{"a": NaN}', pytest.approx({"a": float("nan")}, nan_ok=True)),
        (b"9" * 60_000, None),
        (b"[" + b" " * (MAX_BODY_BYTES - 2) + b"]", []),
    ],
    ids=[
        "empty",
        "HTML",
        "binary",
        "cut",
        "deep",
        "null",
        "true",
        "text",
        "BOM",
        "NaN",
        "long number",
        "limit",
    ],
)
def test_body_without_json_is_none(connect: Connect, body: bytes, value: object) -> None:
    """An answer with any body is an answer; what is no JSON is no body, up to the limit in size."""
    with ScriptedServer(http(body)) as server:
        reply = post(connect(server.url))

        assert isinstance(reply, ProviderResponse)
        assert reply.body == value


@pytest.mark.parametrize(
    ("head", "reply"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", TOO_LARGE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", CUT),
    ],
    ids=["without length", "chunk of -1"],
)
def test_endless_answer_takes_little_memory(connect: Connect, head: bytes, reply: Reply) -> None:
    """An endless answer is let go of early: neither memory nor traffic grows with it."""
    with ScriptedServer(for_ever(head, b" " * 65536)) as server:
        transport = connect(server.url, timeout_s=5)
        tracemalloc.start()
        try:
            assert post(transport) == reply
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert peak < 2_000_000
    assert server.bytes_sent < 30_000_000


def test_gzip_bomb_takes_little_memory(connect: Connect) -> None:
    """A small answer that unpacks to 50 MB is not unpacked."""
    bomb = gzip.compress(b" " * 50_000_000)

    with ScriptedServer(http(bomb, headers=["Content-Encoding: gzip"])) as server:
        transport = connect(server.url, timeout_s=5)
        tracemalloc.start()
        try:
            assert post(transport) == TOO_LARGE
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert len(bomb) < MAX_BODY_BYTES
    assert peak < 5_000_000


@pytest.mark.parametrize("seed", range(4))
def test_no_bytes_make_a_call_raise(connect: Connect, seed: int) -> None:
    """Answers put together at random from what answers are made of are values, each of them."""
    rng = random.Random(seed)
    pieces = [
        b"HTTP/1.1 ", b"HTTP/1.0 ", b"200", b"204", b"302", b"101", b"999", b" OK", b"\r\n", b"\r\n\r\n",
        b"Content-Length: ", b"Transfer-Encoding: chunked", b"Content-Encoding: gzip",
        b"Content-Encoding: br", b"Content-Encoding: zstd", b"Content-Encoding: gzip, gzip", b"\n",
        b"Set-Cookie: a=b; expires=x", b"Location: //", b"Retry-After: -1", b"Connection: close", b"-5",
        b"0", b"1,2", b":", b"\x00", b"\xff\xfe", b"{}", b"5\r\nabcde\r\n", b"0\r\n\r\n",
        gzip.compress(b"{}"),
    ]  # fmt: skip

    def script() -> Iterable[bytes]:
        start = b"HTTP/1.1 200 OK\r\n" if rng.random() < 0.8 else b""
        return [start + b"".join(rng.choices(pieces, k=rng.randrange(12)))]

    with ScriptedServer(script) as server:
        transport = connect(server.url)

        for _ in range(100):
            assert isinstance(post(transport), ProviderResponse | NoResponse)


@pytest.fixture
def closed_port() -> int:
    """Return a port without a listener."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


def test_refused_connection_is_not_connected(connect: Connect, closed_port: int) -> None:
    """Without a listener the call was not sent."""
    assert post(connect(f"http://127.0.0.1:{closed_port}")) == NOT_CONNECTED


@pytest.mark.parametrize("base_url", ["http://name.invalid", "https://name.invalid", "https://a..b"])
def test_name_without_an_address_is_not_connected(connect: Connect, base_url: str) -> None:
    """With an unresolvable name the call was not sent."""
    assert post(connect(base_url)) == NOT_CONNECTED


def test_connection_that_is_not_taken_up_times_out(connect: Connect) -> None:
    """A host that does not answer to a connection is given up after the time-out to connect."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        try:
            for one in waiting:
                one.setblocking(False)
                one.connect_ex(("127.0.0.1", port))

            reply = post(connect(f"http://127.0.0.1:{port}", connect_timeout_s=0.2))
        finally:
            for one in waiting:
                one.close()

    assert reply == NotConnected(code="connect_timeout")


def test_connect_and_answer_share_one_time_out(connect: Connect) -> None:
    """A time-out to connect that is over the whole one does not lengthen it."""
    with ScriptedServer(once(10.0)) as server:
        transport = connect(server.url, connect_timeout_s=60, timeout_s=0.3)

        assert post(transport) == TIMEOUT


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file with a self-signed certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + signed.public_bytes(serialization.Encoding.PEM)
    )
    return path


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    """Return the TLS side of a server with that certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls_to_a_plain_port_is_not_connected(connect: Connect) -> None:
    """A server that does not speak TLS has seen no call."""
    with ScriptedServer(once(http(status="400 Bad Request"))) as server:
        reply = post(connect(f"https://127.0.0.1:{server.port}"))

        assert reply == NOT_CONNECTED
        assert API_KEY.encode() not in b"".join(server.requests)


def test_tls_handshake_that_hangs_is_not_connected(connect: Connect) -> None:
    """A server that never answers the handshake has seen no call."""
    with ScriptedServer(once(10.0)) as server:
        reply = post(connect(f"https://127.0.0.1:{server.port}", connect_timeout_s=0.2))

        assert isinstance(reply, NotConnected)


def test_untrusted_certificate_is_not_connected(connect: Connect, tls: ssl.SSLContext) -> None:
    """An untrusted server does not receive the API key."""
    with ScriptedServer(http(), tls=tls) as server:
        assert post(connect(server.url)) == NOT_CONNECTED
        assert server.requests == []


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have requests trust our certificate in place of the world's."""
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate))


@pytest.mark.usefixtures("trusted")
def test_tls_connection_is_used_again_and_bounded(connect: Connect, tls: ssl.SSLContext) -> None:
    """Over TLS a connection serves many calls, and a server that drips does not outlast the time-out."""
    with ScriptedServer(http(), http(), for_ever(HEAD, b" ", 0.1), tls=tls) as server:
        transport = connect(server.url)

        assert [post(transport) for _ in range(3)] == [ProviderResponse(status=200, body={})] * 2 + [TIMEOUT]
        assert server.connections == 1


@pytest.mark.usefixtures("trusted")
def test_certificate_of_another_name_is_not_connected(connect: Connect, tls: ssl.SSLContext) -> None:
    """A certificate that is trusted, but for another host, is refused."""
    with ScriptedServer(http(), tls=tls) as server:
        assert post(connect(f"https://localhost:{server.port}")) == NOT_CONNECTED
        assert server.requests == []


def test_environment_changes_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies and netrc of the environment are ignored."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login ann password pw\ndefault login ann password pw\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with (
        ScriptedServer(http(b'{"from": "proxy"}')) as proxy,
        ScriptedServer(http(b'{"from": "us"}')) as server,
    ):
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NO_PROXY", "")

        reply = post(connect(server.url))

        assert reply == ProviderResponse(status=200, body={"from": "us"})
        assert f"Authorization: App {API_KEY}".encode() in server.requests[0]
        assert proxy.connections == 0


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_redirect_is_not_followed(connect: Connect, status: str) -> None:
    """A redirect is an answer like any other and is not followed."""
    with ScriptedServer(http()) as elsewhere:
        redirect = http(status=status, headers=[f"Location: {elsewhere.url}/"])
        with ScriptedServer(redirect) as server:
            reply = post(connect(server.url))

        assert isinstance(reply, ProviderResponse)
        assert reply.status == int(status[:3])
        assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Retry-After: 7", 7.0),
        ("retry-after:  120 ", 120.0),
        ("Retry-After: 0", 0.0),
        ("Retry-After: -1", None),
        ("Retry-After: 1.5", None),
        ("Retry-After: soon", None),
        ("Retry-After: ", None),
        ("Retry-After: ²", None),
        ("Retry-After: Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("Retry-After: 99999999999999999999", 86_400.0),
        ("Retry-After: " + "9" * 1000, 86_400.0),
        ("X: y", None),
    ],
)
def test_retry_after_is_read_in_seconds(connect: Connect, header: str, seconds: float | None) -> None:
    """Seconds are read, up to a day; a date or nonsense is none."""
    with ScriptedServer(http(status="429 Too Many Requests", headers=[header])) as server:
        reply = post(connect(server.url))

        assert reply == ProviderResponse(status=429, body={}, retry_after_s=seconds)


def test_nothing_prints_the_body_or_the_key(connect: Connect, closed_port: int) -> None:
    """Neither an answer's body nor our key shows in what is logged of them."""
    with ScriptedServer(http(b'{"to": "447700900123"}')) as server:
        transport = connect(server.url)
        reply = post(transport)

    printed = (
        f"{reply!r} {reply} {transport!r} {transport} {post(connect(f'http://127.0.0.1:{closed_port}'))!r}"
    )
    assert "447700900123" not in printed
    assert API_KEY not in printed
    assert "status=200" in printed


def test_closed_transport_connects_again(connect: Connect) -> None:
    """Closing lets connections go; a call after it makes a new one."""
    with ScriptedServer(http()) as server:
        transport = connect(server.url)
        post(transport)
        transport.close()

        assert post(transport) == ProviderResponse(status=200, body={})
        assert server.connections == 2
