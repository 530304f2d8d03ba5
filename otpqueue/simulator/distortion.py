"""Distorts responses: invalid JSON, cut off, padded, or sent byte by byte."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable

import falcon
import falcon.asgi

from otpqueue.simulator.errors import make_html_page
from otpqueue.simulator.faults import FaultBody


async def distort_response(resp: falcon.asgi.Response, fault: FaultBody, cut: Callable[[], None]) -> None:
    """Distort a finished response by the fault's `form`; `cut` closes the connection."""
    if fault.form == "html":
        _replace(resp, make_html_page(resp.status_code), falcon.MEDIA_HTML)
        return
    if fault.form == "empty":
        _replace(resp, "", resp.content_type or falcon.MEDIA_JSON)
        return
    body = await resp.render_body() or b""
    half = body[: len(body) // 2]
    if fault.form == "broken":
        _replace(resp, half, resp.content_type)
    elif fault.form == "huge":
        _replace(resp, _padded(body, fault.size_bytes), resp.content_type)
    elif fault.form == "truncated":
        _stream(resp, _then_cut(half, cut), len(body))
    else:
        _stream(resp, _byte_by_byte(body, fault.byte_ms / 1000), len(body))


def _replace(resp: falcon.asgi.Response, body: str | bytes, content_type: str | None) -> None:
    resp.media = None
    resp.text = None
    resp.data = body.encode() if isinstance(body, str) else body
    resp.content_type = content_type or falcon.MEDIA_JSON


def _stream(resp: falcon.asgi.Response, chunks: AsyncIterator[bytes], length: int) -> None:
    resp.media = None
    resp.text = None
    resp.data = None
    resp.stream = chunks
    resp.content_length = length


def _padded(body: bytes, size: int) -> bytes:
    """Return a body of `size` bytes: an object with one more field, anything else followed by spaces."""
    if body.startswith(b"{") and body.endswith(b"}"):
        comma = b"" if body == b"{}" else b", "
        frame = len(body) + len(comma) + len(json.dumps({"padding": ""})) - 2
        return b'%b%b"padding": "%b"}' % (body[:-1], comma, b"x" * max(0, size - frame))
    return body.ljust(size)


async def _then_cut(part: bytes, cut: Callable[[], None]) -> AsyncIterator[bytes]:
    yield part
    # An abort discards buffered data, so flush it first.
    await asyncio.sleep(0.05)
    cut()
    await asyncio.sleep(0)


async def _byte_by_byte(body: bytes, interval_s: float) -> AsyncIterator[bytes]:
    for start in range(len(body)):
        if start:
            await asyncio.sleep(interval_s)
        yield body[start : start + 1]
