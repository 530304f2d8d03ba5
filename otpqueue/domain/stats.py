"""Statistics: metrics, histogram buckets and derived figures.

Every counted event has a metric and a label, e.g. a refused request and its reason. Durations are in whole
milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

RECENT_WINDOW = timedelta(minutes=15)
"""The window of recent figures.

Used on the dashboard, in the metrics `otpqueue_recent_...`, and in the alert rule `success_rate`
unless OTPQUEUE_ALERT_RULES changes it.
"""

NO_STATUS = "none"
"""The status label of a call without an answer."""


class Metric(StrEnum):
    """What is counted. Each description gives the event, then the label, then the total if there is one."""

    REQUESTED = "requested"
    """Accepted requests."""
    REFUSED = "refused"
    """Refused requests and resends; the reason."""
    ATTEMPTS = "attempts"
    """Ended attempts to send; the outcome: accepted, refused, unknown, returned."""
    PROVIDER_SENDS = "provider_sends"
    """Sends put to the provider; its HTTP status, or `none`; milliseconds until it answered."""
    PROVIDER_CHECKS = "provider_checks"
    """Checks put to the provider; like `provider_sends`."""
    SENT = "sent"
    """Requests with a first code sent."""
    FAILED = "failed"
    """Requests that ended `failed`; the reason."""
    DELIVERED = "delivered"
    """Attempts with the decisive report `delivered`."""
    UNDELIVERED = "undelivered"
    """Attempts with the decisive report `undelivered`."""
    CHECKS = "checks"
    """Ended checks; the verdict."""
    VERIFIED = "verified"
    """Verified requests."""
    EXPIRED = "expired"
    """Requests that ended `expired`; a value of `ExpiredStage`."""
    LOCKED = "locked"
    """Requests that ended `locked`; the reason."""
    CANCELLED = "cancelled"
    """Requests that ended `cancelled`; the reason."""
    COST = "cost"
    """Attempts with a price; the currency; the price."""
    ACCEPT_TO_SENT = "accept_to_sent"
    """Requests with a first code sent; the bucket; milliseconds since they were accepted."""
    SENT_TO_DELIVERED = "sent_to_delivered"
    """Attempts delivered at a known time; the bucket; milliseconds since they were sent."""
    SENT_TO_VERIFIED = "sent_to_verified"
    """Verified requests; the bucket; milliseconds since the first code was sent."""


HISTOGRAMS = (Metric.ACCEPT_TO_SENT, Metric.SENT_TO_DELIVERED, Metric.SENT_TO_VERIFIED)


class ExpiredStage(StrEnum):
    """The stage that an expired request had reached."""

    SEND_DEADLINE = "send_deadline"
    """No code was sent before the deadline."""
    SENDING_STOPPED = "sending_stopped"
    """No code was sent before the deadline, because an operator had stopped sending."""
    UNCHECKED = "unchecked"
    """A code was sent, and no code was entered."""
    CHECKED = "checked"
    """A code was sent, and only wrong codes were entered."""


class Dimension(StrEnum):
    """The dimensions that counts are grouped by."""

    CLIENT = "client"
    COUNTRY = "country"
    CHANNEL = "channel"


BOUNDS_MS: tuple[int, ...] = (
    *(50, 100, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000),
    *(45_000, 60_000, 90_000, 120_000, 180_000, 300_000, 600_000, 1_800_000, 3_600_000),
)
"""The inclusive upper bounds of the buckets of every histogram."""
BEYOND = "inf"
"""The label of durations over the last bound."""
_LABELLED = tuple((bound, str(bound)) for bound in BOUNDS_MS)


def get_bucket(ms: int) -> str:
    """Return the label of the bucket of a duration: that of the first bound which is not smaller."""
    return next((label for bound, label in _LABELLED if ms <= bound), BEYOND)


def compute_quantile(buckets: Mapping[str, int], q: float) -> float | None:
    """Return the quantile `q` of the durations in ms, or None if there are none.

    Interpolates linearly within a bucket. Returns the last bound for a quantile beyond it.
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
    """The count and the total of one metric and label over a window."""

    key: tuple[str, ...]
    """The values of the requested dimensions, in that order. A client is given by its name."""
    metric: Metric
    label: str
    n: int
    total: Decimal


@dataclass(frozen=True, kw_only=True)
class MetricPoint:
    """The count and the total of one metric and label in one time step."""

    at: datetime
    """The start of the step."""
    key: tuple[str, ...]
    metric: Metric
    label: str
    n: int
    total: Decimal


def compute_share(part: int, whole: int) -> float | None:
    """Return `part / whole`, or None if the whole is 0."""
    return part / whole if whole > 0 else None


class MetricTally:
    """The counts of one window and one group, and figures derived from them.

    A share of nothing is None.
    """

    def __init__(self, counted: Iterable[MetricSum | MetricPoint]) -> None:
        """Add up the counts over all keys."""
        self._n: dict[Metric, dict[str, int]] = {}
        self._total: dict[Metric, dict[str, Decimal]] = {}
        for one in counted:
            n = self._n.setdefault(one.metric, {})
            n[one.label] = n.get(one.label, 0) + one.n
            if one.total:
                total = self._total.setdefault(one.metric, {})
                total[one.label] = total.get(one.label, Decimal(0)) + one.total

    def count(self, metric: Metric, *labels: str) -> int:
        """Return the count of a metric, restricted to `labels` if any are given."""
        counts = self._n.get(metric, {})
        return sum(counts.get(label, 0) for label in labels) if labels else sum(counts.values())

    def count_by_label(self, metric: Metric) -> dict[str, int]:
        """Return the counts of a metric by label."""
        return dict(self._n.get(metric, {}))

    def get_totals(self, metric: Metric) -> dict[str, Decimal]:
        """Return the totals of a metric by label, without labels with a total of 0."""
        return dict(self._total.get(metric, {}))

    @property
    def finished_sends(self) -> int:
        """Requests with a finished first send, successful or not.

        Requests that a caller cancelled, or that expired while an operator had stopped sending, do not count.
        """
        unsent = self.count(Metric.FAILED) + self.count(Metric.EXPIRED, ExpiredStage.SEND_DEADLINE)
        return self.count(Metric.SENT) + unsent

    @property
    def success_share(self) -> float | None:
        """The successful share of `finished_sends`."""
        return compute_share(self.count(Metric.SENT), self.finished_sends)

    @property
    def reported(self) -> int:
        """Attempts with a final delivery report."""
        return self.count(Metric.DELIVERED) + self.count(Metric.UNDELIVERED)

    @property
    def delivered_share(self) -> float | None:
        """The share of `reported` that was delivered."""
        return compute_share(self.count(Metric.DELIVERED), self.reported)

    @property
    def verified_share(self) -> float | None:
        """Verified requests per sent request of the same window. Exceeds 1 when traffic declines."""
        return compute_share(self.count(Metric.VERIFIED), self.count(Metric.SENT))

    @property
    def judged(self) -> int:
        """Checks with the verdict right or wrong."""
        return self.count(Metric.CHECKS, "correct", "wrong")

    @property
    def wrong_share(self) -> float | None:
        """The share of `judged` that was wrong."""
        return compute_share(self.count(Metric.CHECKS, "wrong"), self.judged)

    @property
    def cost(self) -> dict[str, Decimal]:
        """The cost in the provider's reports, by currency."""
        return {currency: total for currency, total in self.get_totals(Metric.COST).items() if total}

    @property
    def cost_per_verified(self) -> dict[str, Decimal]:
        """The cost per verified request, by currency. Empty if no request was verified."""
        verified = self.count(Metric.VERIFIED)
        return {currency: spent / verified for currency, spent in self.cost.items()} if verified > 0 else {}

    def compute_mean_ms(self, metric: Metric) -> float | None:
        """Return the mean of a duration metric in ms, or None if it has no events."""
        n = self.count(metric)
        return float(sum(self.get_totals(metric).values()) / n) if n > 0 else None

    def compute_quantile_ms(self, histogram: Metric, q: float) -> float | None:
        """Return a quantile of a histogram in ms, as `quantile` does."""
        return compute_quantile(self.count_by_label(histogram), q)
