"""`RateLimit-Policy` and `RateLimit`: how the limits stand, on accepted and on refused answers.

As draft-ietf-httpapi-ratelimit-headers-11 writes them: lists of strings, the name of a limit each, with the
quota `q` and window `w` in seconds, and with what is left, `r`, and the seconds `t` until there is more.
"""

from __future__ import annotations

import falcon

from otpqueue.operations import limits

POLICY, STANDING = "RateLimit-Policy", "RateLimit"


class RateLimitHeaders:
    """Middleware that tells each caller of the limits that its call was counted against."""

    def process_request(self, _req: falcon.Request, _resp: falcon.Response) -> None:
        """Forget the call that this thread served before."""
        limits.forget_standings()

    def process_response(
        self, _req: falcon.Request, resp: falcon.Response, _resource: object, _ok: bool
    ) -> None:
        """Set the headers if anything was counted."""
        standings = limits.standings()
        if not standings:
            return
        policies = (f'"{one.limit.name}";q={one.quota.amount};w={one.quota.window_s}' for one in standings)
        resp.set_header(POLICY, ", ".join(policies))
        left = (f'"{one.limit.name}";r={max(0, one.left)};t={one.retry_after_s}' for one in standings)
        resp.set_header(STANDING, ", ".join(left))
