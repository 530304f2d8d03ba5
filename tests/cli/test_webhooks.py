"""`otpqueue webhooks`: what an operator types and reads."""

from __future__ import annotations

import re
from collections.abc import Iterator
from uuid import UUID

import pytest
from standardwebhooks import Webhook

from otpqueue import clock
from otpqueue.cli.exits import ExitCode
from otpqueue.operations.request import RequestedCode
from otpqueue.wiring import Parts
from tests.cli.conftest import Shell
from tests.cli.forking import Forking
from tests.conftest import MakeParts
from tests.operations.looking import Rows
from tests.operations.receiver import Receiver


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield a receiver of webhooks."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def operator(forking: Forking, shell: Shell, client_id: UUID) -> Shell:
    """Return a shell that may post to this machine, of a deployment with a client."""
    environment = {**shell.environment, "OTPQUEUE_WEBHOOK_ALLOW_PRIVATE": "true"}
    return Shell(forking, shell.folder, environment)


def said(operator: Shell, *arguments: str) -> str:
    """Run a command of `webhooks` that must succeed, and return what it prints, errors too."""
    done = operator.invoke("webhooks", *arguments)
    assert done.exit_code == 0, done.output
    return done.output


def moved(parts: Parts, client_id: UUID, *statuses: str) -> UUID:
    """Ask for a code, and move the request."""
    wanted = RequestedCode(phone_number="+447700900123")
    request = parts.request(wanted, client_id=client_id, now=clock.now())
    for status in statuses:
        Rows(parts.engine).change(request.id, status=status)
    return request.id


def test_walk(
    operator: Shell, parts: Parts, make_parts: MakeParts, client_id: UUID, receiver: Receiver
) -> None:
    """Set, test, watch, rotate, remove: the secret is printed where it is new, and nowhere else."""
    secret, notified = said(operator, "set", "test", receiver.url, "--events", "sent, verified").splitlines()
    assert notified == "test is notified of sent, verified"

    assert re.fullmatch(r"HTTP 200 after \d+ ms\n", said(operator, "test", "test"))
    call = receiver.calls[0]
    assert Webhook(secret).verify(call.body, call.headers)["type"] == "otpqueue.test"

    request_id = moved(parts, client_id, "sent", "verified")
    make_parts(OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true").webhook_pump.run()
    listed = said(operator, "deliveries", "test")
    assert listed.count(f"otp_request.sent  {request_id}") == 1
    assert listed.count("delivered  1 attempts, HTTP 200") == 2
    assert said(operator, "deliveries", "test", "--failed") == "no deliveries\n"

    shown = dict(re.findall(r"^(\w+(?: \w+)?)\s{2,}(.*)$", said(operator, "show", "test"), re.MULTILINE))
    assert shown | {"url": receiver.url, "state": "on", "secrets": "one", "waiting": "0"} == shown
    assert said(operator, "show") == f"test  {receiver.url}  on\n"

    other, until = said(operator, "rotate-secret", "test", "--overlap", "2h").splitlines()
    assert other.startswith("whsec_")
    assert until.startswith("the old secret also signs until ")
    assert "two until" in said(operator, "show", "test")
    assert "no longer signs" in said(operator, "rotate-secret", "test", "--at-once")

    assert (
        said(operator, "remove", "test", "--yes")
        == "test has no webhook now; 0 pending deliveries were dropped\n"
    )
    assert said(operator, "show") == ""
    for printed in (listed, *shown.values()):
        assert secret not in printed
        assert "7700900" not in printed


def test_failing_receiver(
    operator: Shell, parts: Parts, make_parts: MakeParts, client_id: UUID, receiver: Receiver
) -> None:
    """A test that fails says how and ends with exit code 1; a disabled webhook says so, and what waits."""
    said(operator, "set", "test", receiver.url)
    receiver.answer = lambda _: 410
    moved(parts, client_id, "sent")
    make_parts(OTPQUEUE_WEBHOOK_ALLOW_PRIVATE="true").webhook_pump.run()

    tested = operator.invoke("webhooks", "test", "test")
    assert (tested.exit_code, tested.output[:14]) == (ExitCode.PROBLEM, "HTTP 410 after")
    assert re.search(r"state +disabled since .*: gone", said(operator, "show", "test"))
    failed = said(operator, "deliveries", "test", "--failed")
    assert re.search(r"pending until .*  1 attempts, HTTP 410$", failed, re.MULTILINE)
    assert "The webhook is disabled since" in said(operator, "set", "test", receiver.url)
    receiver.answer = lambda _: None
    assert "connection_cut" in operator.invoke("webhooks", "test", "test").output

    assert "has a disabled webhook" in operator.invoke("webhooks", "retry", "test").output
    assert said(operator, "enable", "test") == "test is enabled; 1 deliveries are pending\n"
    assert said(operator, "retry", "test") == "1 deliveries are being retried\n"


MISTAKES = [
    (("set", "nobody", "https://shop.example/"), "client does not exist"),
    (("set", "test", "https://user@shop.example/"), "url must not contain a user or password"),
    (("set", "test", "https://shop.example/", "--events", "sold"), "events must be some of sent, delivered"),
    (("show", "test"), "client has no webhook"),
    (("test", "test"), "client has no webhook"),
    (("enable", "test"), "client has no webhook"),
    (("rotate-secret", "test"), "client has no webhook"),
    (("retry", "test"), "client has no webhook"),
    (("remove", "test", "--yes"), "client has no webhook"),
    (("deliveries", "nobody"), "client does not exist"),
    (("retry", "test", "1"), "is not a valid UUID"),
]


def test_mistakes(operator: Shell) -> None:
    """Each mistake is told in one line."""
    for arguments, complaint in MISTAKES:
        done = operator.invoke("webhooks", *arguments)

        assert done.exit_code != 0
        assert complaint in done.output


def test_plain_http_is_refused_unless_allowed(shell: Shell, client_id: UUID) -> None:
    """As a deployment is by default, nothing can be set that leads into its own network by http."""
    done = shell.invoke("webhooks", "set", "test", "http://127.0.0.1:8000/")

    assert done.exit_code == ExitCode.REFUSED
    assert "OTPQUEUE_WEBHOOK_ALLOW_PRIVATE" in done.output
