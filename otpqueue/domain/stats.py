"""Statistics: what is counted, how durations fall into buckets, and what follows from counts.

Everything counted has a metric and a label, e.g. a refused request and the reason. Durations are in whole
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

RECENT_WINDOW = timedelta(minutes=15)
"""The window of recent figures: of the dashboard, of the metrics `otpqueue_recent_...`, and of the alert rule
`success_rate` unless OTPQUEUE_ALERT_RULES changes that."""

NO_STATUS = "none"
"""The HTTP status of an answer that never came."""


class Metric(StrEnum):
    """What is counted. What the label says, and what the total is of, stands with each."""

    REQUESTED = "requested"
    """Accepted requests."""
    REFUSED = "refused"
    """Refused tries; the reason."""
    ATTEMPTS = "attempts"
    """Attempts to send that are over; the outcome: accepted, refused, unknown, returned."""
    PROVIDER_SENDS = "provider_sends"
    """Sends that were put to the provider; its HTTP status, or `none`; milliseconds until it answered."""
    PROVIDER_CHECKS = "provider_checks"
    """The same of checks."""
    SENT = "sent"
    """Requests whose first code was sent."""
    FAILED = "failed"
    """Requests that ended `failed`; the reason."""
    DELIVERED = "delivered"
    """Attempts whose best report says that the code arrived."""
    UNDELIVERED = "undelivered"
    """Attempts whose best report says that it did not."""
    CHECKS = "checks"
    """Checks that are over; the verdict."""
    VERIFIED = "verified"
    """Requests whose code was typed in."""
    EXPIRED = "expired"
    """Requests that ended `expired`; a word of `ExpiredStage`."""
    LOCKED = "locked"
    """Requests that ended `locked`; the reason."""
    CANCELLED = "cancelled"
    """Requests that ended `cancelled`; the reason."""
    COST = "cost"
    """Attempts that have a price; the currency; the price."""
    ACCEPT_TO_SENT = "accept_to_sent"
    """Requests whose first code was sent; the bucket; milliseconds since they were accepted."""
    SENT_TO_DELIVERED = "sent_to_delivered"
    """Attempts that were delivered at a known time; the bucket; milliseconds since they were sent."""
    SENT_TO_VERIFIED = "sent_to_verified"
    """Requests whose code was typed in; the bucket; milliseconds since the first code was sent."""


HISTOGRAMS = (Metric.ACCEPT_TO_SENT, Metric.SENT_TO_DELIVERED, Metric.SENT_TO_VERIFIED)


class ExpiredStage(StrEnum):
    """How far a request had come that expired."""

    SEND_DEADLINE = "send_deadline"
    """No code had left in time."""
    SENDING_STOPPED = "sending_stopped"
    """No code had left in time, since the operator had stopped sending."""
    UNCHECKED = "unchecked"
    """A code was sent, and nobody typed one."""
    CHECKED = "checked"
    """A code was sent, and what was typed was not right."""


class Dimension(StrEnum):
    """What counts can be told apart by."""

    CLIENT = "client"
    COUNTRY = "country"
    CHANNEL = "channel"


BOUNDS_MS: tuple[int, ...] = (
    *(50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000),
    *(45_000, 60_000, 90_000, 120_000, 180_000, 300_000, 600_000, 1_800_000, 3_600_000),
)
"""The upper bounds of the buckets, each its own bucket's; the same for all histograms."""
BEYOND = "inf"
"""The label of what is longer than the last bound."""
_LABELLED = tuple((bound, str(bound)) for bound in BOUNDS_MS)


def bucket(ms: int) -> str:
    """Return the label of the bucket that a duration falls into: that of the first bound it does not pass."""
    return next((label for bound, label in _LABELLED if ms <= bound), BEYOND)


def quantile(buckets: Mapping[str, int], q: float) -> float | None:
    """Return the duration, in ms, that the share `q` of durations does not pass; None where there are none.

    Within a bucket durations are taken to lie evenly. Beyond the last bound it is all that can be said: the
    answer is the bound then, and the truth is more.
    """
    total = sum(buckets.values())
    if total <= 0:
        return None
    wanted, below, lower = q * total, 0, 0
    for bound, label in _LABELLED:
        inside = buckets.get(label, 0)
        if inside > 0 and below + inside >= wanted:
            return lower + (bound - lower) * max(wanted - below, 0) / inside
        below, lower = below + inside, bound
    return float(lower)


@dataclass(frozen=True, kw_only=True)
class MetricSum:
    """How often something was counted in a window, and the sum of what was measured."""

    key: tuple[str, ...]
    """The values of the dimensions that were asked for, in that order; a client by its name."""
    metric: Metric
    label: str
    n: int
    total: Decimal


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """How often something was counted in a step of time, and the sum of what was measured."""

    at: datetime
    """The beginning of the step."""
    key: tuple[str, ...]
    metric: Metric
    label: str
    n: int
    total: Decimal


def share(part: int, whole: int) -> float | None:
    """Return a share from 0 to 1; None of nothing."""
    return part / whole if whole > 0 else None


class MetricTally:
    """Counts of one window and one group, and what follows from them. Shares of nothing are None."""

    def __init__(self, counted: Iterable[MetricSum | MetricPoint]) -> None:
        """Add up what was counted, whatever the keys."""
        self._n: dict[Metric, dict[str, int]] = {}
        self._total: dict[Metric, dict[str, Decimal]] = {}
        for one in counted:
            n = self._n.setdefault(one.metric, {})
            n[one.label] = n.get(one.label, 0) + one.n
            if one.total:
                total = self._total.setdefault(one.metric, {})
                total[one.label] = total.get(one.label, Decimal(0)) + one.total

    def n(self, metric: Metric, *labels: str) -> int:
        """Return how often a metric was counted, with one of these labels if any are given."""
        counts = self._n.get(metric, {})
        return sum(counts.get(label, 0) for label in labels) if labels else sum(counts.values())

    def by_label(self, metric: Metric) -> dict[str, int]:
        """Return how often a metric was counted, by label."""
        return dict(self._n.get(metric, {}))

    def totals(self, metric: Metric) -> dict[str, Decimal]:
        """Return what was measured in all, by label; labels without anything are left out."""
        return dict(self._total.get(metric, {}))

    @property
    def finished_sends(self) -> int:
        """Requests of which it is known whether a first code was sent, without those that were cancelled.

        Neither a caller who cancels nor an operator who stops sending makes a failure.
        """
        unsent = self.n(Metric.FAILED) + self.n(Metric.EXPIRED, ExpiredStage.SEND_DEADLINE)
        return self.n(Metric.SENT) + unsent

    @property
    def success_share(self) -> float | None:
        """The share of those whose code was sent."""
        return share(self.n(Metric.SENT), self.finished_sends)

    @property
    def reported(self) -> int:
        """Attempts of which a report says whether they arrived."""
        return self.n(Metric.DELIVERED) + self.n(Metric.UNDELIVERED)

    @property
    def delivered_share(self) -> float | None:
        """The share of those that arrived."""
        return share(self.n(Metric.DELIVERED), self.reported)

    @property
    def verified_share(self) -> float | None:
        """Verified requests for each that was sent in the same window; over 1 while traffic dwindles."""
        return share(self.n(Metric.VERIFIED), self.n(Metric.SENT))

    @property
    def judged(self) -> int:
        """Checks that the provider judged: right or wrong."""
        return self.n(Metric.CHECKS, "correct", "wrong")

    @property
    def wrong_share(self) -> float | None:
        """The share of those that were wrong."""
        return share(self.n(Metric.CHECKS, "wrong"), self.judged)

    @property
    def cost(self) -> dict[str, Decimal]:
        """What the provider's reports say was spent, by currency."""
        return {currency: total for currency, total in self.totals(Metric.COST).items() if total}

    @property
    def cost_per_verified(self) -> dict[str, Decimal]:
        """What was spent for each verified request, by currency; nothing where none was verified."""
        verified = self.n(Metric.VERIFIED)
        return {currency: spent / verified for currency, spent in self.cost.items()} if verified > 0 else {}

    def mean_ms(self, metric: Metric) -> float | None:
        """Return the mean of a metric that measures time, exact to the millisecond."""
        n = self.n(metric)
        return float(sum(self.totals(metric).values()) / n) if n > 0 else None

    def quantile_ms(self, histogram: Metric, q: float) -> float | None:
        """Return a quantile of a histogram: see `quantile`."""
        return quantile(self.by_label(histogram), q)
