"""Which errors the Python client retries, and how long, over a network that fails on demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from otpqueue.client import (
    NO_RETRIES,
    InvalidResponseError,
    NoResponseError,
    OtpqueueClient,
    OtpqueueClientError,
    ProblemError,
    RetryPolicy,
    ServerError,
    ServiceUnavailableError,
    TooManyRequestsError,
)
from otpqueue.client.calls import ClientOptions, Pause
from tests.client.conftest import BASE_URL, MakeClient

ID = "01a2052f-2ea3-74ff-be34-094b06e1f8b0"
REQUEST = {
    "id": ID,
    "status": "queued",
    "reason": None,
    "provider_code": None,
    "phone_number": "+44********23",
    "channel": "sms",
    "client_reference": None,
    "created_at": "2026-03-01T12:00:00.000Z",
    "send_by": "2026-03-01T12:01:30.000Z",
    "sent_at": None,
    "expires_at": None,
    "verified_at": None,
    "checks_left": 5,
    "sends_left": 5,
    "resend_after": None,
    "resend": None,
    "a_later_version_adds_this": True,
}
OK = httpx.Response(202, json=REQUEST)
Answer = Callable[[httpx.Request], httpx.Response]


def problem(status: int, code: str, **headers: str) -> httpx.Response:
    """Return problem details."""
    body = {"type": f"/docs#{code}", "title": "T", "status": status, "detail": "D.", "code": code}
    return httpx.Response(
        status, json=body, headers={name.replace("_", "-"): headers[name] for name in headers}
    )


class Network:
    """Answers each call with the next of some replies, the last one for ever, and records the calls."""

    def __init__(self, *replies: httpx.Response | Exception) -> None:
        self._replies = list(replies)
        self.calls: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls.append(request)
        reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.content)

    @property
    def keys(self) -> list[str | None]:
        """The idempotency keys of the calls."""
        return [call.headers.get("Idempotency-Key") for call in self.calls]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("cut"),
        problem(503, "too_busy", Retry_After="0"),
        problem(503, "database_unavailable"),
        httpx.Response(502, text="<html>Bad gateway</html>"),
        httpx.Response(504),
        problem(429, "limit_exceeded", Retry_After="0"),
        problem(409, "idempotency_in_progress", Retry_After="0"),
        problem(409, "check_in_progress", Retry_After="0"),
    ],
    ids=str,
)
def test_retried(over: MakeClient, failure: httpx.Response | Exception) -> None:
    """The call is repeated with the same Idempotency-Key and body until it succeeds."""
    network = Network(failure, failure, OK)

    request = over(network).send_code("+447700900123")

    assert request.id == ID
    assert len(network.calls) == 3
    assert len(set(network.keys)) == 1
    assert len({call.content for call in network.calls}) == 1


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (problem(422, "code_incorrect"), ProblemError),
        (problem(409, "not_sent_yet", Retry_After="0"), ProblemError),
        (problem(429, "limit_exceeded", Retry_After="6"), TooManyRequestsError),
        (problem(429, "resend_too_soon"), TooManyRequestsError),
        (problem(503, "daily_cap_reached", Retry_After="3600"), ServiceUnavailableError),
        (problem(500, "internal_error"), ServerError),
        (httpx.Response(301, headers={"Location": "https://elsewhere.test/"}), InvalidResponseError),
        (httpx.Response(200, text="<html>Welcome</html>"), InvalidResponseError),
        (httpx.Response(200, json={"id": ID}), InvalidResponseError),
        (httpx.Response(200, json=[1]), InvalidResponseError),
    ],
    ids=str,
)
def test_not_retried(
    over: MakeClient, failure: httpx.Response | Exception, kind: type[OtpqueueClientError]
) -> None:
    """Another attempt would not help, or not soon: the error is raised at once."""
    network = Network(failure)

    with pytest.raises(kind):
        over(network).verify_code(ID, "123456")

    assert len(network.calls) == 1


def test_each_call_has_a_key_of_its_own(over: MakeClient) -> None:
    """Calls that change something have a new key each; reads and cancellations need none."""
    network = Network(OK)
    client = over(network)

    client.send_code("+447700900123")
    client.send_code("+447700900123")
    client.verify_code(ID, "123456")
    client.resend_code(ID)
    client.get_request(ID)
    client.cancel_request(ID)

    assert len(set(network.keys[:4])) == 4
    assert network.keys[4:] == [None, None]


def test_attempts_are_bounded(over: MakeClient) -> None:
    """The last error is raised, with what caused it."""
    network = Network(httpx.ConnectTimeout("late"))

    with pytest.raises(NoResponseError, match="ConnectTimeout") as failed:
        over(network).send_code("+447700900123")

    assert len(network.calls) == RetryPolicy().attempts
    assert isinstance(failed.value.__cause__, httpx.ConnectTimeout)
    assert "447700900123" not in str(failed.value)


def test_time_is_bounded(over: MakeClient) -> None:
    """No retry starts after the total time."""
    network = Network(problem(503, "too_busy", Retry_After="5"))
    begun = time.monotonic()

    with pytest.raises(ServiceUnavailableError):
        over(network, retries=RetryPolicy(total=4.0)).send_code("+447700900123")

    assert len(network.calls) == 1
    assert time.monotonic() - begun < 2


def test_retries_turned_off(over: MakeClient) -> None:
    """Without retries the first error is raised."""
    network = Network(problem(503, "too_busy"), OK)

    with pytest.raises(ServiceUnavailableError):
        over(network, retries=NO_RETRIES).send_code("+447700900123")


def pauses_of(failure: httpx.Response | Exception, policy: RetryPolicy) -> list[float]:
    """Return the pauses between the attempts of a call that always fails alike."""
    options = ClientOptions.resolve(BASE_URL, "oq_key", timeout=1, connect_timeout=1, retries=policy)
    steps, pauses = options.get_request(ID), []
    step = next(steps)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = steps.send(None)
            else:
                step = steps.send(failure)  # type: ignore[arg-type]
    except OtpqueueClientError:
        return pauses


def test_backoff_doubles_with_jitter() -> None:
    """Pauses double up to a ceiling; each is a random part of it, at least half."""
    policy = RetryPolicy(attempts=6, backoff=1.0, max_backoff=4.0)
    runs = [pauses_of(httpx.ReadError("cut"), policy) for _ in range(50)]

    for ceiling, pauses in zip([1, 2, 4, 4, 4], zip(*runs, strict=True), strict=True):
        assert all(ceiling / 2 <= pause <= ceiling for pause in pauses)
        assert len(set(pauses)) > 1


@pytest.mark.parametrize("form", ["seconds", "time"])
def test_retry_after_is_kept_to(form: str) -> None:
    """A pause is never shorter than `Retry-After`, as seconds or as a time."""
    in_a_while = format_datetime(datetime.now(UTC) + timedelta(seconds=1000), usegmt=True)
    text = "2" if form == "seconds" else in_a_while
    policy = RetryPolicy(attempts=2, max_retry_after=2000, total=5000)

    (pause,) = pauses_of(problem(429, "limit_exceeded", Retry_After=text), policy)

    assert pause >= (2 if form == "seconds" else 900)


@pytest.mark.parametrize("text", ["", "soon", "-1", "1e3", "Mon, 99 Foo 2026 00:00:00 GMT"])
def test_strange_retry_after(over: MakeClient, text: str) -> None:
    """A header that is not understood counts as none."""
    with pytest.raises(TooManyRequestsError) as rejected:
        over(Network(problem(429, "limit_exceeded", Retry_After=text))).send_code("+447700900123")

    assert rejected.value.retry_after is None


def test_wait_does_not_spin(over: MakeClient) -> None:
    """An API that has no free slot answers polls at once; the client pauses between them."""

    def answer(request: httpx.Request) -> httpx.Response:
        calls.append(request)
        if "If-None-Match" in request.headers:
            return httpx.Response(304, headers={"Retry-After": "1", "ETag": '"a"'})
        return httpx.Response(200, json=REQUEST, headers={"Retry-After": "1", "ETag": '"a"'})

    calls: list[httpx.Request] = []
    with pytest.raises(TimeoutError):
        over(answer).wait_for_request(ID, timeout=0.3)

    assert 2 <= len(calls) <= 4


def test_long_poll_has_time(over: MakeClient) -> None:
    """A poll may take as long as it waits, beyond the timeout of other calls."""
    network = Network(httpx.Response(200, json=REQUEST, headers={"ETag": '"a"'}), problem(404, "not_found"))

    with pytest.raises(ProblemError):
        over(network).wait_for_request(ID, timeout=60)

    first, second = network.calls
    assert "wait" not in first.url.params
    waits_s = float(second.url.params["wait"])
    assert 19 < waits_s <= 20
    usual_s = first.extensions["timeout"]["read"]
    assert second.extensions["timeout"]["read"] == pytest.approx(usual_s + waits_s, abs=0.01)


@pytest.mark.parametrize(
    ("base_url", "api_key"),
    [("otpqueue.test", "oq_key"), ("", "oq_key"), (BASE_URL, ""), (BASE_URL, "oq_key\n"), (BASE_URL, "kéy")],
)
def test_bad_options(monkeypatch: pytest.MonkeyPatch, base_url: str, api_key: str) -> None:
    """A client without a usable address or key is not made; the error does not contain the key."""
    monkeypatch.delenv("OTPQUEUE_URL", raising=False)
    monkeypatch.delenv("OTPQUEUE_API_KEY", raising=False)

    with pytest.raises(ValueError, match="must be") as invalid:
        OtpqueueClient(base_url, api_key)

    assert not api_key or api_key.strip() not in str(invalid.value)


def test_options_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Address and key come from the environment unless given."""
    monkeypatch.setenv("OTPQUEUE_URL", f"{BASE_URL}/prefix/")
    monkeypatch.setenv("OTPQUEUE_API_KEY", "oq_environment")
    network = Network(OK)

    with httpx.Client(transport=httpx.MockTransport(network)) as http:
        OtpqueueClient(http=http).get_request(ID)

    (call,) = network.calls
    assert str(call.url) == f"{BASE_URL}/prefix/v1/otp-requests/{ID}"
    assert call.headers["Authorization"] == "Bearer oq_environment"
