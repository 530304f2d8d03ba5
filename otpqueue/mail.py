"""Send mail over SMTP with a time limit."""

from __future__ import annotations

import base64
import smtplib
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from urllib.parse import unquote, urlsplit

import certifi

_PORTS = {"smtp": 587, "smtps": 465}
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}


class MailUndeliverable(Exception):
    """The server did not accept the mail.

    `reason` is a static identifier without data of the server or its users.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, kw_only=True)
class MailServer:
    """A mail server, from a URL `smtp://user:password@host:587`. `smtps://` uses TLS from the first byte."""

    host: str
    port: int
    tls: bool
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, so that its traffic does not cross a network."""
        return self.host in _LOOPBACK

    @classmethod
    def parse(cls, url: str) -> MailServer:
        """Return the server of a URL. Raises ValueError without the URL."""
        form = "must be `smtp://user:password@host:port` or `smtps://...`"
        try:
            parts = urlsplit(url)
            port = parts.port
            user, password = (
                unquote(text, errors="strict") if text else None for text in (parts.username, parts.password)
            )
        except ValueError:
            raise ValueError(form) from None
        if parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.path.strip("/"):
            raise ValueError(form)
        if bool(user) != bool(password):
            raise ValueError("must have both user and password, or neither")
        return cls(
            host=parts.hostname,
            port=port or _PORTS[parts.scheme],
            tls=parts.scheme == "smtps",
            user=user,
            password=password,
        )


class Mailer:
    """Sends mail. Thread-safe: each message uses its own connection.

    With `smtp`, STARTTLS is used if the server offers it. It is required before a password is sent, except to
    a server on this machine. A server on this machine that gets no password may have any certificate, because
    mail packages install a self-signed one. `tls` replaces the system's certificate authorities.
    """

    def __init__(
        self, *, server: MailServer, sender: str, timeout_s: float, tls: ssl.SSLContext | None = None
    ) -> None:
        self._server, self._sender, self._timeout_s, self._tls = server, sender, timeout_s, tls
        self._domain = parseaddr(sender)[1].rpartition("@")[2]

    def send(self, to: Sequence[str], *, subject: str, text: str, message_id: str, at: datetime) -> list[str]:
        """Send a message.

        Return the recipients that the server rejected, if it accepted others. Raises MailUndeliverable.

        The Message-ID is `message_id` at the sender's domain, which identifies duplicates.
        """
        message = EmailMessage()
        message["From"], message["To"] = self._sender, ", ".join(to)
        message["Subject"] = " ".join(subject.split())
        message["Date"] = format_datetime(at)
        message["Message-ID"] = f"<{message_id}@{self._domain}>"
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(text)
        smtp = self._make_session()
        try:
            smtp.open_session()
            refused = smtp.send_message(message)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            # Without its cause: the text may contain the user.
            raise MailUndeliverable("timeout" if smtp.is_late else _classify_error(error)) from None
        finally:
            smtp.close_session()
        return sorted(refused)

    def check(self) -> None:
        """Connect, start TLS and log in as `send` does, and send nothing. Raises MailUndeliverable."""
        smtp = self._make_session()
        try:
            smtp.open_session()
        except (smtplib.SMTPException, OSError, ValueError) as error:
            raise MailUndeliverable("timeout" if smtp.is_late else _classify_error(error)) from None
        finally:
            smtp.close_session()

    def _make_session(self) -> _Bounded:
        return _Bounded(
            self._server,
            name=self._domain,
            timeout_s=self._timeout_s,
            tls=self._tls or _make_tls_context(self._server),
        )


class _NoLogin(smtplib.SMTPException):
    """The server offers no supported authentication mechanism."""


class _Bounded(smtplib.SMTP):
    """An SMTP session with a total time limit. smtplib's own timeout applies to each read."""

    def __init__(self, server: MailServer, *, name: str, timeout_s: float, tls: ssl.SSLContext) -> None:
        # The name for the greeting. By default smtplib looks up our host name, which may take long.
        super().__init__(timeout=timeout_s, local_hostname=name)
        self._to, self._trust = server, tls
        self._host = server.host
        self._line: socket.socket | None = None
        self._limit_s = timeout_s
        self._deadline = float("inf")
        self._bell = threading.Timer(timeout_s, self._shut_down)
        self._bell.daemon = True

    @property
    def is_late(self) -> bool:
        """Whether the time limit has passed. Any error after that is a timeout.

        smtplib reports a read that timed out as a closed connection, possibly just before the timer fires.
        """
        return time.monotonic() >= self._deadline

    def open_session(self) -> None:
        """Connect, start TLS and log in. Raises SMTPException, OSError."""
        self._deadline = time.monotonic() + self._limit_s
        self._bell.start()
        code, said = self.connect(self._to.host, self._to.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)
        self.ehlo_or_helo_if_needed()
        must = self._to.password is not None and not self._to.is_local
        if not self._to.tls and (must or self.has_extn("starttls")):
            self.starttls(context=self._trust)
            self.ehlo_or_helo_if_needed()
        if self._to.user and self._to.password:
            self._log_in(self._to.user, self._to.password)

    def _log_in(self, user: str, password: str) -> None:
        offered = self.esmtp_features.get("auth", "").upper().split()
        if not {"PLAIN", "LOGIN", "CRAM-MD5"}.intersection(offered):
            raise _NoLogin
        if user.isascii() and password.isascii():
            self.login(user, password)
            return
        # smtplib supports only ASCII. The standards require UTF-8, or do not say.
        if "PLAIN" in offered:
            code, said = self.docmd("AUTH", f"PLAIN {_encode_base64(f'{chr(0)}{user}{chr(0)}{password}')}")
        elif "LOGIN" in offered:
            code, said = self.docmd("AUTH", "LOGIN")
            for answer in (user, password):
                if code == 334:
                    code, said = self.docmd(_encode_base64(answer))
        else:
            raise _NoLogin
        if code not in {235, 503}:
            raise smtplib.SMTPAuthenticationError(code, said)

    def close_session(self) -> None:
        """Quit and close the connection, ignoring errors."""
        if not self.is_late:
            with suppress(smtplib.SMTPException, OSError):
                self.quit()
        self._bell.cancel()
        self.close()
        if self._line:
            self._line.close()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connected = socket.create_connection((host, port), timeout)
        # TLS detaches the first socket. The duplicate can still be shut down.
        self._line = connected.dup()
        if self.is_late:
            # The timer had no connection to shut down when it fired.
            connected.close()
            raise TimeoutError
        if not self._to.tls:
            return connected
        try:
            return self._trust.wrap_socket(connected, server_hostname=host)
        except OSError:
            connected.close()
            raise

    def _shut_down(self) -> None:
        if self._line:
            with suppress(OSError):
                self._line.shutdown(socket.SHUT_RDWR)


def _encode_base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _make_tls_context(server: MailServer) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if server.is_local and server.password is None:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    # A slim container has no certificate authorities.
    context.load_verify_locations(certifi.where())
    return context


def _classify_error(error: Exception) -> str:
    known = (
        (_NoLogin, "no_login"),
        (smtplib.SMTPAuthenticationError, "login_refused"),
        (smtplib.SMTPRecipientsRefused, "recipients_refused"),
        (smtplib.SMTPSenderRefused, "sender_refused"),
        (smtplib.SMTPNotSupportedError, "no_tls"),
        (smtplib.SMTPServerDisconnected, "connection_cut"),
        (ssl.SSLCertVerificationError, "certificate_refused"),
        (ssl.SSLError, "tls_failed"),
        (TimeoutError, "timeout"),
        (socket.gaierror, "name_not_resolved"),
    )
    for kind, word in known:
        if isinstance(error, kind):
            return word
    if isinstance(error, smtplib.SMTPResponseException):
        return f"smtp_{error.smtp_code}"
    return "connection_failed"
