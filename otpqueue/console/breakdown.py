"""The breakdown page: counts, rates and costs by country or by client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

import falcon

from otpqueue.console.layout import ConsolePage, PageContext
from otpqueue.domain.alerts import AlertRule
from otpqueue.domain.guard import GuardMode
from otpqueue.domain.stats import Dimension, Metric, MetricTally
from otpqueue.operations.stats.breakdown import BreakdownRow, ReadBreakdown

HERE = "/console/countries"

SPANS: Mapping[str, timedelta] = MappingProxyType(
    {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
)
_BY = {"country": Dimension.COUNTRY, "client": Dimension.CLIENT}


@dataclass(frozen=True, kw_only=True)
class BreakdownColumn:
    """A column of the table; sorting by it puts the largest value first."""

    word: str
    name: str
    value: Callable[[BreakdownRow], float]
    rare: bool = False


_NOTHING = -1.0
COLUMNS = (
    BreakdownColumn(
        word="requested", name="Requested", value=lambda one: one.tally.count(Metric.REQUESTED), rare=True
    ),
    BreakdownColumn(word="sent", name="Sent", value=lambda one: one.tally.count(Metric.SENT)),
    BreakdownColumn(
        word="arrived", name="Delivery rate", value=lambda one: _share(one.tally.delivered_share), rare=True
    ),
    BreakdownColumn(
        word="verified", name="Verified of sent", value=lambda one: _share(one.tally.verified_share)
    ),
    BreakdownColumn(
        word="wrong", name="Wrong code rate", value=lambda one: _share(one.tally.wrong_share), rare=True
    ),
    BreakdownColumn(
        word="refused", name="Refused", value=lambda one: one.tally.count(Metric.REFUSED), rare=True
    ),
    BreakdownColumn(word="cost", name="Cost", value=lambda one: float(one.spent)),
)


def _share(value: float | None) -> float:
    return _NOTHING if value is None else value


@dataclass(frozen=True, kw_only=True)
class BreakdownPage(ConsolePage):
    """`/console/countries`."""

    groups: ReadBreakdown
    conversion: AlertRule
    """The alert rule on traffic pumping; its threshold marks a low share of verified codes."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show the table. Query: `by` is country or client, `span` the window, `sort` a column."""
        self.layout.respond(req, resp, self._show)

    def _show(self, page: PageContext) -> None:
        by = _BY.get(page.query("by") or "", Dimension.COUNTRY)
        span = page.query("span") if page.query("span") in SPANS else "24h"
        sort = next((one for one in COLUMNS if one.word == page.query("sort")), COLUMNS[1])
        groups = self.groups(by, lasting=SPANS[span or "24h"], now=page.now)
        groups.sort(key=lambda one: (-sort.value(one), one.name))

        def link(**changed: str) -> str:
            return f"{HERE}?{urlencode({'by': by.value, 'span': span, 'sort': sort.word} | changed)}"

        page.show(
            "breakdown.html",
            groups=groups,
            by=by,
            span=span,
            spans=list(SPANS),
            sort=sort,
            columns=COLUMNS,
            link=link,
            guard=describe_guard,
            is_low=self._is_low,
            mode=self.groups.guard,
            total=_total(groups),
            m=Metric,
            currency=_one_currency(groups),
        )

    def _is_low(self, group: BreakdownRow) -> bool:
        share, sent = group.tally.verified_share, group.tally.count(Metric.SENT)
        return share is not None and sent >= self.conversion.min_sample and share < self.conversion.threshold


def describe_guard(group: BreakdownRow, mode: GuardMode) -> tuple[str, str]:
    """Return the style sheet class and the text for what the pumping guard does in a country."""
    if group.stopped:
        return "bad", "sending stopped"
    if group.let_through_until:
        return "warn", f"exempt until {group.let_through_until:%d %b %H:%M}"
    if group.guard_refused:
        if mode is GuardMode.ENFORCE:
            return "bad", f"{group.guard_refused} refused"
        return "warn", f"{group.guard_refused} in shadow"
    return "", "off" if mode is GuardMode.OFF else "none refused"


def _one_currency(groups: list[BreakdownRow]) -> str | None:
    """Return the currency of all costs, None if there are several or none."""
    found = {currency for one in groups for currency in one.cost}
    return found.pop() if len(found) == 1 else None


def _total(groups: list[BreakdownRow]) -> Mapping[str, int]:
    def added(of: Callable[[MetricTally], int]) -> int:
        return sum(of(one.tally) for one in groups)

    return {
        "requested": added(lambda tally: tally.count(Metric.REQUESTED)),
        "sent": added(lambda tally: tally.count(Metric.SENT)),
        "verified": added(lambda tally: tally.count(Metric.VERIFIED)),
    }
