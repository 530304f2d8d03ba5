"""`/v1/stats`: the statistics of a time window, for operators."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self

from pydantic import Field, create_model

from otpqueue import clock
from otpqueue.api import tags
from otpqueue.api.auth import ApiKeyAuthentication
from otpqueue.api.bodies import StatsQuery, parse_dimensions, parse_window
from otpqueue.api.endpoints import ApiCall, ApiEndpoint, Success, serves
from otpqueue.api.responses import AmountByCurrency, ClosedModel, CountByLabel, Timestamp
from otpqueue.domain.stats import Dimension, Metric, MetricTally
from otpqueue.operations.stats.report import ReadStatistics, StatisticsReport

_PLAIN = (Metric.REQUESTED, Metric.SENT, Metric.DELIVERED, Metric.UNDELIVERED, Metric.VERIFIED)
"""Metrics without labels."""
_DIGITS = 6

_COUNTS: dict[str, Any] = {metric.value: int if metric in _PLAIN else CountByLabel for metric in Metric}
CountsResponse: type[ClosedModel] = create_model(
    "CountsResponse", __base__=ClosedModel, __doc__="Counts, most of them by label.", **_COUNTS
)


class DurationsResponse(ClosedModel):
    """Mean and percentiles of a duration in milliseconds; null without data."""

    mean_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None

    @classmethod
    def of(cls, tally: MetricTally, metric: Metric) -> Self:
        """Return the durations of a histogram."""
        return cls(
            mean_ms=_round(tally.compute_mean_ms(metric), 0),
            p50_ms=_round(tally.compute_quantile_ms(metric, 0.50), 0),
            p95_ms=_round(tally.compute_quantile_ms(metric, 0.95), 0),
            p99_ms=_round(tally.compute_quantile_ms(metric, 0.99), 0),
        )


class FiguresResponse(ClosedModel):
    """Figures calculated from the counts. Shares are 0 to 1; null without data."""

    success_share: float | None = Field(description="sent, of `finished_sends`")
    finished_sends: int = Field(description="requests with a first send that succeeded or failed")
    delivered_share: float | None = Field(description="delivered, of `reported`")
    reported: int = Field(description="attempts with a report that says delivered or undelivered")
    verified_share: float | None = Field(description="verified requests per sent request; can exceed 1")
    wrong_share: float | None = Field(description="wrong codes, of `judged`")
    judged: int = Field(description="checks in which Infobip found the code right or wrong")
    cost: AmountByCurrency
    cost_per_verified: AmountByCurrency
    provider_send_mean_ms: float | None
    provider_check_mean_ms: float | None
    accept_to_sent: DurationsResponse
    sent_to_delivered: DurationsResponse
    sent_to_verified: DurationsResponse

    @classmethod
    def of(cls, tally: MetricTally) -> Self:
        """Return the figures of a tally."""
        return cls(
            success_share=_round(tally.success_share),
            finished_sends=tally.finished_sends,
            delivered_share=_round(tally.delivered_share),
            reported=tally.reported,
            verified_share=_round(tally.verified_share),
            wrong_share=_round(tally.wrong_share),
            judged=tally.judged,
            cost=_format_costs(tally.cost),
            cost_per_verified=_format_costs(tally.cost_per_verified),
            provider_send_mean_ms=_round(tally.compute_mean_ms(Metric.PROVIDER_SENDS), 1),
            provider_check_mean_ms=_round(tally.compute_mean_ms(Metric.PROVIDER_CHECKS), 1),
            accept_to_sent=DurationsResponse.of(tally, Metric.ACCEPT_TO_SENT),
            sent_to_delivered=DurationsResponse.of(tally, Metric.SENT_TO_DELIVERED),
            sent_to_verified=DurationsResponse.of(tally, Metric.SENT_TO_VERIFIED),
        )


class TallyResponse(ClosedModel):
    """What was counted, and the figures calculated from it."""

    counts: CountsResponse
    figures: FiguresResponse

    @classmethod
    def of(cls, tally: MetricTally, **more: Any) -> Self:
        """Return the response for a tally; `more` are the fields that a subclass adds."""
        counts = {
            metric.value: tally.count(metric) if metric in _PLAIN else tally.count_by_label(metric)
            for metric in Metric
        }
        return cls(counts=CountsResponse(**counts), figures=FiguresResponse.of(tally), **more)


class BreakdownKey(ClosedModel):
    """Says what was counted. A base class, since its field comes first."""

    key: dict[Dimension, str] = Field(description="values of the dimensions in `by`")


class BreakdownResponse(TallyResponse, BreakdownKey):
    """What was counted for one combination of values."""


class StatisticsResponse(ClosedModel):
    """Statistics of a time window."""

    since: Timestamp = Field(description="start of the window")
    until: Timestamp = Field(description="end of the current minute or hour")
    step_s: int = Field(description="60 or 3600: the window is a whole number of steps")
    waiting_since: Timestamp | None = Field(
        description="minute of the oldest event that is not included yet; null if there is none"
    )
    all: TallyResponse
    by: list[Dimension]
    groups: list[BreakdownResponse]
    left_out: int = Field(description="number of groups that are not shown, those with the fewest requests")

    @classmethod
    def of(cls, report: StatisticsReport) -> Self:
        """Return the response for a report."""
        return cls(
            since=report.since,
            until=report.until,
            step_s=int(report.step.total_seconds()),
            waiting_since=report.waiting_since,
            all=TallyResponse.of(report.all),
            by=list(report.by),
            groups=[
                BreakdownResponse.of(group.tally, key=dict(zip(report.by, group.key, strict=True)))
                for group in report.groups
            ],
            left_out=report.left_out,
        )


def _round(figure: float | None, digits: int = 4) -> float | None:
    return None if figure is None else round(figure, digits)


def _format_costs(costs: dict[str, Decimal]) -> dict[str, str]:
    # A binary floating-point number would not be the exact price.
    return {currency: f"{round(cost, _DIGITS).normalize():f}" for currency, cost in sorted(costs.items())}


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """`/v1/stats`."""

    authentication: ApiKeyAuthentication
    report: ReadStatistics

    @serves(
        ApiEndpoint(
            method="GET",
            path="/v1/stats",
            operation_id="getStatistics",
            tag=tags.STATISTICS,
            summary="Statistics (for operators)",
            description="Counts and figures of a time window that ends with the current minute, or with the "
            "current hour if the window is longer than six hours. Events are included after about ten "
            "seconds. [docs/statistics.md](/docs/statistics) explains each figure.",
            successes={200: Success(description="The statistics", model=StatisticsResponse)},
            scopes=("admin",),
            query=StatsQuery,
        )
    )
    def on_get(self, _call: ApiCall, query: StatsQuery) -> StatisticsResponse:
        """Answer with the statistics of a window."""
        report = self.report(
            window=parse_window(query.window),
            by=parse_dimensions(query.by),
            client=query.client,
            country=query.country,
            now=clock.now(),
        )
        return StatisticsResponse.of(report)
