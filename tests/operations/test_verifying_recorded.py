"""A caller gets the result of a right code that Postgres has recorded, despite failures at that moment."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from otpqueue import clock
from otpqueue.domain.errors import AlreadyVerified, DatabaseUnavailable
from otpqueue.domain.replay import IdempotentCall, StoredResponse
from otpqueue.domain.request import OtpRequest, Status
from otpqueue.operations.verify import TypedCode
from otpqueue.wiring import Parts
from tests.conftest import MakeParts, Provider
from tests.operations.conftest import AskSent
from tests.operations.looking import Rows

RECORD = b"record_check"


class DeafProxy:
    """A proxy of Postgres. On demand it passes a statement on, drops the reply and disconnects."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 5432)
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{parts.port}/", f":{self._server.getsockname()[1]}/")
        self.statement = RECORD
        """The text of the statement that triggers it."""
        self.swallow = 0
        """How many replies are still to be dropped."""
        self._open: list[socket.socket] = [self._server]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._server.accept()
                server = socket.create_connection(self._target)
                self._open += [client, server]
                threading.Thread(target=self._answers, args=(client, server), daemon=True).start()
                threading.Thread(target=self._statements, args=(client, server), daemon=True).start()

    def _statements(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(65536):
                deaf = self.statement in data and self.swallow > 0
                if deaf:
                    self.swallow -= 1
                    # A socket that is shut down for reading receives nothing more from the server.
                    client.shutdown(socket.SHUT_WR)
                server.sendall(data)
        # Postgres executes what it has received before it sees the disconnect.
        with suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _answers(self, client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := server.recv(65536):
                with suppress(OSError):
                    client.sendall(data)
        for one in (client, server):
            one.close()

    def close(self) -> None:
        """Hang up."""
        for one in self._open:
            one.close()


@pytest.fixture
def deaf(database_url: str) -> Iterator[DeafProxy]:
    """Yield the proxy."""
    with closing(DeafProxy(database_url)) as proxy:
        yield proxy


@pytest.fixture
def behind(make_parts: MakeParts, deaf: DeafProxy) -> Parts:
    """Return parts that connect to Postgres through the proxy."""
    return make_parts(DATABASE_URL=deaf.url)


def check(parts: Parts, request: OtpRequest, code: str) -> OtpRequest:
    """Verify a code."""
    return parts.verify(request.id, TypedCode(code=code), client_id=request.client_id, now=clock.now())


@pytest.mark.parametrize("times", [1, 3])
def test_answer_of_postgres_is_lost(
    behind: Parts, deaf: DeafProxy, ask_sent: AskSent, provider: Provider, rows: Rows, times: int
) -> None:
    """The code was recorded without a reply. The record is queried again, and the caller gets a 200, once."""
    request, code = ask_sent(), provider.code()
    deaf.swallow = times

    with capture_logs() as logs:
        verified = check(behind, request, code)

    assert deaf.swallow == 0
    assert verified.status is Status.VERIFIED
    assert [entry["event"] for entry in logs].count("right_code_not_recorded") == times
    assert [row["verdict"] for row in rows.checks(request.id)] == ["correct"]
    with pytest.raises(AlreadyVerified):
        check(behind, request, code)


@pytest.mark.parametrize("statement", [RECORD, b"COMMIT"])
def test_answer_of_postgres_is_lost_with_an_idempotency_key(
    behind: Parts, deaf: DeafProxy, ask_sent: AskSent, provider: Provider, statement: bytes
) -> None:
    """The same holds if the response is stored in the same transaction."""
    request, code = ask_sent(), provider.code()
    # The first connection has its own transactions.
    behind.status(request.id, client_id=request.client_id)
    deaf.statement, deaf.swallow = statement, 1
    now, call = clock.now(), IdempotentCall(name="verify", key="k", body="b")

    def make(_: OtpRequest) -> StoredResponse:
        return StoredResponse(status=200, body="verified")

    with behind.idempotent_responses.hold(call, make=make, client_id=request.client_id, now=now) as held:
        verified = behind.verify(
            request.id, TypedCode(code=code), client_id=request.client_id, now=now, held=held
        )

    assert (verified.status, deaf.swallow) == (Status.VERIFIED, 0)
    with behind.idempotent_responses.hold(call, make=make, client_id=request.client_id, now=now) as again:
        assert again.answer == StoredResponse(status=200, body="verified", replayed=True)


def test_wrong_code_with_a_lost_record(
    behind: Parts, deaf: DeafProxy, ask_sent: AskSent, provider: Provider, rows: Rows
) -> None:
    """A wrong code is not recorded again: the guess is spent, and the caller may try another code."""
    request, code = ask_sent(), provider.code()
    deaf.swallow = 1

    with pytest.raises(DatabaseUnavailable):
        check(behind, request, f"{(int(code) + 1) % 1_000_000:06}")

    assert rows.request(request.id)["checks_used"] == 1
    assert check(behind, request, code).status is Status.VERIFIED


def test_notification_that_breaks(parts: Parts, ask_sent: AskSent, provider: Provider) -> None:
    """A failed webhook wake-up does not change the 200 of a right code."""
    request = ask_sent()

    def fail(_: object) -> None:
        raise RuntimeError("broken")

    verify = replace(parts.verify, on_status=fail)
    with capture_logs() as logs:
        verified = verify(
            request.id, TypedCode(code=provider.code()), client_id=request.client_id, now=clock.now()
        )

    assert verified.status is Status.VERIFIED
    assert "check_not_followed_up" in [entry["event"] for entry in logs]
