"""The headers `RateLimit-Policy` and `RateLimit`: quotas and what remains of them, on every answer.

Format: draft-ietf-httpapi-ratelimit-headers-11. Both are lists of names of limits, with the quota `q` and the
window `w` in seconds, or with the remaining calls `r` and the seconds `t` until the reset.
"""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from otpqueue.domain.limits import LimitStatus

POLICY, REMAINING = "RateLimit-Policy", "RateLimit"


def set_headers(resp: falcon.Response, statuses: Sequence[LimitStatus]) -> None:
    """Set the headers for the limits that the call was counted against, if there are any."""
    if not statuses:
        return
    policies = (f'"{one.limit.name}";q={one.quota.amount};w={one.quota.window_s}' for one in statuses)
    resp.set_header(POLICY, ", ".join(policies))
    remaining = (f'"{one.limit.name}";r={max(0, one.left)};t={one.retry_after_s}' for one in statuses)
    resp.set_header(REMAINING, ", ".join(remaining))
