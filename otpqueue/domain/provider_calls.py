"""Failed calls to the provider and their causes, from the HTTP statuses in the statistics."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum

from otpqueue.domain.stats import NO_STATUS, Metric, MetricTally

PROVIDER_CALLS = (Metric.PROVIDER_SENDS, Metric.PROVIDER_CHECKS)

_REFUSALS = frozenset({"401", "403"})
"""The provider answers every send with these until an operator fixes our configuration."""


class CallFailure(StrEnum):
    """Why calls to the provider fail."""

    NO_ANSWER = "no answer"
    """No connection, or no answer before the timeout."""
    SERVER_ERRORS = "answers 5xx"
    REFUSALS = "answers 401 or 403"
    """The API key is rejected."""
    NOT_FOUND = "answers 404"
    """A send names an application, template or code that the provider does not know."""


def classify_call(metric: Metric, status: str) -> CallFailure | None:
    """Return why a call failed, or None if it did not.

    A 404 to a check is not a failure: the provider no longer has the code.
    """
    if status == NO_STATUS:
        return CallFailure.NO_ANSWER
    if status.startswith("5"):
        return CallFailure.SERVER_ERRORS
    if status in _REFUSALS:
        return CallFailure.REFUSALS
    if status == "404" and metric is Metric.PROVIDER_SENDS:
        return CallFailure.NOT_FOUND
    return None


def count_failures(tally: MetricTally) -> Counter[CallFailure]:
    """Return the number of failed calls in a tally, by cause."""
    counted: Counter[CallFailure] = Counter()
    for metric in PROVIDER_CALLS:
        for status, n in tally.count_by_label(metric).items():
            failure = classify_call(metric, status)
            if failure is not None and n > 0:
                counted[failure] += n
    return counted


def find_most_frequent_failure(tally: MetricTally) -> CallFailure | None:
    """Return the most frequent cause of failed calls, or None if no call failed."""
    counted = count_failures(tally)
    return max(sorted(counted), key=counted.__getitem__) if counted else None
