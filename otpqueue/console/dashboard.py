"""The dashboard: warnings, figures of the last minutes beside an hour ago, parts and charts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import falcon

from otpqueue.console import warnings
from otpqueue.console.alerts import alert_warnings
from otpqueue.console.charts import Chart, ChartKind, ChartSeries, Value, plot
from otpqueue.console.formatting import ms, number, share
from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.domain.alerts import AlertState, format_duration
from otpqueue.domain.stats import ExpiredStage, Metric, MetricPoint, MetricTally
from otpqueue.operations.alerts.admin import AlertAdmin
from otpqueue.operations.stats.overview import ChartSpan, Comparison, Overview, ReadOverview

_COLOURS = ("red", "orange", "violet", "teal", "slate")
_TIME = "duration"
_RIGHT, _WRONG = "correct", "wrong"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure with its value an hour ago."""

    name: str
    window: str
    """The time that the figure covers, e.g. `15 min`."""
    value: str
    unit: str
    before: str


@dataclass(frozen=True, kw_only=True)
class DashboardPage(ConsolePage):
    """`/console`."""

    overview: ReadOverview
    desk: AlertAdmin

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the dashboard; `span=24h` for charts of a day."""

        def show(page: PageContext) -> None:
            span = next((one for one in ChartSpan if one.word == page.query("span")), ChartSpan.HOUR)
            overview = self.overview(span, now=page.now)
            alerts = alert_warnings(self.desk.list(state=AlertState.OPEN), self.desk.rules)
            page.show(
                "dashboard.html",
                overview=overview,
                summary=warnings.summarize(overview, alerts=alerts, now=page.now),
                tiles=tiles(overview),
                charts=charts(overview.points, span, page.now),
                span=span,
                spans=list(ChartSpan),
            )

        self.layout.respond(req, resp, show)


def tiles(overview: Overview) -> list[Tile]:
    """Return the figures of the last minutes with those of an hour ago.

    A share that an alert rule watches covers the window of the rule, so that both show the same figure.
    """

    def rate(name: str, metric: Metric) -> Tile:
        one = overview.recent
        return Tile(
            name=name,
            window=format_duration(one.window.total_seconds()),
            value=number(one.now.count(metric) / one.minutes),
            unit="a minute",
            before=number(one.before.count(metric) / one.minutes_before),
        )

    def figure(name: str, one: Comparison, of: Callable[[MetricTally], str]) -> Tile:
        window = format_duration(one.window.total_seconds())
        return Tile(name=name, window=window, value=of(one.now), unit="", before=of(one.before))

    rules, recent = overview.of_rules, overview.recent
    return [
        rate("requested", Metric.REQUESTED),
        rate("refused", Metric.REFUSED),
        rate("sent", Metric.SENT),
        rate("verified", Metric.VERIFIED),
        figure("send success rate", rules["success_rate"], lambda tally: share(tally.success_share)),
        figure("delivery rate", rules["delivery_rate"], lambda tally: share(tally.delivered_share)),
        figure("wrong code rate", rules["check_failures"], lambda tally: share(tally.wrong_share)),
        figure(
            "time to send, p95",
            recent,
            lambda tally: ms(tally.compute_quantile_ms(Metric.ACCEPT_TO_SENT, 0.95)),
        ),
        figure(
            "time to deliver, p95",
            recent,
            lambda tally: ms(tally.compute_quantile_ms(Metric.SENT_TO_DELIVERED, 0.95)),
        ),
    ]


def charts(points: Iterable[MetricPoint], span: ChartSpan, now: datetime) -> list[Chart]:
    """Return the charts of a span."""
    times = span.times(now)
    by_step: dict[datetime, list[MetricPoint]] = defaultdict(list)
    for point in points:
        by_step[point.at].append(point)
    tallies = [MetricTally(by_step.get(at, ())) for at in times]
    unit = "a minute" if span is ChartSpan.HOUR else "an hour"

    def chart(
        id_: str, title: str, what: str, kind: ChartKind, series: Sequence[ChartSeries], nothing: str
    ) -> Chart:
        return plot(
            id=id_,
            title=title,
            unit=what,
            kind=kind,
            times=times,
            step=span.step,
            series=series,
            formatted=ms if what == _TIME else number,
            nothing=nothing,
            least_top=100 if what == _TIME else 2,
            running=True,
        )

    def durations(metric: Metric) -> list[ChartSeries]:
        return [
            ChartSeries(
                name=name,
                colour=colour,
                values=tuple(tally.compute_quantile_ms(metric, q) for tally in tallies),
            )
            for name, q, colour in (("median", 0.5, "blue"), ("p95", 0.95, "orange"))
        ]

    time = _TIME
    return [
        chart(
            "flow",
            "From requested to verified",
            f"requests {unit}",
            ChartKind.LINES,
            [
                _counted("requested", "slate", tallies, Metric.REQUESTED),
                _counted("sent", "blue", tallies, Metric.SENT),
                _counted("delivered", "teal", tallies, Metric.DELIVERED),
                _counted("verified", "violet", tallies, Metric.VERIFIED),
            ],
            "No requests in this time.",
        ),
        chart(
            "failures",
            "Codes that were not sent, by reason",
            f"requests {unit}",
            ChartKind.COLUMNS,
            _by_reason(tallies, _failures),
            "No failures in this time.",
        ),
        chart(
            "to-send",
            "Time to send",
            time,
            ChartKind.LINES,
            durations(Metric.ACCEPT_TO_SENT),
            "No codes were sent.",
        ),
        chart(
            "to-deliver",
            "Time to deliver",
            time,
            ChartKind.LINES,
            durations(Metric.SENT_TO_DELIVERED),
            "No delivery reports in this time.",
        ),
        chart(
            "checks",
            "Checked codes",
            f"checks {unit}",
            ChartKind.COLUMNS,
            [
                _counted("correct", "teal", tallies, Metric.CHECKS, _RIGHT),
                _counted("wrong", "red", tallies, Metric.CHECKS, _WRONG),
            ],
            "No codes were checked.",
        ),
        chart(
            "refused",
            "Refused requests, by reason",
            f"requests {unit}",
            ChartKind.COLUMNS,
            _by_reason(tallies, lambda tally: tally.count_by_label(Metric.REFUSED)),
            "No requests were refused.",
        ),
    ]


def _counted(
    name: str, colour: str, tallies: Sequence[MetricTally], metric: Metric, *labels: str
) -> ChartSeries:
    values = tuple(float(tally.count(metric, *labels)) for tally in tallies)
    return ChartSeries(name=name, colour=colour, values=values, total=number(sum(values)))


def _failures(tally: MetricTally) -> dict[str, int]:
    late = {
        word: tally.count(Metric.EXPIRED, word)
        for word in (ExpiredStage.SEND_DEADLINE, ExpiredStage.SENDING_STOPPED)
    }
    return {label: n for label, n in (tally.count_by_label(Metric.FAILED) | late).items() if n > 0}


def _by_reason(
    tallies: Sequence[MetricTally], counts: Callable[[MetricTally], dict[str, int]]
) -> list[ChartSeries]:
    """Return a series for each of the most frequent reasons and one for all others."""
    each = [counts(tally) for tally in tallies]
    total: Counter[str] = Counter()
    for one in each:
        total.update(one)
    named = [reason for reason, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))]
    shown, others = named[: len(_COLOURS) - 1], named[len(_COLOURS) - 1 :]

    def series(name: str, colour: str, reasons: Sequence[str]) -> ChartSeries:
        values: tuple[Value, ...] = tuple(
            float(sum(one.get(reason, 0) for reason in reasons)) for one in each
        )
        return ChartSeries(
            name=name.replace("_", " "),
            colour=colour,
            values=values,
            total=number(sum(v or 0 for v in values)),
        )

    named_series = [series(reason, colour, [reason]) for reason, colour in zip(shown, _COLOURS, strict=False)]
    return [*named_series, series("others", _COLOURS[-1], others)] if others else named_series
