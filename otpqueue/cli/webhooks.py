"""`otpqueue webhooks`: the webhook endpoints of clients and their deliveries."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import ExitCode
from otpqueue.cli.operator import reason_option
from otpqueue.cli.options import json_option, open_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.prompts import add_yes_option, confirm
from otpqueue.domain.webhooks import WebhookEvent, WebhookState
from otpqueue.store.webhooks.endpoints import WebhookEndpoint
from otpqueue.store.webhooks.outbox import StoredDelivery

_EVENTS = ", ".join(event.removeprefix("otp_request.") for event in WebhookEvent)


@click.group()
def webhooks() -> None:
    """Manage the webhook endpoints of clients and their deliveries."""


@webhooks.command(name="set")
@click.argument("client")
@click.argument("url")
@click.option(
    "--events", default="", help=f"Events, separated by commas: {_EVENTS}. Default: as before, or all."
)
@json_option
@explain_errors
def set_endpoint(client: str, url: str, events: str, *, as_json: bool) -> None:
    """Set the webhook of CLIENT to URL.

    A new webhook gets a secret, which is printed only once.
    """
    names = [name.strip() for name in events.split(",") if name.strip()]
    with open_parts() as parts:
        secret = parts.webhooks.set(client, url, events=names, now=clock.now())
        endpoint, _ = parts.webhooks.show(client, now=clock.now())
    facts = _describe_endpoint(endpoint) | ({"secret": secret} if secret else {})
    print_facts(facts, [secret] if secret else [], as_json=as_json)
    click.echo(f"{client} is notified of {_format_events(endpoint)}", err=True)
    if endpoint.disabled_at:
        click.echo(
            f"The webhook is {_format_state(endpoint)}. Run `otpqueue webhooks enable {client}`.", err=True
        )


@webhooks.command(name="show")
@click.argument("client", required=False)
@json_option
@explain_errors
def show_endpoint(client: str | None, *, as_json: bool) -> None:
    """Show the webhook of CLIENT, or list all webhooks. Secrets are not shown. Times are UTC."""
    now = clock.now()
    with open_parts() as parts:
        if client is None:
            every = parts.webhooks.every(now=now)
            lines = [f"{one.client}  {one.url}  {_format_state(one)}" for one in every]
            print_facts([_describe_endpoint(one) for one in every], lines, as_json=as_json)
            return
        endpoint, left = parts.webhooks.show(client, now=now)
    signs = "one"
    if len(endpoint.secrets) > 1:
        signs = f"two until {_format_time(endpoint.previous_until)}"
    facts = {
        "url": endpoint.url,
        "events": _format_events(endpoint),
        "state": _format_state(endpoint),
        "secrets": signs if endpoint.secrets else "none that can be decrypted",
        "set": _format_time(endpoint.created_at),
        "waiting": left[WebhookState.PENDING],
        "given up": left[WebhookState.GIVEN_UP],
    }
    counts = {"waiting": left[WebhookState.PENDING], "given_up": left[WebhookState.GIVEN_UP]}
    shown = (f"{name:<10}{value}" for name, value in facts.items())
    print_facts(_describe_endpoint(endpoint) | counts, shown, as_json=as_json)


@webhooks.command(name="test")
@click.argument("client")
@json_option
@explain_errors
def test_endpoint(client: str, *, as_json: bool) -> None:
    """Send an `otpqueue.test` event to CLIENT's webhook and print the response. Exit code 0 means 2xx."""
    with open_parts() as parts:
        tested = parts.webhooks.test(client, now=clock.now())
    took_ms = tested.seconds * 1000
    facts = {"answer": str(tested.answer), "success": tested.answer.is_success, "took_ms": round(took_ms, 1)}
    print_facts(facts, [f"{tested.answer} after {took_ms:.0f} ms"], as_json=as_json)
    if not tested.answer.is_success:
        raise click.exceptions.Exit(ExitCode.PROBLEM)


@webhooks.command(name="enable")
@click.argument("client")
@reason_option
@json_option
@explain_errors
def enable_endpoint(client: str, reason: str | None, *, as_json: bool) -> None:
    """Enable a disabled webhook of CLIENT. Pending deliveries are sent first."""
    with open_parts() as parts:
        count = parts.webhooks.enable(client, reason=reason, now=clock.now())
    line = f"{client} is enabled; {count} deliveries are pending"
    print_facts({"client": client, "pending": count}, [line], as_json=as_json)


@webhooks.command(name="remove")
@click.argument("client")
@add_yes_option
@json_option
@explain_errors
def remove_endpoint(client: str, *, yes: bool, as_json: bool) -> None:
    """Remove the webhook of CLIENT, its secret and its pending deliveries."""
    confirm("Remove the webhook and drop its pending deliveries?", yes=yes)
    with open_parts() as parts:
        count = parts.webhooks.remove(client, now=clock.now())
    line = f"{client} has no webhook now; {count} pending deliveries were dropped"
    print_facts({"client": client, "dropped": count}, [line], as_json=as_json)


@webhooks.command(name="rotate-secret")
@click.argument("client")
@click.option(
    "--overlap",
    type=DurationType(zero=True),
    default="24h",
    show_default=True,
    help="How long the old secret also signs.",
)
@click.option("--at-once", is_flag=True, help="Stop signing with the old secret now, because it leaked.")
@json_option
@explain_errors
def rotate_secret(client: str, overlap: timedelta, at_once: bool, *, as_json: bool) -> None:
    """Create a new secret for CLIENT and print it. It is shown only once."""
    now = clock.now()
    overlap = timedelta() if at_once else overlap
    with open_parts() as parts:
        secret = parts.webhooks.rotate_secret(client, overlap=overlap, now=now)
    facts = {"client": client, "secret": secret, "old_secret_signs_until": now + overlap}
    print_facts(facts, [secret], as_json=as_json)
    until = "no longer signs" if at_once else f"also signs until {_format_time(now + overlap)} UTC"
    click.echo(f"the old secret {until}", err=True)


@webhooks.command(name="deliveries")
@click.argument("client")
@click.option("--failed", is_flag=True, help="Only deliveries with a failed latest attempt.")
@click.option("--request", "request_id", type=click.UUID, help="Only deliveries of this request.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Maximum number."
)
@json_option
@explain_errors
def list_deliveries(client: str, failed: bool, request_id: UUID | None, limit: int, *, as_json: bool) -> None:
    """List the deliveries to CLIENT, sent and pending, newest first. Times are UTC."""
    with open_parts() as parts:
        found = parts.webhooks.deliveries(client, failed=failed, request_id=request_id, limit=limit)
    lines = map(_format_delivery, found) if found else ["no deliveries"]
    print_facts([_describe_delivery(one) for one in found], lines, as_json=as_json)


@webhooks.command(name="retry")
@click.argument("client")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@json_option
@explain_errors
def retry_deliveries(client: str, ids: tuple[UUID, ...], *, as_json: bool) -> None:
    """Retry deliveries of CLIENT now: those with the given IDs, or all that are pending or given up.

    Their attempts are counted from zero again.
    """
    with open_parts() as parts:
        count = parts.webhooks.retry(client, ids=ids, now=clock.now())
    line = f"{count} deliveries are being retried"
    print_facts({"client": client, "retried": count}, [line], as_json=as_json)


def _describe_endpoint(endpoint: WebhookEndpoint) -> dict[str, object]:
    return {
        "client": endpoint.client,
        "url": endpoint.url,
        "events": endpoint.events,
        "created_at": endpoint.created_at,
        "failing_since": endpoint.failing_since,
        "disabled_at": endpoint.disabled_at,
        "disabled_reason": endpoint.disabled_reason,
        "secrets": len(endpoint.secrets),
        "previous_secret_signs_until": endpoint.previous_until,
    }


def _describe_delivery(one: StoredDelivery) -> dict[str, object]:
    return {
        "id": one.id,
        "at": one.at,
        "event": one.event,
        "request_id": one.request_id,
        "state": one.state,
        "attempts": one.tries,
        "answer": None if one.answer is None else str(one.answer),
        "next_attempt_at": one.next_try_at,
    }


def _format_events(endpoint: WebhookEndpoint) -> str:
    return ", ".join(event.removeprefix("otp_request.") for event in endpoint.events)


def _format_state(endpoint: WebhookEndpoint) -> str:
    if endpoint.disabled_at and endpoint.disabled_reason:
        return f"disabled since {_format_time(endpoint.disabled_at)}: {endpoint.disabled_reason.value}"
    return f"failing since {_format_time(endpoint.failing_since)}" if endpoint.failing_since else "on"


def _format_delivery(one: StoredDelivery) -> str:
    state = one.state.value
    if one.state is WebhookState.PENDING and one.tries:
        state = f"{state} until {_format_time(one.next_try_at)}"
    tried = f"  {one.tries} attempts, {one.answer}" if one.answer else ""
    return f"{_format_time(one.at)}  {one.event}  {one.request_id}  {one.id}  {state}{tried}"


def _format_time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "never"
