"""`otpqueue stats`: what was counted in a window, straight from the database."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta

import click

from otpqueue import clock, settings
from otpqueue.api.stats import representation
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explained
from otpqueue.domain.stats import Dimension, Metric, Tally
from otpqueue.operations.stats import Report
from otpqueue.wiring import Parts

_BEHIND = timedelta(minutes=2)
_COLUMNS = (
    *("requested", "refused", "sent", "success", "delivered", "verified", "of sent", "wrong", "to send"),
    *("to arrive", "a verified"),
)
_WHY = (Metric.REFUSED, Metric.FAILED, Metric.EXPIRED, Metric.LOCKED, Metric.CANCELLED, Metric.CHECKS)


@click.command()
@click.option(
    "--window", type=DurationType(), default="1h", show_default=True, help="How far back: 15m, 24h, 7d."
)
@click.option(
    "--by",
    type=click.Choice([dimension.value for dimension in Dimension]),
    multiple=True,
    help="Apart by this; may be given several times.",
)
@click.option("--client", help="Only this client.")
@click.option("--country", help="Only this country (ISO 3166 alpha-2; ZZ for numbers of no one country).")
@click.option("--json", "as_json", is_flag=True, help="Print what GET /v1/stats answers.")
@explained
def stats(
    window: timedelta, by: tuple[str, ...], client: str | None, country: str | None, as_json: bool
) -> None:
    """Sum up what was counted: requests, sends, reports, checks, costs.

    `success` is the send success rate: sent of all requests whose code was sent or could not be sent.
    `delivered` is the delivery rate: delivered of all reported attempts. `of sent` is verified requests for
    each sent one, `wrong` wrong codes of all judged ones. `to send` and `to arrive` are 95th percentiles;
    `a verified` is the cost of one.
    """
    now = clock.now()
    with closing(Parts(settings.load())) as parts:
        report = parts.stats(
            window=window,
            by=[Dimension(name) for name in dict.fromkeys(by)],
            client=client,
            country=country and country.upper(),
            now=now,
        )
    if as_json:
        click.echo(json.dumps(representation(report), indent=2))
        return
    for line in _lines(report):
        click.echo(line)
    if report.waiting_since and now - report.waiting_since > _BEHIND:
        click.echo(
            f"not all is added up since {report.waiting_since:%Y-%m-%d %H:%M} UTC: is there a worker of the "
            "queue `periodic`, and a beat?",
            err=True,
        )


def _lines(report: Report) -> Iterator[str]:
    step = "minute" if report.step < timedelta(hours=1) else "hour"
    window = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    yield f"{window}, whole {step}s and the running one"
    yield ""
    rows = [
        ("", *_COLUMNS),
        *((" ".join(group.key), *_row(group.tally)) for group in report.groups),
        ("all", *_row(report.all)),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        aligned = (f"{cell:>{width + 2}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield f"{name:<{widths[0]}}" + "".join(aligned)
    if report.left_out:
        yield f"... and {report.left_out} more that asked for less"
    yield ""
    for metric in _WHY:
        found = sorted(report.all.by_label(metric).items(), key=lambda one: (-one[1], one[0]))
        if found:
            yield f"{metric.value}: " + ", ".join(f"{n} {label}" for label, n in found)


def _row(tally: Tally) -> tuple[str, ...]:
    return (
        str(tally.n(Metric.REQUESTED)),
        str(tally.n(Metric.REFUSED)),
        str(tally.n(Metric.SENT)),
        _percent(tally.success_share),
        _percent(tally.delivered_share),
        str(tally.n(Metric.VERIFIED)),
        _percent(tally.verified_share),
        _percent(tally.wrong_share),
        _seconds(tally.quantile_ms(Metric.ACCEPT_TO_SENT, 0.95)),
        _seconds(tally.quantile_ms(Metric.SENT_TO_DELIVERED, 0.95)),
        " ".join(f"{cost:.3f} {currency}" for currency, cost in sorted(tally.cost_per_verified.items()))
        or "-",
    )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _seconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms / 1000:.2f} s"
