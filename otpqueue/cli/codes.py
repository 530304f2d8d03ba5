"""`otpqueue send`, `status`, `verify`, `resend`, `cancel`: call the API over HTTP from a shell.

Numbers and codes may be arguments for a quick test. Arguments stay in the shell's history, and every user of
the machine can see them in the process list. Otherwise they are read from a prompt or standard input.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from otpqueue.cli.output import json_option, print_facts, remove_control_characters
from otpqueue.cli.prompts import read_code, read_number
from otpqueue.cli.target import ApiAnswer, add_target_options, call_target, choose_target

_CHANNELS = click.Choice(["sms", "voice"])

_SHOWN = {
    "id": "request",
    "status": "status",
    "phone_number": "number",
    "channel": "channel",
    "send_by": "send by",
    "sent_at": "sent",
    "expires_at": "expires",
    "verified_at": "verified",
    "checks_left": "checks left",
    "sends_left": "sends left",
    "resend_after": "resend from",
}
"""The fields of a request in the output for people, with their names there."""


def _print_answer(answer: ApiAnswer, *, as_json: bool) -> None:
    """Print a request, or the problem: as JSON to standard output, or else as one message to stderr."""
    if answer.is_success or as_json:
        print_facts(answer.body, _format_request(answer.body), as_json=as_json)
    else:
        for line in _format_problem(answer.body):
            click.echo(remove_control_characters(line), err=True)
    if not answer.is_success:
        raise click.exceptions.Exit(answer.exit_code)


def _format_request(body: dict[str, Any]) -> Iterator[str]:
    ended = ", ".join(str(body[name]) for name in ("reason", "provider_code") if body.get(name))
    for name, title in _SHOWN.items():
        value = body.get(name)
        if value is not None:
            note = f" ({ended})" if name == "status" and ended else ""
            yield f"{title:<13}{value}{note}"
    resend = body.get("resend")
    if isinstance(resend, dict):
        yield f"{'resend':<13}{' '.join(str(value) for value in resend.values() if value is not None)}"


def _format_problem(body: dict[str, Any]) -> Iterator[str]:
    yield f"Error: {body.get('detail') or body.get('title')} ({body.get('code')})"
    for one in body.get("errors") or ():
        yield f"  {one.get('field')} {one.get('message')}"
    if body.get("checks_left") is not None:
        yield f"  checks left: {body['checks_left']}"


@click.command()
@click.argument("phone_number", required=False)
@click.option("--session-id", help="Bind the code to this session.")
@click.option("--country", help="Country of a national number, for example GB.")
@click.option("--channel", type=_CHANNELS, help="How the code is sent. Default: sms.")
@click.option("--language", help="Language of the message, for example de. Default: en.")
@add_target_options
@json_option
def send(
    phone_number: str | None, *, url: str | None, api_key: str | None, as_json: bool, **fields: str | None
) -> None:
    """Request a code for PHONE_NUMBER.

    Without PHONE_NUMBER, the number is read from a prompt or standard input, so that the process list does
    not show it.
    """
    target = choose_target(url, api_key)
    if phone_number is None:
        phone_number = read_number()
    given = {"phone_number": phone_number, **fields}
    body = {name: value for name, value in given.items() if value is not None}
    _print_answer(call_target(target, "POST", "/v1/otp-requests", body), as_json=as_json)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.option(
    "--wait", default=0, type=click.IntRange(0, 30), help="Wait up to this many seconds for a change."
)
@add_target_options
@json_option
def status(request_id: Any, wait: int, *, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Show the status of the request REQUEST_ID."""
    path = f"/v1/otp-requests/{request_id}?wait={wait}"
    _print_answer(call_target(choose_target(url, api_key), "GET", path), as_json=as_json)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.argument("code", required=False)
@click.option("--session-id", help="The session that the code is bound to.")
@add_target_options
@json_option
def verify(
    request_id: Any,
    code: str | None,
    session_id: str | None,
    *,
    url: str | None,
    api_key: str | None,
    as_json: bool,
) -> None:
    """Verify CODE for the request REQUEST_ID. Exit code 0 means that it is right.

    Without CODE, the code is read from a prompt or standard input, so that the process list does not show it.
    """
    target = choose_target(url, api_key)
    if code is None:
        code = read_code()
    body = {"code": code} | ({"session_id": session_id} if session_id else {})
    _print_answer(call_target(target, "POST", f"/v1/otp-requests/{request_id}/verify", body), as_json=as_json)


@click.command()
@click.argument("request_id", type=click.UUID)
@click.option("--channel", type=_CHANNELS, help="Default: the channel of the request.")
@add_target_options
@json_option
def resend(
    request_id: Any, channel: str | None, *, url: str | None, api_key: str | None, as_json: bool
) -> None:
    """Send the code of the request REQUEST_ID again."""
    body = {"channel": channel} if channel else {}
    path = f"/v1/otp-requests/{request_id}/resend"
    _print_answer(call_target(choose_target(url, api_key), "POST", path, body), as_json=as_json)


@click.command()
@click.argument("request_id", type=click.UUID)
@add_target_options
@json_option
def cancel(request_id: Any, *, url: str | None, api_key: str | None, as_json: bool) -> None:
    """Cancel the request REQUEST_ID. A request that has ended does not change."""
    path = f"/v1/otp-requests/{request_id}"
    _print_answer(call_target(choose_target(url, api_key), "DELETE", path), as_json=as_json)
