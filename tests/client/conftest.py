"""The client libraries over the real API: in this process for most tests, served for some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from otpqueue.client import AsyncOtpqueueClient, OtpqueueClient, RetryPolicy
from tests.api.conftest import (  # noqa: F401 - fixtures
    Caller,
    caller,
    make_caller,
    make_other_parts,
    module_app,
    module_idle_engines,
    module_parts,
    module_provider,
    module_settings,
    nowhere,
    served,
)

MakeClient = Callable[..., OtpqueueClient]
BASE_URL = "http://otpqueue.test"
QUICK = RetryPolicy(backoff=0.001, max_backoff=0.002)


class WsgiInAsync(httpx.AsyncBaseTransport):
    """Calls a WSGI application from an asynchronous client."""

    def __init__(self, app: object) -> None:
        self._wsgi = httpx.WSGITransport(app=app)  # type: ignore[arg-type]

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Make one call."""
        await request.aread()
        reply = self._wsgi.handle_request(request)
        return httpx.Response(reply.status_code, headers=reply.headers, content=reply.read())


@pytest.fixture
def client(caller: Caller) -> Iterator[OtpqueueClient]:  # noqa: F811 - a fixture
    """Yield a client of the API in this process, with the caller's key."""
    transport = httpx.WSGITransport(app=caller.app)
    with httpx.Client(transport=transport) as http:
        yield OtpqueueClient(BASE_URL, caller.key, http=http)


@pytest.fixture
def async_client(caller: Caller) -> AsyncOtpqueueClient:  # noqa: F811 - a fixture
    """Return an asynchronous client of the API in this process."""
    http = httpx.AsyncClient(transport=WsgiInAsync(caller.app))
    return AsyncOtpqueueClient(BASE_URL, caller.key, http=http)


@pytest.fixture
def over() -> Iterator[MakeClient]:
    """Yield a function that returns a client over a network that a function plays."""
    with ExitStack() as stack:

        def make(
            answer: Callable[[httpx.Request], httpx.Response], *, retries: RetryPolicy = QUICK
        ) -> OtpqueueClient:
            http = stack.enter_context(httpx.Client(transport=httpx.MockTransport(answer)))
            return OtpqueueClient(BASE_URL, "oq_key", http=http, retries=retries)

        yield make
