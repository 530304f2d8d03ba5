"""`otpqueue webhooks`: the webhook endpoints of clients and their deliveries."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import open_parts
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
@explain_errors
def set_endpoint(client: str, url: str, events: str) -> None:
    """Set the webhook of CLIENT to URL.

    A new webhook gets a secret, which is printed only once.
    """
    names = [name.strip() for name in events.split(",") if name.strip()]
    with open_parts() as parts:
        secret = parts.webhooks.set(client, url, events=names, now=clock.now())
        endpoint, _ = parts.webhooks.show(client, now=clock.now())
    if secret:
        click.echo(secret)
    click.echo(f"{client} is notified of {_format_events(endpoint)}", err=True)
    if endpoint.disabled_at:
        click.echo(
            f"The webhook is {_format_state(endpoint)}. Run `otpqueue webhooks enable {client}`.", err=True
        )


@webhooks.command(name="show")
@click.argument("client", required=False)
@explain_errors
def show_endpoint(client: str | None) -> None:
    """Show the webhook of CLIENT, or list all webhooks. Secrets are not shown. Times are UTC."""
    now = clock.now()
    with open_parts() as parts:
        if client is None:
            for endpoint in parts.webhooks.every(now=now):
                click.echo(f"{endpoint.client}  {endpoint.url}  {_format_state(endpoint)}")
            return
        endpoint, left = parts.webhooks.show(client, now=now)
    signs = "one"
    if len(endpoint.secrets) > 1:
        signs = f"two until {_format_time(endpoint.previous_until)}"
    lines = {
        "url": endpoint.url,
        "events": _format_events(endpoint),
        "state": _format_state(endpoint),
        "secrets": signs if endpoint.secrets else "none that can be decrypted",
        "set": _format_time(endpoint.created_at),
        "waiting": left[WebhookState.PENDING],
        "given up": left[WebhookState.GIVEN_UP],
    }
    for name, value in lines.items():
        click.echo(f"{name:<10}{value}")


@webhooks.command(name="test")
@click.argument("client")
@explain_errors
def test_endpoint(client: str) -> None:
    """Send an `otpqueue.test` event to CLIENT's webhook and print the response. Exit code 0 means 2xx."""
    with open_parts() as parts:
        tested = parts.webhooks.test(client, now=clock.now())
    click.echo(f"{tested.answer} after {tested.seconds * 1000:.0f} ms")
    if not tested.answer.is_success:
        raise SystemExit(1)


@webhooks.command(name="enable")
@click.argument("client")
@explain_errors
def enable_endpoint(client: str) -> None:
    """Enable a disabled webhook of CLIENT. Pending deliveries are sent first."""
    with open_parts() as parts:
        count = parts.webhooks.enable(client, now=clock.now())
    click.echo(f"{client} is enabled; {count} deliveries are pending")


@webhooks.command(name="remove")
@click.argument("client")
@click.confirmation_option(prompt="Remove the webhook and drop its pending deliveries?")
@explain_errors
def remove_endpoint(client: str) -> None:
    """Remove the webhook of CLIENT, its secret and its pending deliveries."""
    with open_parts() as parts:
        count = parts.webhooks.remove(client, now=clock.now())
    click.echo(f"{client} has no webhook now; {count} pending deliveries were dropped")


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
@explain_errors
def rotate_secret(client: str, overlap: timedelta, at_once: bool) -> None:
    """Create a new secret for CLIENT and print it. It is shown only once."""
    now = clock.now()
    overlap = timedelta() if at_once else overlap
    with open_parts() as parts:
        click.echo(parts.webhooks.rotate_secret(client, overlap=overlap, now=now))
    until = "no longer signs" if at_once else f"also signs until {_format_time(now + overlap)} UTC"
    click.echo(f"the old secret {until}", err=True)


@webhooks.command(name="deliveries")
@click.argument("client")
@click.option("--failed", is_flag=True, help="Only deliveries with a failed latest attempt.")
@click.option("--request", "request_id", type=click.UUID, help="Only deliveries of this request.")
@click.option(
    "--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Maximum number."
)
@explain_errors
def list_deliveries(client: str, failed: bool, request_id: UUID | None, limit: int) -> None:
    """List the deliveries to CLIENT, sent and pending, newest first. Times are UTC."""
    with open_parts() as parts:
        found = parts.webhooks.deliveries(client, failed=failed, request_id=request_id, limit=limit)
    for one in found:
        click.echo(_format_delivery(one))
    if not found:
        click.echo("no deliveries")


@webhooks.command(name="retry")
@click.argument("client")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@explain_errors
def retry_deliveries(client: str, ids: tuple[UUID, ...]) -> None:
    """Retry deliveries of CLIENT now: those with the given IDs, or all that are pending or given up.

    Their attempts are counted from zero again.
    """
    with open_parts() as parts:
        count = parts.webhooks.retry(client, ids=ids, now=clock.now())
    click.echo(f"{count} deliveries are being retried")


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
