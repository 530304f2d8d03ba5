"""The pages about alerts: the list, one alert with its evidence, acknowledging and silencing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

import falcon

from otpqueue.console.charts import Chart, ChartKind, ChartSeries, plot
from otpqueue.console.formatting import number, span
from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.console.warnings import ConsoleWarning, Severity
from otpqueue.domain import alerts
from otpqueue.domain.alert_notices import format_measurement, get_rule
from otpqueue.domain.alert_runbook import URGENT, todo
from otpqueue.domain.alerts import ALL, Alert, AlertRule, AlertState, AlertUnit
from otpqueue.domain.errors import AlertNotFound, FieldError, InvalidRequest
from otpqueue.operations.alerts.admin import AlertAdmin, AlertDetails

HERE = "/console/alerts"

_A_PAGE = 100
_LONGEST_REASON = 200
_MOST_STEPS = 120
_LATE = timedelta(minutes=5)
"""The rules are evaluated every minute; later than this is a fault."""

SILENCES: Mapping[str, tuple[str, timedelta]] = MappingProxyType(
    {
        "1h": ("1 hour", timedelta(hours=1)),
        "4h": ("4 hours", timedelta(hours=4)),
        "24h": ("24 hours", timedelta(hours=24)),
        "7d": ("7 days", timedelta(days=7)),
    }
)


@dataclass(frozen=True, kw_only=True)
class AlertView:
    """An alert with its texts."""

    alert: Alert
    rule: AlertRule
    title: str
    subject: str | None
    """None if the rule has one alert for everything."""
    measured: str
    """The value of the last evaluation with its window, sample and threshold."""
    opening: str | None
    """The same of the evaluation that opened it; None if that was not stored."""
    todo: str
    urgent: bool


def view_alert(alert: Alert, rules: Mapping[str, AlertRule]) -> AlertView:
    """Return the texts of an alert. Of a rule of another version only the name is known."""
    rule = rules.get(alert.rule) or get_rule(alert)
    opening = alert.opening
    return AlertView(
        alert=alert,
        rule=rule,
        title=rule.title[:1].upper() + rule.title[1:],
        subject=None if alert.subject == ALL else alert.subject or alerts.ERASED,
        measured=format_measurement(alert.value, alert.sample, alert, rule),
        opening=format_measurement(opening.value, opening.sample, alert, rule) if opening else None,
        todo=todo(alert.rule),
        urgent=alert.rule in URGENT,
    )


def alert_warnings(open_ones: Sequence[Alert], rules: Mapping[str, AlertRule]) -> tuple[ConsoleWarning, ...]:
    """Return a warning for each rule that has open alerts without acknowledgement."""
    by_rule: dict[str, list[AlertView]] = {}
    for alert in open_ones:
        if alert.acknowledged_at is None:
            by_rule.setdefault(alert.rule, []).append(view_alert(alert, rules))
    return tuple(_warning(ones) for ones in by_rule.values())


def _warning(ones: list[AlertView]) -> ConsoleWarning:
    first, more = ones[0], len(ones) - 1
    subject = f" ({first.subject}{f' and {more} more' if more else ''})" if first.subject else ""
    return ConsoleWarning(
        level=Severity.BAD if first.urgent else Severity.WARN,
        what=f"{first.title}{subject}",
        means=f"{first.rule.name}: {first.measured}; evaluated at {first.alert.evaluated_at:%H:%M:%S} UTC.",
        todo=first.todo.replace("`", ""),
        link=HERE if more else f"{HERE}/{first.alert.id}",
    )


@dataclass(frozen=True, kw_only=True)
class AlertListPage(ConsolePage):
    """`/console/alerts`: open and closed alerts, and silences."""

    desk: AlertAdmin

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the list."""
        self.layout.respond(req, resp, self._list)

    def _list(self, page: PageContext) -> None:
        rules, evaluated_at = self.desk.rules, self.desk.evaluated_at()
        page.show(
            "alerts.html",
            open_ones=[
                view_alert(one, rules) for one in self.desk.list(state=AlertState.OPEN, limit=_A_PAGE)
            ],
            closed=[view_alert(one, rules) for one in self.desk.list(state=AlertState.CLOSED, limit=_A_PAGE)],
            silences=self.desk.silences(),
            rules=rules,
            evaluated_at=evaluated_at,
            late=evaluated_at is None or page.now - evaluated_at > _LATE,
        )


@dataclass(frozen=True, kw_only=True)
class AlertPage(ConsolePage):
    """`/console/alerts/{id}`: one alert with its evidence."""

    desk: AlertAdmin

    def on_get(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Show the alert."""

        def show(page: PageContext) -> None:
            alert = self.desk.get(_id(alert_id))
            one = view_alert(alert, self.desk.rules)
            page.show(
                "alert.html",
                one=one,
                alert=alert,
                charts=list(charts(alert, one.rule)),
                figures=_mapping(alert.evidence.get("figures")),
                reasons=_mapping(alert.evidence.get("reasons")),
                requests=_requests(alert),
                lasts=SILENCES,
            )

        self.layout.respond(req, resp, show)


@dataclass(frozen=True, kw_only=True)
class AcknowledgePage(ConsolePage):
    """`/console/alerts/{id}/acknowledge`."""

    desk: AlertAdmin

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Acknowledge the alert and redirect to it."""

        def acknowledge(page: PageContext) -> None:
            self.desk.ack(_id(alert_id), by=page.operator.name)
            page.go(f"{HERE}/{alert_id}")

        self.layout.respond(req, resp, acknowledge, back=f"{HERE}/{alert_id}")


@dataclass(frozen=True, kw_only=True)
class SilencePage(ConsolePage):
    """`/console/alerts/{id}/silence`."""

    desk: AlertAdmin

    def on_post(self, req: falcon.Request, resp: falcon.Response, alert_id: str) -> None:
        """Silence the subject of an alert, or its whole rule, for a time."""

        def silence(page: PageContext) -> None:
            alert = self.desk.get(_id(alert_id))
            lasting = SILENCES.get(page.form.get("for", ""))
            if lasting is None:
                raise InvalidRequest([FieldError("for", f"must be one of {', '.join(SILENCES)}")])
            reason = page.form.get("reason", "").strip()
            if len(reason) > _LONGEST_REASON:
                raise InvalidRequest(
                    [FieldError("reason", f"must have at most {_LONGEST_REASON} characters")]
                )
            of_rule = page.form.get("what") == "rule" or alert.subject is None
            self.desk.silence(
                rule=alert.rule,
                subject=None if of_rule else alert.subject,
                until=page.now + lasting[1],
                by=page.operator.name,
                reason=reason or None,
            )
            page.go(f"{HERE}/{alert_id}")

        self.layout.respond(req, resp, silence, back=f"{HERE}/{alert_id}")


@dataclass(frozen=True, kw_only=True)
class EndSilencePage(ConsolePage):
    """`/console/silences/{id}/end`."""

    desk: AlertAdmin

    def on_post(self, req: falcon.Request, resp: falcon.Response, silence_id: str) -> None:
        """End a silence."""

        def end(page: PageContext) -> None:
            self.desk.unsilence(_id(silence_id), by=page.operator.name)
            page.go(HERE)

        self.layout.respond(req, resp, end, back=HERE)


def charts(alert: AlertDetails, rule: AlertRule) -> Iterator[Chart]:
    """Yield a chart of the window at the opening, and one of the evaluations since."""
    series = alert.evidence.get("series")
    if isinstance(series, Mapping) and series.get("points"):
        step = timedelta(seconds=series.get("step_s") or 60)
        unit = AlertUnit(series.get("unit", rule.unit))
        points = series["points"]
        yield _chart(
            "evidence",
            "Before the alert opened",
            f"{_unit_name(unit)} per {span(step.total_seconds())}",
            [datetime.fromisoformat(point["at"]) for point in points],
            [point["value"] for point in points],
            unit=unit,
            step=step,
            threshold=alert.threshold if unit is rule.unit and unit is not AlertUnit.COUNT else None,
        )
    values = alert.values[-_MOST_STEPS:]
    if len(values) > 1:
        yield _chart(
            "since",
            "Since the alert opened",
            f"{_unit_name(rule.unit)}, at each evaluation",
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
    unit: AlertUnit,
    step: timedelta,
    threshold: float | None,
) -> Chart:
    formatted: Callable[[float], str] = lambda value: alerts.format_value(value, unit)  # noqa: E731 - named for plot
    return plot(
        id=id_,
        title=title,
        unit=what,
        kind=ChartKind.COLUMNS if unit is AlertUnit.COUNT else ChartKind.LINES,
        times=times,
        step=step,
        series=[ChartSeries(name="value", colour="blue", values=tuple(values))],
        formatted=number if unit is AlertUnit.COUNT else formatted,
        nothing="No data in this time.",
        threshold=threshold,
        least_top=2 if unit is AlertUnit.COUNT else 1,
    )


def _unit_name(unit: AlertUnit) -> str:
    return {
        AlertUnit.SHARE: "share",
        AlertUnit.COUNT: "count",
        AlertUnit.SECONDS: "time",
        AlertUnit.TIMES: "multiple of the usual value",
    }[unit]


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _requests(alert: Alert) -> list[str]:
    named = alert.evidence.get("requests")
    return [str(one) for one in named] if isinstance(named, list) else []


def _id(text: str) -> UUID:
    """Return the id in a path. Raises AlertNotFound if it is not a UUID."""
    try:
        return UUID(text)
    except ValueError:
        raise AlertNotFound from None
