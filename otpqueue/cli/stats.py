"""`otpqueue stats`: statistics of a window, read from the database."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import click

from otpqueue import clock
from otpqueue.api.resources.stats import StatisticsResponse
from otpqueue.cli.duration import DurationType
from otpqueue.cli.errors import explain_errors
from otpqueue.cli.options import open_parts
from otpqueue.cli.output import print_facts
from otpqueue.domain.stats import Dimension, Metric, MetricTally
from otpqueue.operations.stats.report import StatisticsReport

_BEHIND = timedelta(minutes=2)
_COLUMNS = (
    *("requested", "refused", "sent", "success", "delivered", "verified", "of sent", "wrong", "to send"),
    *("to arrive", "a verified"),
)
_WHY = (Metric.REFUSED, Metric.FAILED, Metric.EXPIRED, Metric.LOCKED, Metric.CANCELLED, Metric.CHECKS)


@click.command()
@click.option(
    "--window",
    type=DurationType(),
    default="1h",
    show_default=True,
    help="How far back, for example 15m, 24h, 2w.",
)
@click.option(
    "--by",
    type=click.Choice([dimension.value for dimension in Dimension]),
    multiple=True,
    help="Break down by this dimension. May be repeated.",
)
@click.option("--client", help="Only this client.")
@click.option("--country", help="Only this country (ISO 3166 alpha-2; ZZ for international numbers).")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON of GET /v1/stats.")
@explain_errors
def stats(
    window: timedelta, by: tuple[str, ...], client: str | None, country: str | None, as_json: bool
) -> None:
    """Print statistics: requests, sends, delivery reports, checks and costs.

    \b
    success     sent requests, of all that were sent or could not be sent
    delivered   delivered attempts, of all reported attempts
    of sent     verified requests, of sent requests
    wrong       wrong codes, of all judged codes
    to send     95th percentile of the time from request to send
    to arrive   95th percentile of the time from send to delivery
    a verified  cost per verified request
    """  # noqa: D301 - click needs the character \b, not its escape
    now = clock.now()
    with open_parts() as parts:
        report = parts.stats(
            window=window,
            by=[Dimension(name) for name in dict.fromkeys(by)],
            client=client,
            country=country and country.upper(),
            now=now,
        )
    facts = StatisticsResponse.of(report).model_dump(mode="json")
    print_facts(facts, _format_report(report), as_json=as_json)
    if report.waiting_since and now - report.waiting_since > _BEHIND:
        click.echo(
            f"Statistics are incomplete since {report.waiting_since:%Y-%m-%d %H:%M} UTC. Check that beat and "
            "a worker of the queue `periodic` run.",
            err=True,
        )


def _format_report(report: StatisticsReport) -> Iterator[str]:
    step = "minute" if report.step < timedelta(hours=1) else "hour"
    window = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    yield f"{window}, whole {step}s and the current one"
    yield ""
    rows = [
        ("", *_COLUMNS),
        *((" ".join(group.key), *_format_row(group.tally)) for group in report.groups),
        ("all", *_format_row(report.all)),
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        aligned = (f"{cell:>{width + 2}}" for cell, width in zip(cells, widths[1:], strict=True))
        yield f"{name:<{widths[0]}}" + "".join(aligned)
    if report.left_out:
        yield f"... and {report.left_out} more with fewer requests"
    yield ""
    for metric in _WHY:
        found = sorted(report.all.count_by_label(metric).items(), key=lambda one: (-one[1], one[0]))
        if found:
            yield f"{metric.value}: " + ", ".join(f"{n} {label}" for label, n in found)


def _format_row(tally: MetricTally) -> tuple[str, ...]:
    return (
        str(tally.count(Metric.REQUESTED)),
        str(tally.count(Metric.REFUSED)),
        str(tally.count(Metric.SENT)),
        _format_percent(tally.success_share),
        _format_percent(tally.delivered_share),
        str(tally.count(Metric.VERIFIED)),
        _format_percent(tally.verified_share),
        _format_percent(tally.wrong_share),
        _format_seconds(tally.compute_quantile_ms(Metric.ACCEPT_TO_SENT, 0.95)),
        _format_seconds(tally.compute_quantile_ms(Metric.SENT_TO_DELIVERED, 0.95)),
        " ".join(f"{cost:.3f} {currency}" for currency, cost in sorted(tally.cost_per_verified.items()))
        or "-",
    )


def _format_percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _format_seconds(ms: float | None) -> str:
    return "-" if ms is None else f"{ms / 1000:.2f} s"
