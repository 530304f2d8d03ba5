"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import httpx

from otpqueue.client.calls import ClientOptions, HttpCall, Outcome, Steps
from otpqueue.client.models import Channel, PasscodeRequest, is_settled
from otpqueue.client.retries import RetryPolicy

T = TypeVar("T")


class OtpqueueClient:
    """Calls the API. Create one per process and share it: it is thread-safe and keeps connections open.

    `base_url` and `api_key` default to the environment variables OTPQUEUE_URL and OTPQUEUE_API_KEY.
    `timeout` and `connect_timeout` bound each attempt, in seconds. Give an `http` client of your own for
    proxies, client certificates and the like; it is not closed.

    Every call raises the errors of `otpqueue.client.errors`.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        # A check takes up to 15 s while Infobip is slow.
        timeout: float = 20.0,
        connect_timeout: float = 5.0,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008 - immutable
        http: httpx.Client | None = None,
    ) -> None:
        self._options = ClientOptions.resolve(
            base_url, api_key, timeout=timeout, connect_timeout=connect_timeout, retries=retries
        )
        self._owns_http = http is None
        self._http = http or httpx.Client()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        if self._owns_http:
            self._http.close()

    def send_code(
        self,
        phone_number: str,
        *,
        country: str | None = None,
        channel: Channel | None = None,
        language: str | None = None,
        session_id: str | None = None,
        client_ip: str | None = None,
        client_reference: str | None = None,
        idempotency_key: str | None = None,
    ) -> PasscodeRequest:
        """Request a code for a number in E.164, or a national number of a `country`.

        It returns before the code is sent: poll with `wait_for_request`. `session_id` binds the code to a
        login session, `client_ip` is the end user's address.
        """
        return self._run(
            self._options.send_code(
                phone_number,
                country=country,
                channel=channel,
                language=language,
                session_id=session_id,
                client_ip=client_ip,
                client_reference=client_reference,
                idempotency_key=idempotency_key,
            )
        )

    def get_request(self, request: PasscodeRequest | str) -> PasscodeRequest:
        """Return the current state of a request, given by its id or a former state."""
        return self._run(self._options.get_request(request))

    def wait_for_request(
        self,
        request: PasscodeRequest | str,
        *,
        until: Callable[[PasscodeRequest], bool] = is_settled,
        timeout: float = 30.0,
    ) -> PasscodeRequest:
        """Return the request as soon as `until` is true of it or it has ended, by default when it was sent.

        The result may have ended: check its `status`. `timeout` is in seconds. Raises WaitTimeoutError.
        """
        return self._run(self._options.wait_for_request(request, until=until, timeout=timeout))

    def verify_code(
        self,
        request: PasscodeRequest | str,
        code: str,
        *,
        session_id: str | None = None,
        phone_number: str | None = None,
        client_ip: str | None = None,
        idempotency_key: str | None = None,
    ) -> PasscodeRequest:
        """Check a code. It returns only if the code is correct, and raises an error otherwise.

        Raises CodeIncorrectError for a wrong code, RequestEndedError if a new request is needed.
        """
        return self._run(
            self._options.verify_code(
                request,
                code,
                session_id=session_id,
                phone_number=phone_number,
                client_ip=client_ip,
                idempotency_key=idempotency_key,
            )
        )

    def resend_code(
        self,
        request: PasscodeRequest | str,
        *,
        channel: Channel | None = None,
        idempotency_key: str | None = None,
    ) -> PasscodeRequest:
        """Send the same code again, on the same channel unless another is given.

        Raises ResendTooSoonError before `resend_after`.
        """
        return self._run(self._options.resend_code(request, channel=channel, idempotency_key=idempotency_key))

    def cancel_request(self, request: PasscodeRequest | str) -> PasscodeRequest:
        """Cancel a request. A request that has ended does not change."""
        return self._run(self._options.cancel_request(request))

    def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, HttpCall):
                    outcome = self._exchange(step)
                else:
                    time.sleep(step.seconds)
                    outcome = None
                step = steps.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    def _exchange(self, call: HttpCall) -> httpx.Response | httpx.RequestError:
        try:
            return self._http.send(self._options.build_request(self._http, call))
        except httpx.RequestError as error:
            return error
