"""`otpqueue webhooks`: where clients are told what becomes of their requests, and how that goes."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from uuid import UUID

import click

from otpqueue import clock, settings
from otpqueue.cli.errors import explained
from otpqueue.cli.keys import Duration
from otpqueue.domain.webhooks import Event, State
from otpqueue.store.webhook_deliveries import Stored
from otpqueue.store.webhooks import Endpoint
from otpqueue.wiring import Parts

_EVENTS = ", ".join(event.removeprefix("otp_request.") for event in Event)


def _parts() -> closing[Parts]:
    return closing(Parts(settings.load()))


@click.group()
def webhooks() -> None:
    """Tell clients of their requests: set endpoints, test them, look after deliveries."""


@webhooks.command(name="set")
@click.argument("client")
@click.argument("url")
@click.option(
    "--events", default="", help=f"Commas between, of {_EVENTS}; all, or those set before, unless given."
)
@explained
def set_(client: str, url: str, events: str) -> None:
    """Tell CLIENT at URL from now on; print the secret, once, where there was none."""
    names = [name.strip() for name in events.split(",") if name.strip()]
    with _parts() as parts:
        secret = parts.webhooks.set(client, url, events=names, now=clock.now())
        endpoint, _ = parts.webhooks.show(client, now=clock.now())
    if secret:
        click.echo(secret)
    click.echo(f"{client} is told of {_events(endpoint)}", err=True)
    if endpoint.disabled_at:
        click.echo(f"but {_state(endpoint)}; `otpqueue webhooks enable {client}`", err=True)


@webhooks.command()
@click.argument("client", required=False)
@explained
def show(client: str | None) -> None:
    """Show the webhook of CLIENT, or one line for each; never a secret. Times are UTC."""
    now = clock.now()
    with _parts() as parts:
        if client is None:
            for endpoint in parts.webhooks.every(now=now):
                click.echo(f"{endpoint.client}  {endpoint.url}  {_state(endpoint)}")
            return
        endpoint, left = parts.webhooks.show(client, now=now)
    signs = "one"
    if len(endpoint.secrets) > 1:
        signs = f"two until {_moment(endpoint.previous_until)}"
    lines = {
        "url": endpoint.url,
        "events": _events(endpoint),
        "state": _state(endpoint),
        "secrets": signs if endpoint.secrets else "none that can be opened",
        "set": _moment(endpoint.created_at),
        "waiting": left[State.PENDING],
        "given up": left[State.GIVEN_UP],
    }
    for name, value in lines.items():
        click.echo(f"{name:<10}{value}")


@webhooks.command()
@click.argument("client")
@explained
def test(client: str) -> None:
    """Post an `otpqueue.test` to CLIENT's receiver and print its answer; exit code 0 only for 2xx."""
    with _parts() as parts:
        tested = parts.webhooks.test(client, now=clock.now())
    click.echo(f"{tested.answer} after {tested.seconds * 1000:.0f} ms")
    if not tested.answer.is_success:
        raise SystemExit(1)


@webhooks.command()
@click.argument("client")
@explained
def enable(client: str) -> None:
    """Tell CLIENT again after its webhook was disabled; what waits is sent first."""
    with _parts() as parts:
        count = parts.webhooks.enable(client, now=clock.now())
    click.echo(f"{client} is told again; {count} deliveries were waiting")


@webhooks.command()
@click.argument("client")
@click.confirmation_option(prompt="Tell it nothing more, and give up what waits?")
@explained
def remove(client: str) -> None:
    """Tell CLIENT nothing more, and forget its secret."""
    with _parts() as parts:
        count = parts.webhooks.remove(client, now=clock.now())
    click.echo(f"{client} is told nothing more; {count} deliveries were given up")


@webhooks.command(name="rotate-secret")
@click.argument("client")
@click.option(
    "--overlap", type=Duration(), default="24h", show_default=True, help="So long the old secret signs too."
)
@click.option("--at-once", is_flag=True, help="The old secret is known to others: do not sign with it.")
@explained
def rotate_secret(client: str, overlap: timedelta, at_once: bool) -> None:
    """Make a new secret for CLIENT and print it, once."""
    now = clock.now()
    overlap = timedelta() if at_once else overlap
    with _parts() as parts:
        click.echo(parts.webhooks.rotate_secret(client, overlap=overlap, now=now))
    until = "signs no more" if at_once else f"signs too until {_moment(now + overlap)} UTC"
    click.echo(f"the old secret {until}", err=True)


@webhooks.command()
@click.argument("client")
@click.option("--failed", is_flag=True, help="Only those whose newest try failed.")
@click.option("--request", "request_id", type=click.UUID, help="Only those of this request.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@explained
def deliveries(client: str, failed: bool, request_id: UUID | None, limit: int) -> None:
    """List what CLIENT was told, or is to be, newest first; times are UTC."""
    with _parts() as parts:
        found = parts.webhooks.deliveries(client, failed=failed, request_id=request_id, limit=limit)
    for one in found:
        click.echo(_line(one))
    if not found:
        click.echo("no deliveries")


@webhooks.command()
@click.argument("client")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@explained
def retry(client: str, ids: tuple[UUID, ...]) -> None:
    """Try deliveries of CLIENT now, as if for the first time: these, or all that wait or were given up."""
    with _parts() as parts:
        count = parts.webhooks.retry(client, ids=ids, now=clock.now())
    click.echo(f"{count} deliveries are tried now")


def _events(endpoint: Endpoint) -> str:
    return ", ".join(event.removeprefix("otp_request.") for event in endpoint.events)


def _state(endpoint: Endpoint) -> str:
    if endpoint.disabled_at and endpoint.disabled_reason:
        return f"disabled since {_moment(endpoint.disabled_at)}: {endpoint.disabled_reason.value}"
    return f"failing since {_moment(endpoint.failing_since)}" if endpoint.failing_since else "on"


def _line(one: Stored) -> str:
    state = one.state.value
    if one.state is State.PENDING and one.tries:
        state = f"{state} until {_moment(one.next_try_at)}"
    tried = f"  {one.tries} tries, {one.answer}" if one.answer else ""
    return f"{_moment(one.at)}  {one.event}  {one.request_id}  {one.id}  {state}{tried}"


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "never"
