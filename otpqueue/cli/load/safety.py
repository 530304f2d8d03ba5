"""Makes sure that a load test reaches the simulator and nothing else, before it begins.

A message that Infobip sends costs money, so four facts must hold: this shell's provider is the simulator, the
database has never been provisioned at Infobip, the API key is in that database, and one code that is
requested from the API arrives at the simulator. All numbers are reserved for audiovisual works.
"""

from __future__ import annotations

import time
from http.client import HTTPException
from typing import Any
from urllib.parse import quote

import requests

from otpqueue import clock
from otpqueue.cli.errors import choose_exit
from otpqueue.cli.exits import CommandFailed, ExitCode
from otpqueue.cli.load.generator import request_one_code
from otpqueue.cli.target import ApiTarget
from otpqueue.domain.errors import Unauthenticated
from otpqueue.store import provider_ids
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts

_TIMEOUT_S = 5
_ARRIVES_WITHIN_S = 20.0
_POLL_S = 0.1


class SimulatorInbox:
    """The control endpoints of the simulator."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session = requests.Session()
        self._session.trust_env = False

    def count_sends(self) -> int:
        """Return how many messages it has accepted. Raises CommandFailed if it does not answer."""
        operations = self._get("/_simulator/stats")["requests"]
        return sum(
            statuses.get("200", 0)
            for operation, statuses in operations.items()
            if operation.startswith("POST /2fa/2/pin") and "verify" not in operation
        )

    def has_message(self, number: str) -> bool:
        """Return whether a message to this number has arrived."""
        return bool(self._get(f"/_simulator/messages?to={quote(number.removeprefix('+'))}")["messages"])

    def close(self) -> None:
        """Close the connection."""
        self._session.close()

    def _get(self, path: str) -> dict[str, Any]:
        try:
            response = self._session.get(self._url + path, timeout=_TIMEOUT_S, allow_redirects=False)
            answer = response.json() if response.ok else None
        except (requests.RequestException, ValueError):
            answer = None
        if not isinstance(answer, dict):
            raise CommandFailed(ExitCode.REFUSED, f"There is no simulator at {self._url}.")
        return answer


def open_simulator(parts: Parts, target: ApiTarget) -> SimulatorInbox:
    """Return the simulator of this deployment. Raises CommandFailed unless the first three facts hold."""
    url = parts.settings.require("infobip_base_url")
    if not url.startswith("http:"):
        raise CommandFailed(
            ExitCode.REFUSED, "INFOBIP_BASE_URL is not a simulator. A load test would send real messages."
        )
    with connection(parts.engine) as conn:
        accounts = provider_ids.list_base_urls(conn)
    if any(not account.startswith("http:") for account in accounts):
        raise CommandFailed(
            ExitCode.REFUSED,
            "This database has been provisioned at Infobip, so a worker may send real messages. Use another "
            "database.",
        )
    try:
        parts.keys.authenticate(target.api_key, now=clock.now())
    except Unauthenticated:
        raise CommandFailed(
            ExitCode.REFUSED,
            "The API key is not in this shell's database, so the API may be another deployment.",
        ) from None
    inbox = SimulatorInbox(url)
    inbox.count_sends()
    return inbox


def send_canary(target: ApiTarget, inbox: SimulatorInbox, number: str) -> None:
    """Request one code and wait until it arrives at the simulator. Raises CommandFailed if it does not."""
    try:
        status, problem = request_one_code(target, number)
    except (OSError, HTTPException, UnicodeError) as error:
        raise CommandFailed(
            ExitCode.UNREACHABLE, f"Cannot reach {target.url} ({type(error).__name__})."
        ) from None
    if status != 202:
        hint = ""
        if problem == "number_not_allowed":
            hint = " Set OTPQUEUE_ALLOW_DOCUMENTATION_NUMBERS=true for the API during the test."
        raise CommandFailed(choose_exit(status, problem), f"The API refused the first code: {problem}.{hint}")
    deadline = time.monotonic() + _ARRIVES_WITHIN_S
    while time.monotonic() < deadline:
        if inbox.has_message(number):
            return
        time.sleep(_POLL_S)
    raise CommandFailed(
        ExitCode.REFUSED,
        f"The first code did not arrive at the simulator within {_ARRIVES_WITHIN_S:g} s. Check that a worker "
        "of the queue `send` runs and uses this simulator.",
    )
