"""`otpqueue send`, `status`, `verify`: the API's calls from a shell, by HTTP like any caller's.

Numbers and codes may be arguments, for a try, or typed: arguments stay in the shell's history, and every user
of the machine sees them.
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

from otpqueue.cli.typed import typed_code, typed_number

_TIMEOUT_S = 40
_DESCRIBED = Path(".otpqueue/dev.json")


def _target(url: str | None, api_key: str | None) -> tuple[str, str]:
    """Return the API's URL and a key, both from one place.

    That is what the caller gave, by options and environment, or else a running `otpqueue dev`. A file of the
    working folder never says where a key of the caller's goes. Raises ClickException.
    """
    url, api_key = url or os.environ.get("OTPQUEUE_URL"), api_key or os.environ.get("OTPQUEUE_API_KEY")
    if not url and not api_key and _DESCRIBED.is_file():
        url, api_key = _of_dev()
    if not url or not api_key:
        missing = "OTPQUEUE_URL and OTPQUEUE_API_KEY"
        if url or api_key:
            missing = "OTPQUEUE_API_KEY, too" if url else "OTPQUEUE_URL, too"
        raise click.ClickException(
            f"no API to call: set {missing}, or neither and run this beside `otpqueue dev`"
        )
    return url.rstrip("/"), api_key


def _of_dev() -> tuple[str, str]:
    try:
        dev = json.loads(_DESCRIBED.read_text(encoding="utf-8"))
        url, api_key = str(dev["api_url"]), str(dev["api_key"])
        host = urlsplit(url).hostname
    except (OSError, ValueError, KeyError, TypeError):
        raise click.ClickException(f"{_DESCRIBED} cannot be read; is it `otpqueue dev`'s?") from None
    if not host or not _is_here(host):
        # A number or a code would go to whoever wrote the file.
        raise click.ClickException(
            f"{_DESCRIBED} names another machine: set OTPQUEUE_URL and OTPQUEUE_API_KEY"
        )
    return url, api_key


def _is_here(host: str) -> bool:
    """Return whether a host is this machine: no address of another one can be bound."""
    try:
        for family, _, _, _, address in socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM):
            with socket.socket(family) as probe:
                probe.bind(address)
    except (OSError, UnicodeError):
        return False
    return True


class _Bearer(AuthBase):
    """Puts the key into the call; as a plain header an entry of `.netrc` would replace it."""

    def __init__(self, api_key: str) -> None:
        self._api_key = api_key

    def __call__(self, call: requests.PreparedRequest) -> requests.PreparedRequest:
        call.headers["Authorization"] = f"Bearer {self._api_key}"
        return call


def _call(target: tuple[str, str], method: str, path: str, body: dict[str, Any] | None = None) -> None:
    url, api_key = target
    try:
        response = requests.request(
            method,
            url + path,
            json=body,
            auth=_Bearer(api_key),
            timeout=_TIMEOUT_S,
            # The API sends none, and a number must not follow one elsewhere.
            allow_redirects=False,
        )
    except (requests.RequestException, UnicodeError) as error:  # a key that cannot stand in a header
        raise click.ClickException(f"{url} cannot be reached ({type(error).__name__})") from None
    try:
        answer = response.json()
    except ValueError:
        raise click.ClickException(f"{url} answered HTTP {response.status_code} and no JSON") from None
    click.echo(json.dumps(answer, indent=2))
    if not response.ok:
        raise SystemExit(1)


def _with_target(command: Any) -> Any:
    command = click.option("--url", help="The API; OTPQUEUE_URL unless given.")(command)
    return click.option(
        "--api-key", help="A key for it; better in OTPQUEUE_API_KEY, where others do not see it."
    )(command)


@click.command()
@click.argument("phone_number", required=False)
@click.option("--session-id", help="Binds the code to a session.")
@click.option("--country", help="Country of a national number, e.g. GB.")
@_with_target
def send(
    phone_number: str | None,
    session_id: str | None,
    country: str | None,
    url: str | None,
    api_key: str | None,
) -> None:
    """Ask for a code to be sent to PHONE_NUMBER.

    Unless given, the number is asked for, or read from stdin: then it does not stand in the process list.
    """
    target = _target(url, api_key)
    if phone_number is None:
        phone_number = typed_number()
    given = {"phone_number": phone_number, "session_id": session_id, "country": country}
    body = {name: value for name, value in given.items() if value is not None}
    _call(target, "POST", "/v1/otp-requests", body)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.option("--wait", default=0, type=click.IntRange(0, 30), help="Wait so many seconds for a change.")
@_with_target
def status(request_id: Any, wait: int, url: str | None, api_key: str | None) -> None:
    """Show how the request REQUEST_ID stands."""
    _call(_target(url, api_key), "GET", f"/v1/otp-requests/{request_id}?wait={wait}")


@click.command()
@click.argument("request_id", type=click.UUID)
@click.argument("code", required=False)
@click.option("--session-id", help="The session the code was asked for.")
@_with_target
def verify(
    request_id: Any, code: str | None, session_id: str | None, url: str | None, api_key: str | None
) -> None:
    """Check CODE against the request REQUEST_ID; exit code 0 only if it is right.

    Unless given, the code is asked for, or read from stdin: then it does not stand in the process list.
    """
    target = _target(url, api_key)
    if code is None:
        code = typed_code()
    body = {"code": code} | ({"session_id": session_id} if session_id else {})
    _call(target, "POST", f"/v1/otp-requests/{request_id}/verify", body)
