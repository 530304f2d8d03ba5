"""The first page: how everything is now, beside an hour ago, and in charts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import falcon

from otpqueue.console import findings
from otpqueue.console.alerts import found
from otpqueue.console.charts import Chart, Kind, Series, Value, plot
from otpqueue.console.house import Page, Visit
from otpqueue.console.words import ms, number, share
from otpqueue.domain.alerts import State
from otpqueue.domain.stats import Expired, Metric, Point, Tally
from otpqueue.operations.alert_desk import AlertDesk
from otpqueue.operations.overview import RECENT, Overview, Span, TellOverview

_COLOURS = ("red", "orange", "violet", "teal", "slate")
_MINUTES = RECENT / timedelta(minutes=1)
_TIME = "milliseconds and seconds"
_RIGHT, _WRONG = "correct", "wrong"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure, beside what it was an hour ago."""

    name: str
    value: str
    unit: str
    before: str


@dataclass(frozen=True, kw_only=True)
class Now(Page):
    """`/console`."""

    overview: TellOverview
    desk: AlertDesk

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show how everything is; `span=24h` for charts of a day."""

        def show(visit: Visit) -> None:
            span = next((one for one in Span if one.word == visit.query("span")), Span.HOUR)
            overview = self.overview(span, now=visit.now)
            alerts = found(self.desk.list(state=State.OPEN), self.desk.rules)
            visit.show(
                "now.html",
                overview=overview,
                verdict=findings.judge(overview, alerts=alerts, now=visit.now),
                tiles=tiles(overview),
                charts=charts(overview.points, span, visit.now),
                span=span,
                spans=list(Span),
            )

        self.house.receive(req, resp, show)


def tiles(overview: Overview) -> list[Tile]:
    """Return the figures of now beside those of an hour ago."""

    def rate(name: str, metric: Metric) -> Tile:
        now, before = overview.recent.n(metric) / _MINUTES, overview.before.n(metric) / _MINUTES
        return Tile(name=name, value=number(now), unit="a minute", before=number(before))

    def figure(name: str, of: Callable[[Tally], str]) -> Tile:
        return Tile(name=name, value=of(overview.recent), unit="", before=of(overview.before))

    return [
        rate("requested", Metric.REQUESTED),
        rate("refused", Metric.REFUSED),
        rate("sent", Metric.SENT),
        rate("verified", Metric.VERIFIED),
        figure("got out", lambda tally: share(tally.success_share)),
        figure("arrived", lambda tally: share(tally.delivered_share)),
        figure("wrong codes", lambda tally: share(tally.wrong_share)),
        figure("time to send, p95", lambda tally: ms(tally.quantile_ms(Metric.ACCEPT_TO_SENT, 0.95))),
        figure("time to deliver, p95", lambda tally: ms(tally.quantile_ms(Metric.SENT_TO_DELIVERED, 0.95))),
    ]


def charts(points: Iterable[Point], span: Span, now: datetime) -> list[Chart]:
    """Return the charts of a span."""
    times = span.times(now)
    by_step: dict[datetime, list[Point]] = defaultdict(list)
    for point in points:
        by_step[point.at].append(point)
    tallies = [Tally(by_step.get(at, ())) for at in times]
    unit = "a minute" if span is Span.HOUR else "an hour"

    def chart(id_: str, title: str, what: str, kind: Kind, series: Sequence[Series], nothing: str) -> Chart:
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

    def durations(metric: Metric) -> list[Series]:
        return [
            Series(name=name, colour=colour, values=tuple(tally.quantile_ms(metric, q) for tally in tallies))
            for name, q, colour in (("half (p50)", 0.5, "blue"), ("95 of 100 (p95)", 0.95, "orange"))
        ]

    time = _TIME
    return [
        chart(
            "flow",
            "From request to verified",
            f"requests {unit}",
            Kind.LINES,
            [
                _counted("requested", "slate", tallies, Metric.REQUESTED),
                _counted("sent", "blue", tallies, Metric.SENT),
                _counted("delivered", "teal", tallies, Metric.DELIVERED),
                _counted("verified", "violet", tallies, Metric.VERIFIED),
            ],
            "No request in this time.",
        ),
        chart(
            "failures",
            "Codes that did not get out, by reason",
            f"requests {unit}",
            Kind.COLUMNS,
            _by_reason(tallies, _failures),
            "None failed in this time.",
        ),
        chart(
            "to-send", "Time to send", time, Kind.LINES, durations(Metric.ACCEPT_TO_SENT), "Nothing was sent."
        ),
        chart(
            "to-deliver",
            "Time from sent to delivered",
            time,
            Kind.LINES,
            durations(Metric.SENT_TO_DELIVERED),
            "No report of a delivery in this time.",
        ),
        chart(
            "checks",
            "Codes that were typed in",
            f"checks {unit}",
            Kind.COLUMNS,
            [
                _counted("right", "teal", tallies, Metric.CHECKS, _RIGHT),
                _counted("wrong", "red", tallies, Metric.CHECKS, _WRONG),
            ],
            "No code was typed in.",
        ),
        chart(
            "refused",
            "Refused tries, by reason",
            f"tries {unit}",
            Kind.COLUMNS,
            _by_reason(tallies, lambda tally: tally.by_label(Metric.REFUSED)),
            "Nothing was refused.",
        ),
    ]


def _counted(name: str, colour: str, tallies: Sequence[Tally], metric: Metric, *labels: str) -> Series:
    values = tuple(float(tally.n(metric, *labels)) for tally in tallies)
    return Series(name=name, colour=colour, values=values, total=number(sum(values)))


def _failures(tally: Tally) -> dict[str, int]:
    late = {word: tally.n(Metric.EXPIRED, word) for word in (Expired.SEND_DEADLINE, Expired.SENDING_STOPPED)}
    return {label: n for label, n in (tally.by_label(Metric.FAILED) | late).items() if n > 0}


def _by_reason(tallies: Sequence[Tally], counts: Callable[[Tally], dict[str, int]]) -> list[Series]:
    """Return the commonest reasons, each with a colour, and all others together."""
    each = [counts(tally) for tally in tallies]
    total: Counter[str] = Counter()
    for one in each:
        total.update(one)
    named = [reason for reason, _ in sorted(total.items(), key=lambda item: (-item[1], item[0]))]
    shown, others = named[: len(_COLOURS) - 1], named[len(_COLOURS) - 1 :]

    def series(name: str, colour: str, reasons: Sequence[str]) -> Series:
        values: tuple[Value, ...] = tuple(
            float(sum(one.get(reason, 0) for reason in reasons)) for one in each
        )
        return Series(
            name=name.replace("_", " "),
            colour=colour,
            values=values,
            total=number(sum(v or 0 for v in values)),
        )

    told = [series(reason, colour, [reason]) for reason, colour in zip(shown, _COLOURS, strict=False)]
    return [*told, series("others", _COLOURS[-1], others)] if others else told
