"""When a call is repeated."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass

from otpqueue.client.errors import (
    CheckInProgressError,
    IdempotencyInProgressError,
    NoResponseError,
    OtpqueueClientError,
    ProblemError,
    ServiceUnavailableError,
    TooManyRequestsError,
)


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bounds of retries. Times are in seconds.

    A call is repeated after no response, 429, 502, 503 and 504, and after 409 `idempotency_in_progress` and
    `check_in_progress`. Every repetition of a call has the same Idempotency-Key.
    """

    attempts: int = 4
    """Maximum number of attempts, including the first; 1 turns retries off."""
    total: float = 45.0
    """No attempt starts later than this after the first."""
    backoff: float = 0.25
    """Maximum pause before the first retry. It doubles with each retry; the pause is a random part of it."""
    max_backoff: float = 4.0
    max_retry_after: float = 5.0
    """An error with a longer `Retry-After` is raised at once."""


NO_RETRIES = RetryPolicy(attempts=1)

_RETRYABLE = (NoResponseError, ServiceUnavailableError, IdempotencyInProgressError, CheckInProgressError)


class RetrySchedule:
    """The retries of one call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._begun = time.monotonic()
        self._attempts = 0

    def choose_pause(self, error: OtpqueueClientError) -> float | None:
        """Return how many seconds to wait before the next attempt; None if the error is to be raised."""
        self._attempts += 1
        policy = self._policy
        if self._attempts >= policy.attempts or not _is_retryable(error):
            return None
        jitter = random.random()  # noqa: S311 - spreads retries, protects nothing
        ceiling = min(policy.max_backoff, policy.backoff * 2 ** (self._attempts - 1))
        pause = ceiling * (0.5 + jitter / 2)
        retry_after = error.retry_after if isinstance(error, ProblemError) else None
        if retry_after is not None:
            if retry_after > policy.max_retry_after:
                return None
            # Later than asked, so that callers that were rejected together do not return together.
            pause = retry_after + policy.backoff * jitter
        return pause if time.monotonic() - self._begun + pause <= policy.total else None


def _is_retryable(error: OtpqueueClientError) -> bool:
    if isinstance(error, TooManyRequestsError):
        return error.retry_after is not None
    return isinstance(error, _RETRYABLE)
