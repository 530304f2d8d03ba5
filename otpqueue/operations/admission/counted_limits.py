"""The rate limits that a call was counted under, which the API returns in headers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextvars import ContextVar

from otpqueue.domain.errors import LimitExceeded
from otpqueue.domain.limits import Limit, LimitStatus, Quota, Quotas
from otpqueue.limiter import CountedCall
from otpqueue.telemetry import metrics

_counted_limits: ContextVar[tuple[LimitStatus, ...] | None] = ContextVar("counted_limits", default=None)
"""None outside the API, which alone returns them in headers."""


def clear_counted_limits() -> None:
    """Clear the rate limits that were counted. Called at the start of each call."""
    _counted_limits.set(())


def counted_limits() -> tuple[LimitStatus, ...]:
    """Return the rate limits that were counted in this call, as far as the caller may see them."""
    return _counted_limits.get() or ()


def note_counted(counted: CountedCall, *, keyless: bool = False) -> None:
    """Note the limits that a call was counted under, for its headers."""
    before = _counted_limits.get()
    if before is not None:
        strictest = _select_strictest(counted.statuses)
        _counted_limits.set((*before, *(one for one in strictest if one.limit.is_visible(keyless=keyless))))


def _select_strictest(statuses: Sequence[LimitStatus]) -> Iterable[LimitStatus]:
    """Return each limit once, the strictest. During hash key rotation each is counted twice."""
    if len({one.limit.name for one in statuses}) == len(statuses):
        return statuses
    found: dict[str, LimitStatus] = {}
    for one in statuses:
        other = found.get(one.limit.name, one)
        found[one.limit.name] = min(one, other, key=lambda status: (status.left, -status.more_in_s))
    return found.values()


def build_limit_error(statuses: Sequence[LimitStatus]) -> LimitExceeded:
    """Return the error of a rejected attempt. It names the full window with the longest wait."""
    for full in statuses:
        if full.left <= 0:
            metrics.count(metrics.LIMITS_HIT, full.limit.name)
    longest = max((one for one in statuses if one.left <= 0), key=lambda one: one.more_in_s)
    return LimitExceeded(
        longest.limit.name,
        f"At most {longest.quota.in_words}: {longest.limit.what}. "
        f"Try again in {longest.retry_after_s} seconds.",
        retry_after_s=longest.retry_after_s,
    )


def choose_quota(limit: Limit, deployment: Quotas, own: Quotas) -> Quota | None:
    """Return the quota of a limit: the client's own if it may have one and does, else the deployment's."""
    return own[limit.name] if limit.per_client and limit.name in own else deployment[limit.name]
