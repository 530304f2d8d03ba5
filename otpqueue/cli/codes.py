"""`otpqueue send`, `status`, `verify`: the API's calls from a shell, by HTTP like any caller's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import click
import requests

_TIMEOUT_S = 40


def _target(url: str | None, api_key: str | None) -> tuple[str, str]:
    """Return the API's URL and a key: from the options, the environment, or a running `otpqueue dev`."""
    url, api_key = url or os.environ.get("OTPQUEUE_URL"), api_key or os.environ.get("OTPQUEUE_API_KEY")
    described = Path(".otpqueue/dev.json")
    if described.is_file() and not (url and api_key):
        dev = json.loads(described.read_text())
        url, api_key = url or dev["api_url"], api_key or dev["api_key"]
    if not url or not api_key:
        raise click.ClickException(
            "no API to call: set OTPQUEUE_URL and OTPQUEUE_API_KEY, or run this beside `otpqueue dev`"
        )
    return url.rstrip("/"), api_key


def _call(target: tuple[str, str], method: str, path: str, body: dict[str, Any] | None = None) -> None:
    url, api_key = target
    try:
        response = requests.request(
            method,
            url + path,
            json=body,
            headers={"Authorization": f"Bearer {api_key}"},
            timeout=_TIMEOUT_S,
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
    return click.option("--api-key", help="A key for it; better in OTPQUEUE_API_KEY.")(command)


@click.command()
@click.argument("phone_number")
@click.option("--session-id", help="Binds the code to a session.")
@click.option("--country", help="Country of a national number, e.g. GB.")
@_with_target
def send(
    phone_number: str, session_id: str | None, country: str | None, url: str | None, api_key: str | None
) -> None:
    """Ask for a code to be sent to PHONE_NUMBER."""
    given = {"phone_number": phone_number, "session_id": session_id, "country": country}
    body = {name: value for name, value in given.items() if value is not None}
    _call(_target(url, api_key), "POST", "/v1/otp-requests", body)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.option("--wait", default=0, type=click.IntRange(0, 30), help="Wait so many seconds for a change.")
@_with_target
def status(request_id: Any, wait: int, url: str | None, api_key: str | None) -> None:
    """Show how the request REQUEST_ID stands."""
    _call(_target(url, api_key), "GET", f"/v1/otp-requests/{request_id}?wait={wait}")


@click.command()
@click.argument("request_id", type=click.UUID)
@click.argument("code")
@click.option("--session-id", help="The session the code was asked for.")
@_with_target
def verify(request_id: Any, code: str, session_id: str | None, url: str | None, api_key: str | None) -> None:
    """Check CODE against the request REQUEST_ID; exit code 0 only if it is right."""
    body = {"code": code} | ({"session_id": session_id} if session_id else {})
    _call(_target(url, api_key), "POST", f"/v1/otp-requests/{request_id}/verify", body)
