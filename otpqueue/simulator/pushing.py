"""Pushing delivery reports to webhooks over HTTP, in the background of the server's event loop."""

import asyncio
import json
import ssl
from typing import Final
from urllib.parse import urlsplit

from otpqueue.simulator.outbox import Push
from otpqueue.simulator.state import SimulatorState

USER_AGENT: Final = "otpqueue-simulator"
MAX_WAIT_S: Final = 3600.0
MAX_AT_ONCE: Final = 8
REST_S: Final = 1.0
REST_BYTES: Final = 65_536


class Pusher:
    """Pushes due reports, and retries failed pushes, until cancelled."""

    def __init__(self, state: SimulatorState) -> None:
        self._state = state
        self._wake = asyncio.Event()
        self._push_slots = asyncio.Semaphore(MAX_AT_ONCE)
        self._pushing: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Push until cancelled; run it as a task."""
        loop = asyncio.get_running_loop()

        def wake() -> None:
            # A test may change the state from a thread of its own.
            loop.call_soon_threadsafe(self._wake.set)

        self._state.when_work = wake
        try:
            while True:
                self._wake.clear()
                await self._push_due()
                await self._sleep()
        finally:
            self._state.when_work = None
            for task in self._pushing:
                task.cancel()
            await asyncio.gather(*self._pushing, return_exceptions=True)

    async def push_now(self, message_id: str) -> None:
        """Push the due reports of one message, and return when the pushes succeeded or failed."""
        state = self._state
        with state.lock:
            now = state.clock.now()
            state.outbox.release(now)
            pushes = state.outbox.take_pushes(now, message_id=message_id)
        await asyncio.gather(*(self._push(push) for push in pushes))

    async def _push_due(self) -> None:
        state = self._state
        with state.lock:
            if state.outbox.release(state.clock.now()):
                state.touch()
            gathering = bool(state.outbox.ready)
        if gathering:
            await asyncio.sleep(state.options.receipts_linger_ms / 1000)
        with state.lock:
            now = state.clock.now()
            state.outbox.release(now)
            pushes = state.outbox.take_pushes(now)
        for push in pushes:
            task = asyncio.create_task(self._push(push))
            self._pushing.add(task)
            task.add_done_callback(self._pushing.discard)

    async def _sleep(self) -> None:
        state = self._state
        with state.lock:
            due = state.outbox.next_due()
            wait_s = MAX_WAIT_S if due is None else min(MAX_WAIT_S, due - state.clock.now())
        if wait_s <= 0:
            return
        try:
            async with asyncio.timeout(wait_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _push(self, push: Push) -> None:
        state = self._state
        legacy = state.options.receipts_shape == "legacy"
        shown = [report.as_json(state.options, legacy=legacy) for report in push.reports]
        if state.options.extra_fields:
            shown = [{**report, "unknownField": {"a": [1]}} for report in shown]
        async with self._push_slots:
            accepted = await post_json(
                push.target.url,
                json.dumps({"results": shown}).encode(),
                push.target.headers,
                timeout_s=push.target.timeout_s,
            )
        with state.lock:
            if accepted:
                state.outbox.counts.accepted += 1
            else:
                state.outbox.failed(push, state.clock.now())
            state.touch()
        self._wake.set()


async def post_json(url: str, body: bytes, headers: dict[str, str], *, timeout_s: float) -> bool:
    """Post a JSON body on a connection of its own; return whether the answer was 2xx.

    A failed connection, a timeout or an invalid response returns False. Redirects are not followed. A
    cancelled call closes its connection at once, which a thread in a blocking client could not.
    """
    try:
        async with asyncio.timeout(timeout_s):
            status_line = await _exchange(url, body, headers)
    except (OSError, ValueError, asyncio.IncompleteReadError, TimeoutError):
        return False
    version, _, rest = status_line.partition(b" ")
    return version.startswith(b"HTTP/1.") and rest[:1] == b"2"


async def _exchange(url: str, body: bytes, headers: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    host = parts.hostname or ""
    reader, writer = await asyncio.open_connection(
        host, parts.port or (443 if secure else 80), ssl=ssl.create_default_context() if secure else None
    )
    try:
        writer.write(_request(parts.netloc.rpartition("@")[2], parts.path, parts.query, body, headers))
        await writer.drain()
        status_line = await reader.readline()
        await _read_rest(reader)
        return status_line
    finally:
        writer.close()


async def _read_rest(reader: asyncio.StreamReader) -> None:
    """Read the rest of the webhook's response for a limited time before the connection closes."""
    try:
        async with asyncio.timeout(REST_S):
            await reader.read(REST_BYTES)
    except (OSError, TimeoutError):
        pass


def _request(host: str, path: str, query: str, body: bytes, headers: dict[str, str]) -> bytes:
    lines = [
        f"POST {path or '/'}{'?' + query if query else ''} HTTP/1.1",
        f"Host: {host}",
        f"User-Agent: {USER_AGENT}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    head = "\r\n".join(lines) + "\r\n\r\n"
    return head.encode("latin-1", "replace") + body
