"""The Python clients over the real API: the life of a code, and its errors."""

from __future__ import annotations

import asyncio
import pickle
import threading
from datetime import UTC, datetime

import httpx
import pytest

from otpqueue.client import (
    AlreadyVerifiedError,
    AsyncOtpqueueClient,
    CodeIncorrectError,
    InvalidPhoneNumberError,
    LimitExceededError,
    NotSentYetError,
    OtpqueueClient,
    RequestCancelledError,
    RequestNotFoundError,
    ResendTooSoonError,
    WaitTimeoutError,
)
from otpqueue.client.errors import MissingScopeError, UnauthenticatedError
from tests.api.conftest import Caller, wrong
from tests.client.conftest import BASE_URL, QUICK


def test_life_of_a_code(caller: Caller, client: OtpqueueClient) -> None:
    """A code is requested, waited for, resent, mistyped and verified."""
    request = client.send_code(caller.number, session_id="login-1", client_reference="order-4711")
    assert (request.status, request.client_reference) == ("queued", "order-4711")
    assert request.phone_number == f"+44********{caller.number[-2:]}"
    with pytest.raises(NotSentYetError):
        client.verify_code(request, "123456", session_id="login-1")

    caller.parts.pump.run()
    request = client.wait_for_request(request)
    assert request.status == "sent"
    assert request.expires_at is not None
    assert request.expires_at > datetime.now(UTC) > request.created_at

    caller.become(f"/v1/otp-requests/{request.id}", "resend_after = now()")
    resent = client.resend_code(request, channel="voice")
    assert resent.is_being_sent
    assert (resent.resend and resent.resend.channel) == "voice"
    caller.parts.pump.run()
    assert client.wait_for_request(resent).resend.status == "sent"  # type: ignore[union-attr]

    code = caller.provider.code(caller.number)
    with pytest.raises(CodeIncorrectError) as wrong_code:
        client.verify_code(request.id, wrong(code), session_id="login-1")
    assert wrong_code.value.checks_left == request.checks_left - 1
    with pytest.raises(CodeIncorrectError):
        client.verify_code(request.id, code, session_id="login-2")

    verified = client.verify_code(request.id, code, session_id="login-1")
    assert (verified.status, verified.is_final) == ("verified", True)
    with pytest.raises(AlreadyVerifiedError):
        client.verify_code(request.id, code, session_id="login-1")


def test_life_of_a_code_in_asyncio(caller: Caller, async_client: AsyncOtpqueueClient) -> None:
    """The asynchronous client makes the same calls."""

    async def live() -> None:
        async with async_client as client:
            request = await client.send_code(caller.number)
            caller.parts.pump.run()
            request = await client.wait_for_request(request)
            with pytest.raises(ResendTooSoonError) as too_soon:
                await client.resend_code(request)
            assert too_soon.value.retry_after is not None
            with pytest.raises(CodeIncorrectError):
                await client.verify_code(request, wrong(caller.provider.code(caller.number)))
            verified = await client.verify_code(request, caller.provider.code(caller.number))
            assert verified == await client.get_request(request)
            other = await client.send_code(caller.number)
            assert (await client.cancel_request(other)).status == "cancelled"
            with pytest.raises(WaitTimeoutError):
                await client.wait_for_request(
                    await client.send_code(caller.number, session_id="x"), timeout=0.01
                )

    asyncio.run(live())


def test_cancelled_request(caller: Caller, client: OtpqueueClient) -> None:
    """A cancelled request ends every wait and rejects its code."""
    request = client.send_code(caller.number)
    assert client.cancel_request(request).status == "cancelled"

    assert client.wait_for_request(request).reason == "cancelled_by_client"
    with pytest.raises(RequestCancelledError):
        client.verify_code(request, "123456")


def test_wait_ends_with_the_status(caller: Caller, client: OtpqueueClient) -> None:
    """A wait returns when a worker sends the code, long before its timeout."""
    request = client.send_code(caller.number)
    polled = threading.Event()

    def is_sent(seen: object) -> bool:
        polled.set()
        return getattr(seen, "status", "") == "sent"

    def send_later() -> None:
        polled.wait(10)
        caller.parts.pump.run()

    worker = threading.Thread(target=send_later)
    worker.start()
    seen = client.wait_for_request(request, until=is_sent, timeout=30)
    worker.join()

    assert seen.status == "sent"


def test_wait_times_out(caller: Caller, client: OtpqueueClient) -> None:
    """A wait that reaches nothing raises the last known state."""
    request = client.send_code(caller.number)

    with pytest.raises(WaitTimeoutError, match="still queued") as late:
        client.wait_for_request(request, timeout=0.2)

    assert late.value.request.id == request.id
    assert isinstance(late.value, TimeoutError)


def test_same_idempotency_key(caller: Caller, client: OtpqueueClient) -> None:
    """A program that repeats a call with its own key sends one code."""
    first = client.send_code(caller.number, idempotency_key="sign-up-1")
    again = client.send_code(caller.number, idempotency_key="sign-up-1")
    caller.parts.pump.run()

    assert first == again
    assert len(caller.provider.messages(caller.number)) == 1


class LossyTransport(httpx.BaseTransport):
    """Loses the response to the first of each call; the API has made the call."""

    def __init__(self, app: object) -> None:
        self._wsgi = httpx.WSGITransport(app=app)  # type: ignore[arg-type]
        self._seen: set[str] = set()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Make one call."""
        response = self._wsgi.handle_request(request)
        response.read()
        name = f"{request.method} {request.url.path}"
        if name not in self._seen:
            self._seen.add(name)
            raise httpx.ReadTimeout("lost", request=request)
        return response


def test_lost_responses(caller: Caller) -> None:
    """Each call takes effect once, even if its first response is lost."""
    with httpx.Client(transport=LossyTransport(caller.app)) as http:
        client = OtpqueueClient(BASE_URL, caller.key, http=http, retries=QUICK)

        request = client.send_code(caller.number)
        caller.parts.pump.run()
        assert client.wait_for_request(request).status == "sent"
        caller.become(f"/v1/otp-requests/{request.id}", "resend_after = now()")
        assert client.resend_code(request).sends_left == request.sends_left - 1
        caller.parts.pump.run()
        verified = client.verify_code(request, caller.provider.code(caller.number))

    assert verified.status == "verified"
    assert len(caller.provider.messages(caller.number)) == 2
    assert len(caller.stored("otp_requests")) == 1


def test_invalid_number(client: OtpqueueClient) -> None:
    """An error names the field and the call in the logs."""
    with pytest.raises(InvalidPhoneNumberError) as invalid:
        client.send_code("12")

    error = invalid.value
    assert (error.status, error.code, error.field) == (400, "invalid_phone_number", "phone_number")
    assert error.errors[0].message
    assert error.request_id
    assert error.request_id in str(error)
    assert error.retry_after is None


def test_national_number(client: OtpqueueClient) -> None:
    """A national number needs its country."""
    assert client.send_code("07700 900299", country="GB").phone_number == "+44********99"


def test_limit(caller: Caller, client: OtpqueueClient) -> None:
    """A limit with a long Retry-After is raised at once, with its name."""
    for session in "abc":
        client.send_code(caller.number, session_id=session)

    with pytest.raises(LimitExceededError) as full:
        client.send_code(caller.number, session_id="d")

    assert full.value.limit == "number_15m"
    assert full.value.retry_after is not None
    assert full.value.retry_after > 60


def test_keys(caller: Caller) -> None:
    """Unknown keys, missing scopes and foreign requests are errors of their own."""

    def client_with(key: str) -> OtpqueueClient:
        return OtpqueueClient(BASE_URL, key, http=httpx.Client(transport=httpx.WSGITransport(app=caller.app)))

    with pytest.raises(UnauthenticatedError):
        client_with("oq_unknown_key").send_code(caller.number)
    with pytest.raises(MissingScopeError):
        client_with(caller.new_key("verify")).send_code(caller.number)
    mine = client_with(caller.new_key("send")).send_code(caller.number)
    with pytest.raises(RequestNotFoundError):
        client_with(caller.new_key("send", client="another-shop")).get_request(mine)


def test_errors_are_pickled(client: OtpqueueClient) -> None:
    """An error survives the way from a process pool or a Celery result."""
    with pytest.raises(InvalidPhoneNumberError) as invalid:
        client.send_code("12")

    copy = pickle.loads(pickle.dumps(invalid.value))  # noqa: S301 - our own

    assert (type(copy), copy.problem, str(copy)) == (
        InvalidPhoneNumberError,
        invalid.value.problem,
        str(invalid.value),
    )


def test_secrets_are_hidden(caller: Caller, client: OtpqueueClient) -> None:
    """Neither a client nor an error shows the API key, a number or a code."""
    with pytest.raises(RequestNotFoundError) as unknown:
        client.verify_code("01a2052f-2ea3-74ff-be34-094b06e1f8b0", "918273", phone_number=caller.number)

    shown = f"{unknown.value} {unknown.value!r} {client._options!r} {client!r}"
    assert caller.key is not None
    assert not any(secret in shown for secret in (caller.key, caller.number, "918273"))
