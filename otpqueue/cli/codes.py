"""`otpqueue send`, `status`, `verify`: call the API over HTTP from a shell.

Numbers and codes may be arguments for a quick test. Arguments stay in the shell's history, and every user of
the machine can see them in the process list. Otherwise they are read from a prompt or standard input.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import requests
from requests.auth import AuthBase

from otpqueue.cli.prompts import read_code, read_number

_TIMEOUT_S = 40
_DEV_FILE = Path(".otpqueue/dev.json")


def _choose_target(url: str | None, api_key: str | None) -> tuple[str, str]:
    """Return the API's URL and a key, both from the same source.

    The source is options and environment, or else a running `otpqueue dev`. A file in the working folder
    never decides where the user's own key is sent. Raises ClickException.
    """
    url, api_key = url or os.environ.get("OTPQUEUE_URL"), api_key or os.environ.get("OTPQUEUE_API_KEY")
    if not url and not api_key and _DEV_FILE.is_file():
        url, api_key = _read_dev_file()
    if not url or not api_key:
        missing = "OTPQUEUE_URL and OTPQUEUE_API_KEY"
        if url or api_key:
            missing = "OTPQUEUE_API_KEY as well" if url else "OTPQUEUE_URL as well"
        raise click.ClickException(
            f"No API to call. Set {missing}, or set neither and run this beside `otpqueue dev`."
        )
    return url.rstrip("/"), api_key


def _read_dev_file() -> tuple[str, str]:
    try:
        dev = json.loads(_DEV_FILE.read_text(encoding="utf-8"))
        url, api_key = str(dev["api_url"]), str(dev["api_key"])
        host = urlsplit(url).hostname
    except (OSError, ValueError, KeyError, TypeError):
        raise click.ClickException(f"Cannot read {_DEV_FILE}. Did `otpqueue dev` write it?") from None
    if not host or not _is_local(host):
        # Another user may have written the file to receive numbers and codes.
        raise click.ClickException(
            f"{_DEV_FILE} names another machine. Set OTPQUEUE_URL and OTPQUEUE_API_KEY instead."
        )
    return url, api_key


def _is_local(host: str) -> bool:
    """Return whether a host is this machine. Only a local address can be bound."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True


class _BearerAuth(AuthBase):
    """Adds the key to a call. `requests` would replace a plain header by an entry of `.netrc`."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        call.headers["Authorization"] = f"Bearer {self._api_key}"
        return call


def _print_answer(
    target: tuple[str, str], method: str, path: str, body: dict[str, Any] | None = None
) -> None:
    url, api_key = target
    try:
        response = requests.request(
            method,
            url + path,
            json=body,
            auth=_BearerAuth(api_key),
            timeout=_TIMEOUT_S,
            # The API never redirects, and a number must not be sent to another host.
            allow_redirects=False,
        )
    except (requests.RequestException, UnicodeError) as error:  # a key that is not valid in a header
        raise click.ClickException(f"Cannot reach {url} ({type(error).__name__}).") from None
    try:
        answer = response.json()
    except ValueError:
        raise click.ClickException(f"{url} answered HTTP {response.status_code} without JSON.") from None
    click.echo(json.dumps(answer, indent=2))
    if not response.ok:
        raise SystemExit(1)


def _add_target_options(command: Any) -> Any:
    command = click.option("--url", help="URL of the API. Default: OTPQUEUE_URL.")(command)
    return click.option(
        "--api-key", help="API key. Default: OTPQUEUE_API_KEY, which the process list does not show."
    )(command)


@click.command()
@click.argument("phone_number", required=False)
@click.option("--session-id", help="Bind the code to this session.")
@click.option("--country", help="Country of a national number, for example GB.")
@_add_target_options
def send(
    phone_number: str | None,
    session_id: str | None,
    country: str | None,
    url: str | None,
    api_key: str | None,
) -> None:
    """Request a code for PHONE_NUMBER.

    Without PHONE_NUMBER, the number is read from a prompt or standard input, so that the process list does
    not show it.
    """
    target = _choose_target(url, api_key)
    if phone_number is None:
        phone_number = read_number()
    given = {"phone_number": phone_number, "session_id": session_id, "country": country}
    body = {name: value for name, value in given.items() if value is not None}
    _print_answer(target, "POST", "/v1/otp-requests", body)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.option(
    "--wait", default=0, type=click.IntRange(0, 30), help="Wait up to this many seconds for a change."
)
@_add_target_options
def status(request_id: Any, wait: int, url: str | None, api_key: str | None) -> None:
    """Show the status of the request REQUEST_ID."""
    _print_answer(_choose_target(url, api_key), "GET", f"/v1/otp-requests/{request_id}?wait={wait}")


@click.command()
@click.argument("request_id", type=click.UUID)
@click.argument("code", required=False)
@click.option("--session-id", help="The session that the code is bound to.")
@_add_target_options
def verify(
    request_id: Any, code: str | None, session_id: str | None, url: str | None, api_key: str | None
) -> None:
    """Verify CODE for the request REQUEST_ID. Exit code 0 means that it is right.

    Without CODE, the code is read from a prompt or standard input, so that the process list does not show it.
    """
    target = _choose_target(url, api_key)
    if code is None:
        code = read_code()
    body = {"code": code} | ({"session_id": session_id} if session_id else {})
    _print_answer(target, "POST", f"/v1/otp-requests/{request_id}/verify", body)
