"""`/v1/stats`: what was counted in a window, for operators."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import falcon

from otpqueue import clock
from otpqueue.api import bodies
from otpqueue.api.auth import Door
from otpqueue.domain.stats import HISTOGRAMS, Dimension, Metric, MetricTally
from otpqueue.operations.stats.report import ReadStatistics, StatisticsReport

_PLAIN = (Metric.REQUESTED, Metric.SENT, Metric.DELIVERED, Metric.UNDELIVERED, Metric.VERIFIED)
"""Metrics without labels."""
_QUANTILES = (50, 95, 99)
_DIGITS = 6


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """`/v1/stats`."""

    door: Door
    tell: ReadStatistics

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Answer the counts of a window and what follows from them."""
        self.door.enter(req, "admin")
        query = bodies.read_query(req, bodies.StatsQuery)
        report = self.tell(
            window=bodies.parse_window(query.window),
            by=bodies.dimensions(query.by),
            client=query.client,
            country=query.country,
            now=clock.now(),
        )
        resp.text = json.dumps(representation(report))


def representation(report: StatisticsReport) -> dict[str, Any]:
    """Return a report in plain JSON values."""
    return {
        "since": _moment(report.since),
        "until": _moment(report.until),
        "step_s": int(report.step.total_seconds()),
        "waiting_since": _moment(report.waiting_since) if report.waiting_since else None,
        "all": _told(report.all),
        "by": [dimension.value for dimension in report.by],
        "groups": [
            {"key": {name.value: value for name, value in zip(report.by, group.key, strict=True)}}
            | _told(group.tally)
            for group in report.groups
        ],
        "left_out": report.left_out,
    }


def _told(tally: MetricTally) -> dict[str, Any]:
    counts = {
        metric.value: tally.n(metric) if metric in _PLAIN else tally.by_label(metric) for metric in Metric
    }
    return {"counts": counts, "figures": _figures(tally)}


def _figures(tally: MetricTally) -> dict[str, Any]:
    return {
        "success_share": _rounded(tally.success_share),
        "finished_sends": tally.finished_sends,
        "delivered_share": _rounded(tally.delivered_share),
        "reported": tally.reported,
        "verified_share": _rounded(tally.verified_share),
        "wrong_share": _rounded(tally.wrong_share),
        "judged": tally.judged,
        "cost": _money(tally.cost),
        "cost_per_verified": _money(tally.cost_per_verified),
        "provider_send_mean_ms": _rounded(tally.mean_ms(Metric.PROVIDER_SENDS), 1),
        "provider_check_mean_ms": _rounded(tally.mean_ms(Metric.PROVIDER_CHECKS), 1),
    } | {metric.value: _durations(tally, metric) for metric in HISTOGRAMS}


def _durations(tally: MetricTally, metric: Metric) -> dict[str, Any]:
    quantiles = {
        f"p{percent}_ms": _rounded(tally.quantile_ms(metric, percent / 100), 0) for percent in _QUANTILES
    }
    return {"mean_ms": _rounded(tally.mean_ms(metric), 0), **quantiles}


def _rounded(figure: float | None, digits: int = 4) -> float | None:
    return None if figure is None else round(figure, digits)


def _money(costs: dict[str, Decimal]) -> dict[str, str]:
    # A price in binary floating point would not be the price.
    return {currency: f"{round(cost, _DIGITS).normalize():f}" for currency, cost in sorted(costs.items())}


def _moment(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def schema() -> dict[str, Any]:
    """Return the schema of what `representation` returns: nothing more may be in it."""
    time = {"type": "string", "format": "date-time"}
    key = {
        "type": "object",
        "properties": {one.value: {"type": "string"} for one in Dimension},
        "additionalProperties": False,
    }
    told = {
        "counts": _closed({metric.value: _count(metric) for metric in Metric}),
        "figures": _figure_schema(),
    }
    return _closed(
        {
            "since": {**time, "description": "the window's beginning"},
            "until": {**time, "description": "the end of the running minute or hour"},
            "step_s": {"type": "integer", "description": "60 or 3600: the window is whole steps"},
            "waiting_since": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": "minute of the oldest event that is not added up yet; null if there is none",
            },
            "all": _closed(told),
            "by": {"type": "array", "items": {"enum": [one.value for one in Dimension]}},
            "groups": {"type": "array", "items": _closed({"key": key, **told})},
            "left_out": {
                "type": "integer",
                "description": "groups that are not shown; those shown ask for more",
            },
        }
    )


def _count(metric: Metric) -> dict[str, Any]:
    if metric in _PLAIN:
        return {"type": "integer"}
    return {"type": "object", "additionalProperties": {"type": "integer"}, "description": "by label"}


def _figure_schema() -> dict[str, Any]:
    share = {"type": ["number", "null"], "description": "0 to 1; null of nothing"}
    figure = {"type": ["number", "null"]}
    money = {"type": "object", "additionalProperties": {"type": "string"}, "description": "by currency"}
    durations = _closed({"mean_ms": figure} | {f"p{percent}_ms": figure for percent in _QUANTILES})
    return _closed(
        {
            "success_share": {**share, "description": "sent, of `finished_sends`"},
            "finished_sends": {
                "type": "integer",
                "description": "requests whose code was sent or could not be",
            },
            "delivered_share": {**share, "description": "delivered, of `reported`"},
            "reported": {"type": "integer", "description": "attempts that a report calls delivered or not"},
            "verified_share": {"type": ["number", "null"], "description": "verified for each that was sent"},
            "wrong_share": {**share, "description": "wrong codes, of `judged`"},
            "judged": {"type": "integer", "description": "checks that the provider called right or wrong"},
            "cost": money,
            "cost_per_verified": money,
            "provider_send_mean_ms": figure,
            "provider_check_mean_ms": figure,
        }
        | {metric.value: durations for metric in HISTOGRAMS}
    )


def _closed(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
