"""Mail over all kinds of servers: TLS, logins and time limits."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import trustme
from aiosmtpd.smtp import AuthResult, LoginPassword

from otpqueue.embedded.home import free_port
from otpqueue.mail import Mailer, MailServer, MailUndeliverable
from tests.alerts.receiving import Inbox, mail_server

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Return the certificate authority of the servers."""
    return trustme.CA()


@pytest.fixture
def served_by(authority: trustme.CA) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    """Return the client's side of TLS."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def send(
    url: str,
    tls: ssl.SSLContext | None = None,
    *,
    to: tuple[str, ...] = ("ops@example.com",),
    timeout_s: float = 20,
) -> list[str]:
    """Send a mail over the server of a URL. Return the rejected recipients."""
    mailer = Mailer(
        server=MailServer.parse(url), sender="Alerts <alerts@otp.example>", timeout_s=timeout_s, tls=tls
    )
    return mailer.send(to, subject="[OPEN] all\nis lost", text="Gr\u00fc\u00dfe\n", message_id="0-1", at=AT)


def why(url: str, tls: ssl.SSLContext | None = None, **more: object) -> str:
    """Return the reason for which a mail is undeliverable."""
    with pytest.raises(MailUndeliverable) as raised:
        send(url, tls, **more)  # type: ignore[arg-type]
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__
    return raised.value.reason


def allow_anna(
    _server: object, _session: object, _envelope: object, _kind: str, given: LoginPassword
) -> AuthResult:
    """Accept Anna's password and no other."""
    return AuthResult(success=given == LoginPassword(b"anna", b"p@ss"), handled=False)


def test_mail_arrives() -> None:
    """A mail has its text, one line of subject, and a Message-ID that is given."""
    inbox, port = Inbox(), free_port()
    with mail_server(inbox, port):
        assert send(f"smtp://127.0.0.1:{port}", to=("ops@example.com", "boss@example.com")) == []

    (taken,) = inbox.mails
    assert taken["Subject"] == "[OPEN] all is lost"
    assert taken["To"] == "ops@example.com, boss@example.com"
    assert taken["From"] == "Alerts <alerts@otp.example>"
    assert taken["Message-ID"] == "<0-1@otp.example>"
    assert taken["Auto-Submitted"] == "auto-generated"
    assert taken.get_content().strip() == "Gr\u00fc\u00dfe"


def test_refused_recipients_are_returned() -> None:
    """Rejected recipients are returned. If all are rejected, the mail fails."""
    inbox, port = Inbox(), free_port()
    with mail_server(inbox, port):
        url = f"smtp://127.0.0.1:{port}"
        assert send(url, to=("ops@example.com", "unknown@example.com")) == ["unknown@example.com"]
        assert why(url, to=("unknown@example.com",)) == "recipients_refused"

    assert len(inbox.mails) == 1


def test_login_over_starttls(served_by: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """Where the server offers TLS it is begun before the password is sent."""
    inbox, port = Inbox(), free_port()
    options = {
        "tls_context": served_by,
        "require_starttls": True,
        "authenticator": allow_anna,
        "auth_required": True,
    }
    with mail_server(inbox, port, **options):
        send(f"smtp://anna:p%40ss@localhost:{port}", trusting)
        assert why(f"smtp://anna:wrong@localhost:{port}", trusting) == "login_refused"
        assert why(f"smtp://localhost:{port}", trusting) == "sender_refused"

    assert len(inbox.mails) == 1


def test_tls_from_the_first_byte(served_by: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    """`smtps` starts with TLS, and closes the connection to a server without it."""
    inbox, port = Inbox(), free_port()
    with mail_server(inbox, port, ssl_context=served_by):
        send(f"smtps://localhost:{port}", trusting)
    with mail_server(inbox, port):
        assert why(f"smtps://localhost:{port}", trusting) == "tls_failed"

    assert len(inbox.mails) == 1


@pytest.mark.parametrize("kind", ["smtp", "smtps"])
def test_untrusted_server_gets_nothing(served_by: ssl.SSLContext, kind: str) -> None:
    """A server with an untrusted certificate gets neither password nor mail."""
    inbox, port = Inbox(), free_port()
    options = {"ssl_context": served_by} if kind == "smtps" else {"tls_context": served_by}
    with mail_server(inbox, port, **options):
        assert why(f"{kind}://anna:pass@localhost:{port}") == "certificate_refused"

    assert inbox.mails == []


@pytest.mark.parametrize("kind", ["smtp", "smtps"])
@pytest.mark.parametrize(("host", "problem"), [("127.0.0.1", None), ("127.0.0.2", "certificate_refused")])
def test_self_signed_certificate_on_this_machine(
    served_by: ssl.SSLContext, kind: str, host: str, problem: str | None
) -> None:
    """A local server with a self-signed certificate gets mail, if it needs no password."""
    inbox, port = Inbox(), free_port()
    options = {"ssl_context": served_by} if kind == "smtps" else {"tls_context": served_by}
    with mail_server(inbox, port, host=host, require_starttls=kind == "smtp", **options):
        if problem is None:
            send(f"{kind}://{host}:{port}")
        else:
            assert why(f"{kind}://{host}:{port}") == problem

    assert len(inbox.mails) == (problem is None)


def test_server_without_a_login() -> None:
    """A password for a server without authentication is reported as that, not as a TLS error."""
    inbox, port = Inbox(), free_port()
    with mail_server(inbox, port, auth_exclude_mechanism=["LOGIN", "PLAIN"]):
        assert why(f"smtp://anna:p%40ss@127.0.0.1:{port}") == "no_login"

    assert inbox.mails == []


@pytest.mark.parametrize("excluded", ["LOGIN", "PLAIN"])
@pytest.mark.parametrize("url", ["j%C3%BCrgen:p%C3%A4ss", "jürgen:päss"], ids=["encoded", "as it is"])
def test_login_beyond_ascii(excluded: str, url: str) -> None:
    """User and password go out in UTF-8, by either way to log in."""
    inbox, port = Inbox(), free_port()

    def allow(_server: object, _session: object, _envelope: object, _kind: str, given: Any) -> AuthResult:
        right = LoginPassword("jürgen".encode(), "päss".encode())
        return AuthResult(success=given == right, handled=False)

    options = {"authenticator": allow, "auth_require_tls": False, "auth_exclude_mechanism": [excluded]}
    with mail_server(inbox, port, **options):
        send(f"smtp://{url}@127.0.0.1:{port}")
        assert why(f"smtp://j%C3%BCrgen:wr%C3%B6ng@127.0.0.1:{port}") == "login_refused"

    assert len(inbox.mails) == 1


@pytest.mark.parametrize(("host", "problem"), [("127.0.0.1", None), ("127.0.0.2", "no_tls")])
def test_password_is_not_sent_in_clear(host: str, problem: str | None) -> None:
    """Without TLS a password goes to this machine alone; 127.0.0.2 stands in for another one."""
    inbox, port = Inbox(), free_port()
    with mail_server(inbox, port, host=host, authenticator=allow_anna, auth_require_tls=False):
        url = f"smtp://anna:p%40ss@{host}:{port}"
        if problem is None:
            send(url)
        else:
            assert why(url) == problem

    assert len(inbox.mails) == (problem is None)


def test_no_listener() -> None:
    """A missing listener and an unknown host are reported."""
    assert why(f"smtp://127.0.0.1:{free_port()}") == "connection_failed"
    assert why("smtp://unknown.invalid:25") == "name_not_resolved"


@contextmanager
def slow_server(greeting: bytes) -> Iterator[str]:
    """Serve one connection with this greeting, over and over; yield the URL."""
    over = threading.Event()

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection:
            while not over.wait(0.02):
                try:
                    connection.sendall(greeting)
                except OSError:
                    break

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve, args=[server])
        thread.start()
        try:
            yield f"smtp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize("greeting", [b"", b"220-go on\r\n"], ids=["silent", "endless"])
def test_slow_server_is_left(greeting: bytes) -> None:
    """The connection to a silent or endless server is closed."""
    with slow_server(greeting) as url:
        assert why(url, timeout_s=0.5) == "timeout"


def test_read_that_times_out_before_the_timer_fires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smtplib reports it as a connection that was closed; the mail's time has passed all the same."""
    monkeypatch.setattr(threading.Timer, "start", lambda _timer: None)

    with slow_server(b"") as url:
        assert why(url, timeout_s=0.1) == "timeout"


def test_connection_that_is_made_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timer fires before there is a connection to shut down. The server is not read from."""
    connect = socket.create_connection

    def connect_late(*args: Any, **kwargs: Any) -> socket.socket:
        time.sleep(0.2)
        return connect(*args, **kwargs)

    monkeypatch.setattr(socket, "create_connection", connect_late)

    with slow_server(b"220-go on\r\n") as url:
        assert why(url, timeout_s=0.1) == "timeout"


@pytest.mark.parametrize(
    "url",
    [
        "http://x",
        "smtp://",
        "smtp://x:0",
        "smtp://x:port",
        "smtp://hunter2@x",
        "smtp://anna:hunter2@x/path",
        "x:25",
        "smtp://[x",
        "smtp://anna:hunter2%FC@x",
    ],
)
def test_url_that_is_no_mail_server(url: str) -> None:
    """The complaint says how it is written, and does not repeat it."""
    with pytest.raises(ValueError, match="must") as raised:
        MailServer.parse(url)

    assert "hunter2" not in str(raised.value)


def test_ports_of_old() -> None:
    """Without a port it is that of mail submission."""
    assert MailServer.parse("smtp://mail.example").port == 587
    secure = MailServer.parse("smtps://anna:p%40ss@mail.example")
    assert (secure.port, secure.tls, secure.user, secure.password) == (465, True, "anna", "p@ss")
    assert "p@ss" not in repr(secure)
