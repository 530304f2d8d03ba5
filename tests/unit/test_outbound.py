"""POST requests to given URLs: time limits, size limits and the SSRF guard."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from otpqueue.outbound import Outbound, PostUndeliverable, is_public, resolve_with_system
from tests.infobip.conftest import Script, ScriptedServer, http

SECRET_PATH = "/services/T0/s3cret?token=s3cret"
Connect = Callable[..., Outbound]


@pytest.fixture(scope="module")
def usual_authorities() -> ssl.SSLContext:
    """Return the default TLS context. Loading it takes a while."""
    return ssl.create_default_context()


@pytest.fixture
def connect(usual_authorities: ssl.SSLContext) -> Iterator[Connect]:
    """Yield a function that makes an Outbound, by default one that may go to private addresses."""
    made: list[Outbound] = []

    def connect(
        *,
        allow_private: bool = True,
        timeout_s: float = 30,
        resolves_to: list[str] | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> Outbound:
        resolve = resolve_with_system if resolves_to is None else lambda *_: resolves_to
        made.append(
            Outbound(
                allow_private=allow_private,
                timeout_s=timeout_s,
                tls=tls or usual_authorities,
                resolve=resolve,
            )
        )
        return made[-1]

    yield connect
    for outbound in made:
        outbound.close()


def why(outbound: Outbound, url: str) -> str:
    """Return the reason of the PostUndeliverable error."""
    with pytest.raises(PostUndeliverable) as raised:
        outbound.post(url, body=b"{}", headers={})
    return raised.value.reason


def test_post_arrives_as_it_was_given(connect: Connect) -> None:
    """Path, query, headers and body arrive as they are; the status comes back."""
    with ScriptedServer(http(status="204 No Content", body=b"")) as server:
        status = connect().post(
            f"{server.url}/hook?a=%20b&c=d#part",
            body=b'{"a": 1}',
            headers={"Content-Type": "application/json", "webhook-id": "1"},
        )

        assert status == 204
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert first == "POST /hook?a=%20b&c=d HTTP/1.1"
        assert fields["content-type"] == "application/json"
        assert fields["webhook-id"] == "1"
        assert fields["host"] == f"127.0.0.1:{server.port}"
        assert fields["content-length"] == "8"
        assert body == b'{"a": 1}'


@pytest.mark.parametrize(
    "status", ["200 OK", "301 Moved", "302 Found", "307 Temporary", "308 Permanent", "410 Gone", "503 Busy"]
)
def test_every_status_is_an_answer(connect: Connect, status: str) -> None:
    """No redirect is followed, wherever it leads, and nothing is tried twice."""
    with ScriptedServer(http(status=status, headers=["Location: /elsewhere", "Retry-After: 0"])) as server:
        assert connect().post(server.url, body=b"{}", headers={}) == int(status[:3])
        assert len(server.requests) == 1


def test_connection_is_used_again(connect: Connect) -> None:
    """One call after another goes over one connection, and no cookie with it."""
    with ScriptedServer(http(headers=["Set-Cookie: a=b"])) as server:
        outbound = connect()

        for _ in range(3):
            assert outbound.post(server.url, body=b"{}", headers={}) == 200

        assert server.connections == 1
        assert b"cookie" not in b"".join(server.requests).lower()


PRIVATE = [
    "0.0.0.0",  # noqa: S104 - looked at, not bound to
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::127.0.0.1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "2001::1",
    "2001:0:7f00:1::",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456:789a::1",
    "fe80::1",
    "fe80::1%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.1",
    "172.32.0.1",
    "223.255.255.1",
    "2001:4860:4860::8888",
    "2606:4700::1111",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_address_that_is_not_public_is_refused(connect: Connect, address: str) -> None:
    """A name that resolves to a private address is not connected to."""
    assert not is_public(address)
    assert (
        why(connect(allow_private=False, resolves_to=[address]), "https://hook.example") == "address_refused"
    )


@pytest.mark.parametrize("address", PUBLIC)
def test_public_address_is_public(address: str) -> None:
    """The neighbours of what is refused are not."""
    assert is_public(address)


@pytest.mark.parametrize("others", [["8.8.8.8"], ["8.8.8.8", "2606:4700::1111"]])
def test_one_private_address_spoils_a_name(connect: Connect, others: list[str]) -> None:
    """A name with several addresses is refused when one of them is private, wherever it stands."""
    for addresses in itertools.permutations([*others, "127.0.0.1"]):
        outbound = connect(allow_private=False, resolves_to=list(addresses))

        assert why(outbound, "https://hook.example") == "address_refused"


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "127.1",
        "0",
        "localhost",
        "LOCALHOST",
        "localhost.",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[0:0:0:0:0:0:0:1]",
        "169.254.169.254",
    ],
)
def test_no_spelling_of_an_address_leads_to_ourselves(connect: Connect, host: str) -> None:
    """However a host is spelt, what the system makes of it is what is looked at: nothing connects."""
    with ScriptedServer(http()) as server:
        reason = why(connect(allow_private=False), f"https://{host}:{server.port}/")

        assert reason in {"address_refused", "name_not_resolved"}
        assert server.connections == 0


def test_connection_goes_to_the_checked_address(connect: Connect) -> None:
    """The name is resolved once, and a later DNS change has no effect."""
    asked: list[str] = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"] if len(asked) == 1 else ["127.0.0.9"]

    with ScriptedServer(http()) as server:
        outbound = Outbound(allow_private=True, timeout_s=30, resolve=rebinding)
        status = outbound.post(f"http://hook.example:{server.port}/", body=b"{}", headers={})
        outbound.close()

        assert (status, asked) == (200, ["hook.example"])
        assert f"Host: hook.example:{server.port}".encode() in server.requests[0]


def test_each_call_checks_the_addresses(connect: Connect) -> None:
    """A pooled connection does not bypass the address check."""
    places = [["127.0.0.1"], ["10.0.0.1"]]
    authority = trustme.CA()
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)

    with ScriptedServer(http(), tls=certified(authority, "hook.example")) as server:
        outbound = Outbound(allow_private=True, timeout_s=30, tls=trusting, resolve=lambda *_: places.pop(0))
        url = f"https://hook.example:{server.port}/"
        assert outbound.post(url, body=b"{}", headers={}) == 200

        outbound._allow_private = False
        assert why(outbound, url) == "address_refused"
        outbound.close()
        assert len(server.requests) == 1


def test_next_address_is_tried_when_one_takes_no_connection(connect: Connect) -> None:
    """A receiver with a dead address among its addresses is reached by another."""
    with ScriptedServer(http()) as server:
        outbound = connect(resolves_to=["127.0.0.9", "127.0.0.1"])

        assert outbound.post(f"http://hook.example:{server.port}/", body=b"{}", headers={}) == 200


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "url_not_understood"),
        ("hook.example", "url_not_understood"),
        ("//hook.example/", "url_not_understood"),
        ("ftp://hook.example/", "url_not_understood"),
        ("file:///etc/passwd", "url_not_understood"),
        ("gopher://hook.example/", "url_not_understood"),
        ("https://", "url_not_understood"),
        ("https:///hook", "url_not_understood"),
        ("https://hook.example:99999/", "url_not_understood"),
        ("https://hook.example:0/", "url_not_understood"),
        ("https://hook.example:x/", "url_not_understood"),
        ("https://hook .example/", "url_not_understood"),
        ("https://hook.example/\r\nX: y", "url_not_understood"),
        ("https://hook.example\\@127.0.0.1/", "url_not_understood"),
        ("https://hóok.example/", "url_not_understood"),
        ("https://user@hook.example/", "userinfo_refused"),
        ("https://user:s3cret@hook.example/", "userinfo_refused"),
        ("https://hook.example@127.0.0.1/", "userinfo_refused"),
        ("https://@hook.example/", "userinfo_refused"),
        ("http://hook.example/", "https_required"),
        ("https://hook.example:22/", "port_refused"),
        ("https://hook.example:25/", "port_refused"),
        ("https://hook.example:1023/", "port_refused"),
    ],
)
def test_url_is_refused(connect: Connect, url: str, reason: str) -> None:
    """An invalid URL, or one with a password or a foreign port, is rejected before it is resolved."""
    outbound = connect(allow_private=False, resolves_to=["8.8.8.8"])

    assert why(outbound, url) == reason
    with pytest.raises(PostUndeliverable) as raised:
        outbound.check_url(url)
    assert not raised.value.retryable


@pytest.mark.parametrize("port", ["", ":443", ":80", ":1024", ":8443", ":65535"])
def test_url_is_fine(connect: Connect, port: str) -> None:
    """The ports of the web, and those that need no privilege, are allowed."""
    connect(allow_private=False).check_url(f"https://hook.example{port}/hook?a=b")


def test_private_network_may_have_any_port_and_no_tls(connect: Connect) -> None:
    """If private addresses are allowed, so are plain HTTP and every port."""
    connect().check_url("http://relay.local:25/")


HEAD = b"HTTP/1.1 200 OK\r\n"


def drip(first: bytes, then: bytes) -> Script:
    """Return a script without an end."""

    def script() -> Iterator[bytes | float]:
        yield first
        for _ in itertools.count():
            yield then
            yield 0.02

    return script


def flood(first: bytes) -> Script:
    """Return a script that sends as fast as it can, without an end."""
    return lambda: itertools.chain([first], itertools.repeat(b"x" * 65536))


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        pytest.param(lambda: [60.0], "timeout", id="silent"),
        pytest.param(drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timeout", id="only 100s"),
        pytest.param(drip(HEAD, b"X: y\r\n"), "timeout", id="head drips on"),
        pytest.param(flood(HEAD + b"X: "), "connection_cut", id="header without end"),
        pytest.param(lambda: [b""], "connection_cut", id="cut"),
        pytest.param(lambda: [b"220 smtp.example ESMTP\r\n"], "connection_cut", id="another protocol"),
        pytest.param(lambda: [b"\x00\xff\r\n\r\n"], "connection_cut", id="garbage"),
    ],
)
def test_receiver_without_an_answer_is_given_up(connect: Connect, script: Script, reason: str) -> None:
    """A receiver that is silent, slow or mad costs the time-out at most."""
    with ScriptedServer(script) as server:
        outbound = connect(timeout_s=0.4 if reason == "timeout" else 30)

        with pytest.raises(PostUndeliverable) as raised:
            outbound.post(server.url, body=b"{}", headers={})

        assert (raised.value.reason, raised.value.retryable) == (reason, True)
        assert len(server.requests) == 1


def test_status_counts_though_the_body_is_slow(connect: Connect) -> None:
    """A receiver that has said 200 has said it, and is not waited for longer than any other."""
    with ScriptedServer(drip(HEAD + b"Content-Length: 1000\r\n\r\n", b" ")) as server:
        assert connect(timeout_s=1).post(server.url, body=b"{}", headers={}) == 200


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(flood(HEAD + b"\r\n"), id="no length"),
        pytest.param(flood(HEAD + b"Content-Length: 100000000\r\n\r\n"), id="too long"),
        pytest.param(flood(HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n"), id="chunk of -1"),
        pytest.param(lambda: [HEAD + b"Content-Length: 10\r\n\r\nab"], id="cut"),
        pytest.param(
            lambda: [HEAD + b"Content-Encoding: gzip\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab"],
            id="no gzip",
        ),
    ],
)
def test_status_counts_with_any_body(connect: Connect, script: Script) -> None:
    """The body of an answer is let go of, and with it a connection that it has spoilt."""
    with ScriptedServer(script) as server:
        outbound = connect()

        assert outbound.post(server.url, body=b"{}", headers={}) == 200
        assert outbound.post(server.url, body=b"{}", headers={}) == 200
        assert server.bytes_sent < 30_000_000


def test_no_listener(connect: Connect) -> None:
    """A closed port and an unknown name have different reasons. Both are retryable."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert why(connect(), f"http://127.0.0.1:{port}/") == "connection_failed"
    assert why(connect(), "https://name.invalid/") == "name_not_resolved"
    assert why(connect(), f"https://{'a' * 64}.example/") == "name_not_resolved"
    assert why(connect(resolves_to=[]), "https://hook.example/") == "name_not_resolved"


def test_silent_resolver_is_given_up(connect: Connect) -> None:
    """A resolver that does not answer costs no more than the time-out."""
    ended = threading.Event()

    def silent(host: str, port: int) -> list[str]:
        ended.wait(60)
        return ["127.0.0.1"]

    outbound = Outbound(allow_private=True, timeout_s=0.3, resolve=silent)
    try:
        assert why(outbound, "https://hook.example/") == "name_not_resolved"
    finally:
        ended.set()
        outbound.close()


def certified(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """Return a server's side of TLS with a certificate for names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return a certificate authority."""
    return trustme.CA()


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return a client's side of TLS that trusts the authority."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_certificate_is_held_against_the_name(
    connect: Connect, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """The certificate must match the name of the URL, not the address."""
    with ScriptedServer(http(), tls=certified(authority, "hook.example")) as server:
        outbound = connect(resolves_to=["127.0.0.1"], tls=trusting)

        assert outbound.post(f"https://hook.example:{server.port}/", body=b"{}", headers={}) == 200
        assert why(outbound, f"https://other.example:{server.port}/") == "certificate_refused"
        assert outbound.post(f"https://hook.example:{server.port}/", body=b"{}", headers={}) == 200
        assert len(server.requests) == 2


def test_certificate_of_an_address_is_checked(
    connect: Connect, authority: trustme.CA, trusting: ssl.SSLContext
) -> None:
    """A URL may have an address for a name, and its certificate too."""
    with ScriptedServer(http(), tls=certified(authority, "127.0.0.1")) as server:
        assert connect(tls=trusting).post(server.url, body=b"{}", headers={}) == 200
    with ScriptedServer(http(), tls=certified(authority, "hook.example")) as server:
        assert why(connect(tls=trusting), server.url) == "certificate_refused"


def test_unknown_authority_is_refused(connect: Connect, authority: trustme.CA) -> None:
    """A certificate of an unknown authority is rejected."""
    with ScriptedServer(http(), tls=certified(authority, "hook.example")) as server:
        outbound = connect(resolves_to=["127.0.0.1"])

        assert why(outbound, f"https://hook.example:{server.port}/") == "certificate_refused"
        assert server.requests == []


def test_plain_http_behind_https_is_refused(connect: Connect) -> None:
    """A server without TLS gets no request."""
    with ScriptedServer(http()) as server:
        url = server.url.replace("http:", "https:")

        assert why(connect(timeout_s=3), url) in {"connection_failed", "connect_timeout"}


def test_environment_is_not_listened_to(
    connect: Connect, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Proxies and netrc of the environment are ignored."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login user password s3cret\n")
    with ScriptedServer(http()) as proxy, ScriptedServer(http()) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.setenv("NETRC", os.fspath(netrc))

        assert connect().post(server.url, body=b"{}", headers={}) == 200
        assert proxy.connections == 0
        assert b"authorization" not in server.requests[0].lower()


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "https://name.invalid", "https://user@hook.example"])
def test_error_hides_the_url(connect: Connect, url: str) -> None:
    """Neither the error nor its traceback contains the URL, which may hold a secret."""
    with pytest.raises(PostUndeliverable) as raised:
        connect().post(url + SECRET_PATH, body=b"{}", headers={})

    assert "s3cret" not in "".join(traceback.format_exception(raised.value))


def test_connecting_sends_nothing(connect: Connect, authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """A server can be reached without a request; its certificate and address are checked as in a post."""

    def why_not(outbound: Outbound, url: str) -> str:
        with pytest.raises(PostUndeliverable) as refused:
            outbound.connect(url)
        return refused.value.reason

    with ScriptedServer(http(), tls=certified(authority, "hook.example")) as server:
        url = f"https://hook.example:{server.port}/"
        connect(resolves_to=["127.0.0.1"], tls=trusting).connect(url)
        # The first address has no server.
        connect(resolves_to=["127.0.0.2", "127.0.0.1"], tls=trusting).connect(url)

        assert why_not(connect(resolves_to=["127.0.0.1"]), url) == "certificate_refused"
        other = f"https://other.example:{server.port}/"
        assert why_not(connect(resolves_to=["127.0.0.1"], tls=trusting), other) == "certificate_refused"
    assert server.requests == []
    assert why_not(connect(resolves_to=["127.0.0.1"]), url) == "connection_failed"
