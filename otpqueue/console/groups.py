"""The page about countries, and about clients: who gets how many codes, what comes of it, what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from urllib.parse import urlencode

import falcon

from otpqueue.console.house import Page, Visit
from otpqueue.domain.alerts import Rule
from otpqueue.domain.guard import Mode
from otpqueue.domain.stats import Dimension, Metric, Tally
from otpqueue.operations.groups import Group, TellGroups

HERE = "/console/countries"

SPANS: Mapping[str, timedelta] = MappingProxyType(
    {"1h": timedelta(hours=1), "24h": timedelta(hours=24), "7d": timedelta(days=7)}
)
_BY = {"country": Dimension.COUNTRY, "client": Dimension.CLIENT}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column that one can sort by, the most first."""

    word: str
    name: str
    value: Callable[[Group], float]
    rare: bool = False


_NOTHING = -1.0
COLUMNS = (
    Column(word="requested", name="Requested", value=lambda one: one.tally.n(Metric.REQUESTED), rare=True),
    Column(word="sent", name="Sent", value=lambda one: one.tally.n(Metric.SENT)),
    Column(word="arrived", name="Arrived", value=lambda one: _share(one.tally.delivered_share), rare=True),
    Column(word="verified", name="Verified", value=lambda one: _share(one.tally.verified_share)),
    Column(word="wrong", name="Wrong codes", value=lambda one: _share(one.tally.wrong_share), rare=True),
    Column(word="refused", name="Refused", value=lambda one: one.tally.n(Metric.REFUSED), rare=True),
    Column(word="cost", name="Cost", value=lambda one: float(one.spent)),
)


def _share(value: float | None) -> float:
    return _NOTHING if value is None else value


@dataclass(frozen=True, kw_only=True)
class Countries(Page):
    """`/console/countries`."""

    groups: TellGroups
    conversion: Rule
    """From when on too few verify: the rule of the alert on pumping."""

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Show them: `by=client` clients instead, `span` of how long, `sort` by which column."""
        self.house.receive(req, resp, self._show)

    def _show(self, visit: Visit) -> None:
        by = _BY.get(visit.query("by") or "", Dimension.COUNTRY)
        span = visit.query("span") if visit.query("span") in SPANS else "24h"
        sort = next((one for one in COLUMNS if one.word == visit.query("sort")), COLUMNS[1])
        groups = self.groups(by, lasting=SPANS[span or "24h"], now=visit.now)
        groups.sort(key=lambda one: (-sort.value(one), one.name))

        def link(**changed: str) -> str:
            return f"{HERE}?{urlencode({'by': by.value, 'span': span, 'sort': sort.word} | changed)}"

        visit.show(
            "countries.html",
            groups=groups,
            by=by,
            span=span,
            spans=list(SPANS),
            sort=sort,
            columns=COLUMNS,
            link=link,
            guard=in_words,
            hardly=self._hardly,
            mode=self.groups.guard,
            whole=_whole(groups),
            m=Metric,
            currency=_one_currency(groups),
        )

    def _hardly(self, group: Group) -> bool:
        share, sent = group.tally.verified_share, group.tally.n(Metric.SENT)
        return share is not None and sent >= self.conversion.min_sample and share < self.conversion.threshold


def in_words(group: Group, mode: Mode) -> tuple[str, str]:
    """Return how a country stands with the pumping guard, and how bad that is."""
    if group.stopped:
        return "bad", "sending stopped"
    if group.let_through_until:
        return "warn", f"let through until {group.let_through_until:%d %b %H:%M}"
    if group.guard_refused:
        if mode is Mode.ENFORCE:
            return "bad", f"{group.guard_refused} refused"
        return "warn", f"{group.guard_refused} in shadow"
    return "", "off" if mode is Mode.OFF else "quiet"


def _one_currency(groups: list[Group]) -> str | None:
    """Return the currency of all costs, None if there are several or none."""
    found = {currency for one in groups for currency in one.cost}
    return found.pop() if len(found) == 1 else None


def _whole(groups: list[Group]) -> Mapping[str, int]:
    def added(of: Callable[[Tally], int]) -> int:
        return sum(of(one.tally) for one in groups)

    return {
        "requested": added(lambda tally: tally.n(Metric.REQUESTED)),
        "sent": added(lambda tally: tally.n(Metric.SENT)),
        "verified": added(lambda tally: tally.n(Metric.VERIFIED)),
    }
