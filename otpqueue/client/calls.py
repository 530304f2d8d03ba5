"""The calls of the API as steps, without I/O: the same for the synchronous and the asynchronous client.

A client runs a `Steps` generator: it makes each `HttpCall`, waits for each `Pause`, and sends the outcome in.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import httpx

from otpqueue.client.errors import (
    InvalidResponseError,
    NoResponseError,
    OtpqueueClientError,
    WaitTimeoutError,
    build_error,
)
from otpqueue.client.models import Channel, PasscodeRequest
from otpqueue.client.responses import read_problem, read_request, read_retry_after
from otpqueue.client.retries import RetryPolicy, RetrySchedule
from otpqueue.client.version import VERSION

LONG_POLL_S = 20.0
"""How long one poll waits at the API for a change."""
POLL_S = 1.0
"""Pause between polls if the API names none."""

_REQUESTS = "/v1/otp-requests"


@dataclass(frozen=True, kw_only=True)
class HttpCall:
    """One HTTP request."""

    method: str
    path: str
    json: Mapping[str, Any] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    waits_s: float = 0.0
    """How much longer than usual the response may take."""


@dataclass(frozen=True)
class Pause:
    """A pause before the next step."""

    seconds: float


T = TypeVar("T")
Outcome = httpx.Response | httpx.RequestError | None
"""What comes of a step: a response, or why there is none; None after a pause."""
Steps = Generator[HttpCall | Pause, Outcome, T]


@dataclass(frozen=True, kw_only=True)
class ClientOptions:
    """How a client reaches the API."""

    base_url: str
    api_key: str = field(repr=False)
    timeout: httpx.Timeout
    retries: RetryPolicy

    @classmethod
    def resolve(
        cls,
        base_url: str | None,
        api_key: str | None,
        *,
        timeout: float,
        connect_timeout: float,
        retries: RetryPolicy,
    ) -> ClientOptions:
        """Return the options, from OTPQUEUE_URL and OTPQUEUE_API_KEY where not given. Raises ValueError."""
        url = base_url or os.environ.get("OTPQUEUE_URL", "")
        key = api_key or os.environ.get("OTPQUEUE_API_KEY", "")
        if not url.startswith(("https://", "http://")):
            raise ValueError("base_url, or OTPQUEUE_URL, must begin with https:// or http://.")
        if not key or not key.isascii() or any(character.isspace() for character in key):
            raise ValueError("api_key, or OTPQUEUE_API_KEY, must be an API key without white space.")
        return cls(
            base_url=url.rstrip("/"),
            api_key=key,
            timeout=httpx.Timeout(timeout, connect=connect_timeout),
            retries=retries,
        )

    def build_request(self, http: httpx.Client | httpx.AsyncClient, call: HttpCall) -> httpx.Request:
        """Return a call as httpx sends it."""
        timeout = self.timeout.as_dict()
        if call.waits_s and timeout["read"] is not None:
            timeout["read"] += call.waits_s
        return http.build_request(
            call.method,
            self.base_url + call.path,
            json=call.json,
            params=call.query or None,
            headers={
                "Authorization": f"Bearer {self.api_key}",
                "Accept": "application/json",
                "User-Agent": f"otpqueue-client-python/{VERSION}",
                **call.headers,
            },
            timeout=httpx.Timeout(**timeout),
        )

    def send_code(
        self,
        phone_number: str,
        *,
        country: str | None,
        channel: Channel | None,
        language: str | None,
        session_id: str | None,
        client_ip: str | None,
        client_reference: str | None,
        idempotency_key: str | None,
    ) -> Steps[PasscodeRequest]:
        """Request a code."""
        body = _omit_none(
            phone_number=phone_number,
            country=country,
            channel=channel,
            language=language,
            session_id=session_id,
            client_ip=client_ip,
            client_reference=client_reference,
        )
        return self._post(_REQUESTS, body, idempotency_key)

    def verify_code(
        self,
        request: PasscodeRequest | str,
        code: str,
        *,
        session_id: str | None,
        phone_number: str | None,
        client_ip: str | None,
        idempotency_key: str | None,
    ) -> Steps[PasscodeRequest]:
        """Check a code."""
        body = _omit_none(code=code, session_id=session_id, phone_number=phone_number, client_ip=client_ip)
        return self._post(f"{_build_path(request)}/verify", body, idempotency_key)

    def resend_code(
        self, request: PasscodeRequest | str, *, channel: Channel | None, idempotency_key: str | None
    ) -> Steps[PasscodeRequest]:
        """Resend the code."""
        return self._post(f"{_build_path(request)}/resend", _omit_none(channel=channel), idempotency_key)

    def get_request(self, request: PasscodeRequest | str) -> Steps[PasscodeRequest]:
        """Read the state."""
        response = yield from self._call(HttpCall(method="GET", path=_build_path(request)))
        return read_request(response)

    def cancel_request(self, request: PasscodeRequest | str) -> Steps[PasscodeRequest]:
        """Cancel the request."""
        response = yield from self._call(HttpCall(method="DELETE", path=_build_path(request)))
        return read_request(response)

    def wait_for_request(
        self,
        request: PasscodeRequest | str,
        *,
        until: Callable[[PasscodeRequest], bool],
        timeout: float,
    ) -> Steps[PasscodeRequest]:
        """Poll until a state is reached."""
        deadline = time.monotonic() + timeout
        path, etag = _build_path(request), ""
        # At once: the state may be reached already. Only the next polls wait for a change.
        wait_s = 0.0
        seen: PasscodeRequest | None = None
        while True:
            asked = time.monotonic()
            response = yield from self._call(_build_poll(path, wait_s=wait_s, etag=etag))
            if response.status_code != 304 or seen is None:
                seen, etag = read_request(response), response.headers.get("ETag", "")
            if until(seen) or seen.is_final:
                return seen
            now = time.monotonic()
            remaining = deadline - now
            if remaining <= 0:
                raise WaitTimeoutError(seen)
            # `wait` ends when the status changes, which it does not when a code is resent.
            is_resent = seen.is_being_sent and seen.status not in {"queued", "sending"}
            answered_early = response.status_code == 304 and now - asked < wait_s / 2
            if is_resent or answered_early or not etag:
                pause = read_retry_after(response) or POLL_S
                yield Pause(min(pause, remaining))
                wait_s = 0.0
            if not is_resent and etag:
                wait_s = max(0.0, min(LONG_POLL_S, deadline - time.monotonic()))

    def _post(
        self, path: str, body: Mapping[str, Any], idempotency_key: str | None
    ) -> Steps[PasscodeRequest]:
        key = idempotency_key or str(uuid4())
        call = HttpCall(method="POST", path=path, json=body, headers={"Idempotency-Key": key})
        response = yield from self._call(call)
        return read_request(response)

    def _call(self, call: HttpCall) -> Steps[httpx.Response]:
        schedule = RetrySchedule(self.retries)
        while True:
            outcome = yield call
            if isinstance(outcome, httpx.Response) and (outcome.is_success or outcome.status_code == 304):
                return outcome
            error = _build_failure(call, outcome)
            pause = schedule.choose_pause(error)
            if pause is None:
                raise error
            yield Pause(pause)


def _build_path(request: PasscodeRequest | str) -> str:
    request_id = request.id if isinstance(request, PasscodeRequest) else request
    return f"{_REQUESTS}/{quote(request_id, safe='')}"


def _build_poll(path: str, *, wait_s: float, etag: str) -> HttpCall:
    if not wait_s:
        return HttpCall(method="GET", path=path)
    return HttpCall(
        method="GET",
        path=path,
        query={"wait": f"{wait_s:.3f}"},
        headers={"If-None-Match": etag},
        waits_s=wait_s,
    )


def _omit_none(**fields: str | None) -> dict[str, str]:
    return {name: value for name, value in fields.items() if value is not None}


def _build_failure(call: HttpCall, outcome: Outcome) -> OtpqueueClientError:
    if isinstance(outcome, httpx.Response):
        if outcome.is_error:
            return build_error(read_problem(outcome))
        return InvalidResponseError(f"{call.method} {call.path} was answered {outcome.status_code}.")
    error = NoResponseError(f"No response to {call.method} {call.path}: {type(outcome).__name__}.")
    error.__cause__ = outcome
    return error
