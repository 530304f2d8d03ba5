"""The API that `send`, `status`, `verify`, `resend`, `cancel` and `load` call, and a call to it over HTTP."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click
import requests
from requests.auth import AuthBase

from otpqueue.cli.beside_dev import find_instance
from otpqueue.cli.errors import choose_exit
from otpqueue.cli.exits import CommandFailed, ExitCode

_TIMEOUT_S = 40


@dataclass(frozen=True)
class ApiTarget:
    """The URL of an API and a key for it."""

    url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True)
class ApiAnswer:
    """The JSON of a response."""

    status: int
    body: dict[str, Any]

    @property
    def is_success(self) -> bool:
        """Whether the API did what was asked."""
        return 200 <= self.status < 300

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of a command that got this answer."""
        return ExitCode.OK if self.is_success else choose_exit(self.status, self.body.get("code"))


def add_target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--url` and `--api-key` to a command."""
    command = click.option("--url", help="URL of the API. Default: OTPQUEUE_URL.")(command)
    return click.option(
        "--api-key", help="API key. Default: OTPQUEUE_API_KEY, which the process list does not show."
    )(command)


def choose_target(url: str | None, api_key: str | None) -> ApiTarget:
    """Return the API's URL and a key, both from the same source.

    The source is options and environment, or else a running `otpqueue dev`. A file in the working folder
    never decides where the user's own key is sent. Raises CommandFailed.
    """
    url, api_key = url or os.environ.get("OTPQUEUE_URL"), api_key or os.environ.get("OTPQUEUE_API_KEY")
    if not url and not api_key and (instance := find_instance()) is not None:
        url, api_key = instance.api_url, instance.api_key
    if not url or not api_key:
        missing = "OTPQUEUE_URL and OTPQUEUE_API_KEY"
        if url or api_key:
            missing = "OTPQUEUE_API_KEY as well" if url else "OTPQUEUE_URL as well"
        raise CommandFailed(
            ExitCode.CONFIGURATION,
            f"No API to call. Set {missing}, or set neither and run this beside `otpqueue dev`.",
        )
    return ApiTarget(url.rstrip("/"), api_key)


class _BearerAuth(AuthBase):
    """Adds the key to a call. `requests` would replace a plain header by an entry of `.netrc`."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        call.headers["Authorization"] = f"Bearer {self._api_key}"
        return call


def call_target(target: ApiTarget, method: str, path: str, body: dict[str, Any] | None = None) -> ApiAnswer:
    """Call the API. Raises CommandFailed if there is no answer, or one without JSON."""
    try:
        response = requests.request(
            method,
            target.url + path,
            json=body,
            auth=_BearerAuth(target.api_key),
            timeout=_TIMEOUT_S,
            # The API never redirects, and a number must not be sent to another host.
            allow_redirects=False,
        )
    except (requests.RequestException, UnicodeError) as error:  # a key that is not valid in a header
        raise CommandFailed(
            ExitCode.UNREACHABLE, f"Cannot reach {target.url} ({type(error).__name__})."
        ) from None
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise CommandFailed(
            ExitCode.UNREACHABLE, f"{target.url} answered HTTP {response.status_code} without JSON."
        )
    return ApiAnswer(response.status_code, answer)
