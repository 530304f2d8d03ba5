"""Receivers of alert notifications: a webhook and a mail server, which a test can start and stop."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from otpqueue.embedded.home import free_port


@dataclass
class Inbox:
    """What has arrived."""

    posts: list[tuple[dict[str, str], dict[str, Any]]] = field(default_factory=list)
    """Headers, by small names, and bodies."""
    mails: list[EmailMessage] = field(default_factory=list)
    status: int = 200
    """What the webhook answers."""

    @property
    def titles(self) -> list[str]:
        """The first line of each post."""
        return [body["text"].splitlines()[0] for _, body in self.posts]

    @property
    def subjects(self) -> list[str]:
        """The subject of each mail."""
        return [str(mail["Subject"]) for mail in self.mails]


@dataclass(frozen=True)
class Receivers:
    """Where a webhook and a mail server are, or will be."""

    inbox: Inbox
    http_port: int = field(default_factory=free_port)
    smtp_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """The webhook's URL."""
        return f"http://127.0.0.1:{self.http_port}/services/T0/s3cret"

    @property
    def settings(self) -> dict[str, str]:
        """The settings of who tells them."""
        return {
            "OTPQUEUE_ALERT_WEBHOOK_URL": self.url,
            "OTPQUEUE_ALERT_EMAIL_TO": "ops@example.com, boss@example.com",
            "OTPQUEUE_ALERT_EMAIL_FROM": "alerts@otp.example",
            "OTPQUEUE_SMTP_URL": f"smtp://127.0.0.1:{self.smtp_port}",
            "OTPQUEUE_PUBLIC_URL": "https://otp.example",
            "OTPQUEUE_DEPLOYMENT_NAME": "shop",
        }

    @contextmanager
    def up(self) -> Iterator[None]:
        """Serve both until the block ends."""
        inbox = self.inbox

        class Webhook(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(inbox.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.http_port), Webhook) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                with mail_server(self.inbox, self.smtp_port):
                    yield
            finally:
                server.shutdown()
                thread.join()


class _Mailbox:
    """Keeps what comes."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Take a message."""
        mail = message_from_bytes(cast("bytes", envelope.content), policy=policy.default)
        self._inbox.mails.append(cast("EmailMessage", mail))
        return "250 taken"

    async def handle_RCPT(  # noqa: N802 - the library's name
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Reject unknown recipients."""
        if address.startswith("unknown"):
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 known"


@contextmanager
def mail_server(inbox: Inbox, port: int, *, host: str = "127.0.0.1", **options: Any) -> Iterator[None]:
    """Serve SMTP on a port until the block ends."""
    controller = Controller(_Mailbox(inbox), hostname=host, port=port, **options)
    controller.start()
    try:
        yield
    finally:
        controller.stop()
