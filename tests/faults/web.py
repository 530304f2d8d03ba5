"""One HTTP call on a connection of its own, with an honest account of how it failed.

The three ends of a call are kept apart: an answer, no connection (the other side has not seen the call), and
no answer (the effect on the other side is unknown).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


class NotConnected(Exception):
    """No connection was made: the call has surely had no effect."""


class NoAnswer(Exception):
    """The call left, and no whole answer came: it may or may not have had its effect."""


@dataclass(frozen=True)
class Answer:
    """A whole answer; `body` is its JSON value, None where it has none."""

    status: int
    body: Any
    retry_after: str | None = None
    """The header `Retry-After`."""


def call(
    method: str,
    url: str,
    body: object = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10,
) -> Answer:
    """Make one call. Raises NotConnected or NoAnswer; `timeout_s` bounds each step of it."""
    parts = urlsplit(url)
    assert parts.hostname, url
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise NotConnected(type(error).__name__) from error
        content = None if body is None else json.dumps(body).encode()
        kind = {} if body is None else {"Content-Type": "application/json"}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            connection.request(method, path, content, {**kind, **(headers or {})})
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(type(error).__name__) from error
    finally:
        connection.close()
    retry_after = response.getheader("Retry-After")
    try:
        return Answer(response.status, json.loads(text), retry_after)
    except ValueError:
        return Answer(response.status, None, retry_after)
