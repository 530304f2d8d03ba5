"""The pages about alerts: which are open, what shows that one is right, and what an operator says of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import falcon

from otpqueue.console.charts import Chart, Kind, Series, plot
from otpqueue.console.findings import Finding, Level
from otpqueue.console.house import Page, Visit
from otpqueue.console.runbook import URGENT, todo
from otpqueue.console.words import number, span
from otpqueue.domain import alerts
from otpqueue.domain.alerts import ALL, Alert, Bad, Rule, State, Unit
from otpqueue.domain.errors import AlertNotFound, FieldError, InvalidRequest
from otpqueue.operations.alert_desk import AlertDesk, AlertInFull

HERE = "/console/alerts"

_A_PAGE = 100
_LONGEST_REASON = 200
_MOST_STEPS = 120
_LATE = timedelta(minutes=5)
"""The rules are evaluated every minute: after so long without it something is wrong."""

SILENCES: Mapping[str, tuple[str, timedelta]] = MappingProxyType(
    {
        "1h": ("1 hour", timedelta(hours=1)),
        "4h": ("4 hours", timedelta(hours=4)),
        "24h": ("24 hours", timedelta(hours=24)),
        "7d": ("7 days", timedelta(days=7)),
    }
)


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An alert as people read it."""

    alert: Alert
    rule: Rule
    title: str
    subject: str | None
    """None where it is about everything."""
    value: str
    bound: str
    todo: str
    urgent: bool


def shown(alert: Alert, rules: Mapping[str, Rule]) -> Shown:
    """Return an alert in words. A rule of another version has only its name."""
    rule = rules.get(alert.rule) or Rule(
        name=alert.rule, title=alert.rule, bad=Bad.FROM, unit=Unit.COUNT, threshold=0, window_s=0
    )
    return Shown(
        alert=alert,
        rule=rule,
        title=rule.title[:1].upper() + rule.title[1:],
        subject=None if alert.subject == ALL else alert.subject or alerts.ERASED,
        value=alerts.in_unit(alert.value, rule.unit),
        bound=alerts.bound(rule, alert.threshold),
        todo=todo(alert.rule),
        urgent=alert.rule in URGENT,
    )


def found(open_ones: Sequence[Alert], rules: Mapping[str, Rule]) -> tuple[Finding, ...]:
    """Return open alerts that nobody has acknowledged as what is wrong, those of one rule as one."""
    by_rule: dict[str, list[Shown]] = {}
    for alert in open_ones:
        if alert.acknowledged_at is None:
            by_rule.setdefault(alert.rule, []).append(shown(alert, rules))
    return tuple(_finding(ones) for ones in by_rule.values())


def _finding(ones: list[Shown]) -> Finding:
    first, more = ones[0], len(ones) - 1
    subject = f" ({first.subject}{f' and {more} more' if more else ''})" if first.subject else ""
    return Finding(
        level=Level.BAD if first.urgent else Level.WARN,
        what=f"{first.title}{subject}",
        means=f"{first.rule.name}: {first.value}, bad {first.bound}.",
        todo=first.todo.replace("`", ""),
        link=HERE if more else f"{HERE}/{first.alert.id}",
    )


@dataclass(frozen=True, kw_only=True)
class AlertList(Page):
    """`/console/alerts`: those that are open, and those that were."""

    desk: AlertDesk

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show them."""
        self.house.receive(req, resp, self._list)

    def _list(self, visit: Visit) -> None:
        rules, evaluated_at = self.desk.rules, self.desk.evaluated_at()
        visit.show(
            "alerts.html",
            open_ones=[shown(one, rules) for one in self.desk.list(state=State.OPEN, limit=_A_PAGE)],
            closed=[shown(one, rules) for one in self.desk.list(state=State.CLOSED, limit=_A_PAGE)],
            silences=self.desk.silences(),
            rules=rules,
            evaluated_at=evaluated_at,
            late=evaluated_at is None or visit.now - evaluated_at > _LATE,
        )


@dataclass(frozen=True, kw_only=True)
class OneAlert(Page):
    """`/console/alerts/{id}`: one alert, and what shows that it is right."""

    desk: AlertDesk

    def on_get(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Show it."""

        def show(visit: Visit) -> None:
            alert = self.desk.get(_id(alert_id))
            one = shown(alert, self.desk.rules)
            visit.show(
                "alert.html",
                one=one,
                alert=alert,
                charts=list(charts(alert, one.rule)),
                figures=_mapping(alert.evidence.get("figures")),
                reasons=_mapping(alert.evidence.get("reasons")),
                requests=_requests(alert),
                lasts=SILENCES,
            )

        self.house.receive(req, resp, show)


@dataclass(frozen=True, kw_only=True)
class Acknowledge(Page):
    """`/console/alerts/{id}/acknowledge`."""

    desk: AlertDesk

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Store who has seen an alert."""

        def acknowledge(visit: Visit) -> None:
            self.desk.ack(_id(alert_id), by=visit.operator.name)
            visit.go(f"{HERE}/{alert_id}")

        self.house.receive(req, resp, acknowledge, back=f"{HERE}/{alert_id}")


@dataclass(frozen=True, kw_only=True)
class SilenceAlert(Page):
    """`/console/alerts/{id}/silence`."""

    desk: AlertDesk

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Send no notices for a while about what an alert is about, or about anything of its rule."""

        def silence(visit: Visit) -> None:
            alert = self.desk.get(_id(alert_id))
            lasting = SILENCES.get(visit.form.get("for", ""))
            if lasting is None:
                raise InvalidRequest([FieldError("for", f"must be one of {', '.join(SILENCES)}")])
            reason = visit.form.get("reason", "").strip()
            if len(reason) > _LONGEST_REASON:
                raise InvalidRequest(
                    [FieldError("reason", f"must have at most {_LONGEST_REASON} characters")]
                )
            of_rule = visit.form.get("what") == "rule" or alert.subject is None
            self.desk.silence(
                rule=alert.rule,
                subject=None if of_rule else alert.subject,
                until=visit.now + lasting[1],
                by=visit.operator.name,
                reason=reason or None,
            )
            visit.go(f"{HERE}/{alert_id}")

        self.house.receive(req, resp, silence, back=f"{HERE}/{alert_id}")


@dataclass(frozen=True, kw_only=True)
class EndSilence(Page):
    """`/console/silences/{id}/end`."""

    desk: AlertDesk

    def on_post(self, req: falcon.Request, resp: falcon.Response, silence_id: str) -> None:
        """Let notices go out again."""

        def end(visit: Visit) -> None:
            self.desk.unsilence(_id(silence_id), by=visit.operator.name)
            visit.go(HERE)

        self.house.receive(req, resp, end, back=HERE)


def charts(alert: AlertInFull, rule: Rule) -> Iterator[Chart]:
    """Yield the window in which an alert opened, step by step, and what was found since."""
    series = alert.evidence.get("series")
    if isinstance(series, Mapping) and series.get("points"):
        step = timedelta(seconds=series.get("step_s") or 60)
        unit = Unit(series.get("unit", rule.unit))
        points = series["points"]
        yield _chart(
            "evidence",
            "Before it opened",
            f"{_in_words(unit)}, each {span(step.total_seconds())}",
            [datetime.fromisoformat(point["at"]) for point in points],
            [point["value"] for point in points],
            unit=unit,
            step=step,
            threshold=alert.threshold if unit is rule.unit and unit is not Unit.COUNT else None,
        )
    values = alert.values[-_MOST_STEPS:]
    if len(values) > 1:
        yield _chart(
            "since",
            "Since it opened",
            f"{_in_words(rule.unit)}, at each evaluation",
            [one.at for one in values],
            [one.value for one in values],
            unit=rule.unit,
            step=(values[-1].at - values[0].at) / (len(values) - 1),
            threshold=alert.threshold,
        )


def _chart(
    id_: str,
    title: str,
    what: str,
    times: Sequence[datetime],
    values: Sequence[float | None],
    *,
    unit: Unit,
    step: timedelta,
    threshold: float | None,
) -> Chart:
    formatted: Callable[[float], str] = lambda value: alerts.in_unit(value, unit)  # noqa: E731 - named for plot
    return plot(
        id=id_,
        title=title,
        unit=what,
        kind=Kind.COLUMNS if unit is Unit.COUNT else Kind.LINES,
        times=times,
        step=step,
        series=[Series(name="found", colour="blue", values=tuple(values))],
        formatted=number if unit is Unit.COUNT else formatted,
        nothing="Nothing was found to judge by.",
        threshold=threshold,
        least_top=2 if unit is Unit.COUNT else 1,
    )


def _in_words(unit: Unit) -> str:
    return {
        Unit.SHARE: "share",
        Unit.COUNT: "count",
        Unit.SECONDS: "time",
        Unit.TIMES: "times as much as usual",
    }[unit]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _requests(alert: Alert) -> list[str]:
    named = alert.evidence.get("requests")
    return [str(one) for one in named] if isinstance(named, list) else []


def _id(text: str) -> UUID:
    """Return the id in a path. Raises AlertNotFound for what is none."""
    try:
        return UUID(text)
    except ValueError:
        raise AlertNotFound from None
