"""The asynchronous client, for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

import httpx

from otpqueue.client.calls import ClientOptions, HttpCall, Outcome, Steps
from otpqueue.client.models import Channel, PasscodeRequest, is_settled
from otpqueue.client.retries import RetryPolicy

T = TypeVar("T")


class AsyncOtpqueueClient:
    """Calls the API from asyncio, as `OtpqueueClient` does from threads. Create one per event loop."""

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | None = None,
        *,
        timeout: float = 20.0,
        connect_timeout: float = 5.0,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008 - immutable
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._options = ClientOptions.resolve(
            base_url, api_key, timeout=timeout, connect_timeout=connect_timeout, retries=retries
        )
        self._owns_http = http is None
        self._http = http or httpx.AsyncClient()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        if self._owns_http:
            await self._http.aclose()

    async def send_code(
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
        """Request a code; see `OtpqueueClient.send_code`."""
        return await self._run(
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

    async def get_request(self, request: PasscodeRequest | str) -> PasscodeRequest:
        """Return the current state of a request; see `OtpqueueClient.get_request`."""
        return await self._run(self._options.get_request(request))

    async def wait_for_request(
        self,
        request: PasscodeRequest | str,
        *,
        until: Callable[[PasscodeRequest], bool] = is_settled,
        timeout: float = 30.0,
    ) -> PasscodeRequest:
        """Return the request when `until` is true of it; see `OtpqueueClient.wait_for_request`."""
        return await self._run(self._options.wait_for_request(request, until=until, timeout=timeout))

    async def verify_code(
        self,
        request: PasscodeRequest | str,
        code: str,
        *,
        session_id: str | None = None,
        phone_number: str | None = None,
        client_ip: str | None = None,
        idempotency_key: str | None = None,
    ) -> PasscodeRequest:
        """Check a code; see `OtpqueueClient.verify_code`."""
        return await self._run(
            self._options.verify_code(
                request,
                code,
                session_id=session_id,
                phone_number=phone_number,
                client_ip=client_ip,
                idempotency_key=idempotency_key,
            )
        )

    async def resend_code(
        self,
        request: PasscodeRequest | str,
        *,
        channel: Channel | None = None,
        idempotency_key: str | None = None,
    ) -> PasscodeRequest:
        """Send the same code again; see `OtpqueueClient.resend_code`."""
        return await self._run(
            self._options.resend_code(request, channel=channel, idempotency_key=idempotency_key)
        )

    async def cancel_request(self, request: PasscodeRequest | str) -> PasscodeRequest:
        """Cancel a request; see `OtpqueueClient.cancel_request`."""
        return await self._run(self._options.cancel_request(request))

    async def _run(self, steps: Steps[T]) -> T:
        outcome: Outcome = None
        try:
            step = next(steps)
            while True:
                if isinstance(step, HttpCall):
                    outcome = await self._exchange(step)
                else:
                    await asyncio.sleep(step.seconds)
                    outcome = None
                step = steps.send(outcome)
        except StopIteration as stop:
            result: T = stop.value
            return result

    async def _exchange(self, call: HttpCall) -> httpx.Response | httpx.RequestError:
        try:
            return await self._http.send(self._options.build_request(self._http, call))
        except httpx.RequestError as error:
            return error
