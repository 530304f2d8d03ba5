"""`RateLimit-Policy` and `RateLimit`: how the limits stand, on accepted and on refused answers.

As draft-ietf-httpapi-ratelimit-headers-11 writes them: lists of strings, the name of a limit each, with the
quota `q` and window `w` in seconds, and with what is left, `r`, and the seconds `t` until there is more.
"""

from __future__ import annotations

from collections.abc import Sequence

import falcon

from otpqueue.domain.limits import LimitStatus

POLICY, STANDING = "RateLimit-Policy", "RateLimit"


def set_headers(resp: falcon.Response, standings: Sequence[LimitStatus]) -> None:
    """Tell the caller of the limits that its call was counted against, if there are any."""
    if not standings:
        return
    policies = (f'"{one.limit.name}";q={one.quota.amount};w={one.quota.window_s}' for one in standings)
    resp.set_header(POLICY, ", ".join(policies))
    left = (f'"{one.limit.name}";r={max(0, one.left)};t={one.retry_after_s}' for one in standings)
    resp.set_header(STANDING, ", ".join(left))
