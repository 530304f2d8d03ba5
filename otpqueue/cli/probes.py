"""Probes of the services of a development instance."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from urllib.parse import urlsplit

from otpqueue.cli.exits import CommandFailed, ExitCode

_POLL_S = 0.03


def require_free_port(host: str, port: int) -> None:
    """Raise CommandFailed if the port is in use."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            raise CommandFailed(
                ExitCode.PROBLEM, f"Port {port} is in use. Choose another with --port."
            ) from None


def fetch_body(url: str) -> bytes | None:
    """Return the body of the response, whatever its status, or None if there is no response."""
    where = urlsplit(url)
    connection = HTTPConnection(where.hostname or "", where.port, timeout=5)
    try:
        connection.request("GET", where.path)
        return connection.getresponse().read()
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()


def wait_until(
    is_ready: Callable[[], bool], what: str, check_children: Callable[[], None], *, seconds: float = 60
) -> None:
    """Poll `is_ready` until it returns True.

    Raises CommandFailed after `seconds`, and whatever `check_children` raises when a child has ended.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_ready():
            return
        check_children()
        time.sleep(_POLL_S)
    raise CommandFailed(
        ExitCode.PROBLEM, f"{what} was not ready within {seconds:g} s. See the messages above."
    )
