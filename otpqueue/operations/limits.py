"""Limits kept in Redis: of codes that are asked for, and of calls with one API key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from uuid import UUID

from otpqueue import metrics
from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitExceeded, LimitsUnavailable
from otpqueue.domain.limits import KEY_RATE, REQUEST_LIMITS, Counted, Limit, Quota, Quotas, Standing
from otpqueue.limiter import Limiter, Taken, Window
from otpqueue.logs import get_logger
from otpqueue.operations.admission import Applicant, Undo
from otpqueue.store.vault import Vault

log = get_logger(__name__)

_WITHOUT_REDIS_S = 2.0
"""So long the rate of calls is not counted after Redis failed: else each call would wait for it."""

_standings: ContextVar[tuple[Standing, ...] | None] = ContextVar("standings", default=None)
"""None where nobody wants to know: outside the API."""


def forget_standings() -> None:
    """Begin a call: nothing was counted in it so far."""
    _standings.set(())


def standings() -> tuple[Standing, ...]:
    """Return how the limits stand that were counted in this call, but for those that clients share."""
    return _standings.get() or ()


def _note(taken: Taken) -> None:
    before = _standings.get()
    if before is not None:
        _standings.set((*before, *(one for one in _strictest(taken.standings) if one.limit.per_client)))


def _strictest(standings: Iterable[Standing]) -> Iterable[Standing]:
    """Return how each limit stands, once: while a key is being replaced it is counted twice."""
    found: dict[str, Standing] = {}
    for one in standings:
        other = found.get(one.limit.name, one)
        found[one.limit.name] = min(one, other, key=lambda standing: (standing.left, -standing.more_in_s))
    return found.values()


def refusal(standings: Sequence[Standing]) -> LimitExceeded:
    """Return what a try is told that was not admitted: of the full windows the one that stays so longest."""
    for full in standings:
        if full.left <= 0:
            metrics.count(metrics.LIMITS_HIT, full.limit.name)
    longest = max((one for one in standings if one.left <= 0), key=lambda one: one.more_in_s)
    return LimitExceeded(
        longest.limit.name,
        f"At most {longest.quota.in_words}: {longest.limit.what}. "
        f"Try again in {longest.retry_after_s} seconds.",
        retry_after_s=longest.retry_after_s,
    )


def in_force(limit: Limit, deployment: Quotas, own: Quotas) -> Quota | None:
    """Return the quota of a limit: the client's own where there may be and is one, else the deployment's."""
    return own[limit.name] if limit.per_client and limit.name in own else deployment[limit.name]


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Counts requests and resends, all limits of one at once or none of them."""

    limiter: Limiter
    vault: Vault
    quotas: Quotas

    def take(self, applicant: Applicant) -> Undo:
        """Count the applicant and return what undoes that.

        Raises LimitExceeded, LimitsUnavailable.
        """
        windows = list(self._windows(applicant))
        if not windows:
            return lambda: None
        taken = self.limiter.take(windows)
        _note(taken)
        if not taken.admitted:
            raise refusal(taken.standings)
        return partial(self.limiter.give_back, windows, taken)

    def _windows(self, applicant: Applicant) -> Iterable[Window]:
        client = applicant.client_id.bytes
        whom: dict[Counted, list[tuple[bytes, ...]]] = {
            Counted.NUMBER_OF_CLIENT: [(client, number) for number in applicant.number_hashes],
            Counted.NUMBER: [(number,) for number in applicant.number_hashes],
            Counted.ADDRESS_OF_CLIENT: [(client, address) for address in applicant.client_ip_hashes or ()],
        }
        for limit in REQUEST_LIMITS:
            quota = in_force(limit, self.quotas, applicant.settings.limits)
            if quota and (limit.resends or not applicant.resend):
                # Under each look-up key, so that replacing it gives nobody a window of his own.
                for nth, parts in enumerate(whom[limit.counted]):
                    yield Window(limit=limit, quota=quota, whom=self.vault.limit_hash(*parts, nth=nth))


class KeyRate:
    """Counts calls with one API key. While Redis is away all are let through: codes can be checked still."""

    def __init__(self, *, limiter: Limiter, vault: Vault, quotas: Quotas) -> None:
        self._limiter, self._vault, self._quotas = limiter, vault, quotas
        self._redis_again_at = 0.0

    def __call__(self, holder: UUID, own: ClientSettings) -> None:
        """Count a call by the holder: a key, or the client of a call without one. Raises LimitExceeded."""
        quota = in_force(KEY_RATE, self._quotas, own.limits)
        if quota is None or time.monotonic() < self._redis_again_at:
            return
        window = Window(limit=KEY_RATE, quota=quota, whom=self._vault.limit_hash(holder.bytes))
        try:
            taken = self._limiter.take([window])
        except LimitsUnavailable as error:
            self._redis_again_at = time.monotonic() + _WITHOUT_REDIS_S
            log.warning("key_rate_not_counted", error=type(error.__cause__).__name__)
            return
        _note(taken)
        if not taken.admitted:
            raise refusal(taken.standings)
