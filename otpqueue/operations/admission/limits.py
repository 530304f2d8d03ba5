"""Rate limits in Redis: of requests and resends, and of calls per API key."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitExceeded, LimitsUnavailable
from otpqueue.domain.limits import (
    KEY_RATE,
    KEYLESS_LIMITS,
    KEYLESS_PEER,
    REQUEST_LIMITS,
    CountedBy,
    Limit,
    LimitStatus,
    Quota,
    Quotas,
)
from otpqueue.limiter import CountedCall, Limiter, LimitWindow
from otpqueue.store.vault import Vault
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_WITHOUT_REDIS_S = 2.0
"""How long calls are not counted after Redis failed, so that not every call waits for it."""

_counted_limits: ContextVar[tuple[LimitStatus, ...] | None] = ContextVar("counted_limits", default=None)
"""None outside the API, which alone returns them in headers."""


def clear_counted_limits() -> None:
    """Clear the rate limits that were counted. Called at the start of each call."""
    _counted_limits.set(())


def counted_limits() -> tuple[LimitStatus, ...]:
    """Return the rate limits that were counted in this call, as far as the caller may see them."""
    return _counted_limits.get() or ()


def _note(counted: CountedCall, *, keyless: bool = False) -> None:
    before = _counted_limits.get()
    if before is not None:
        strictest = _strictest(counted.statuses)
        _counted_limits.set((*before, *(one for one in strictest if one.limit.is_visible(keyless=keyless))))


def _strictest(statuses: Iterable[LimitStatus]) -> Iterable[LimitStatus]:
    """Return each limit once, the strictest. During hash key rotation each is counted twice."""
    found: dict[str, LimitStatus] = {}
    for one in statuses:
        other = found.get(one.limit.name, one)
        found[one.limit.name] = min(one, other, key=lambda standing: (standing.left, -standing.more_in_s))
    return found.values()


def refusal(statuses: Sequence[LimitStatus]) -> LimitExceeded:
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


def in_force(limit: Limit, deployment: Quotas, own: Quotas) -> Quota | None:
    """Return the quota of a limit: the client's own if it may have one and does, else the deployment's."""
    return own[limit.name] if limit.per_client and limit.name in own else deployment[limit.name]


def _set(*quotas: Quota | None) -> set[Quota]:
    return {quota for quota in quotas if quota is not None}


class KeyRate:
    """The rate of calls per API key. Without Redis all calls are admitted, so that codes can be verified."""

    def __init__(self, *, limiter: Limiter, vault: Vault, quotas: Quotas) -> None:
        self._limiter, self._vault, self._quotas = limiter, vault, quotas
        self._redis_again_at = 0.0

    @property
    def counts_addresses(self) -> bool:
        """Whether calls without an API key are limited by source address."""
        return self._quotas[KEYLESS_PEER.name] is not None

    def of(self, holder: UUID, own: ClientSettings) -> CallRate:
        """Return the rate of a call by the holder: an API key, or the client of a call without one."""
        quota = in_force(KEY_RATE, self._quotas, own.limits)
        subject = self._vault.limit_hash(holder.bytes)
        windows = () if quota is None else (LimitWindow(limit=KEY_RATE, quota=quota, subject=subject),)
        return CallRate(limits=self, windows=windows)

    def of_keyless(
        self, client_id: UUID, own: ClientSettings, *, address: str | None, network: str | None
    ) -> CallRate:
        """Return the rate of a call without an API key: of its address, its network and its client.

        All are counted or none. A rejected address does not use up the quotas of others. Calls with an
        unknown address share one count.
        """
        subjects = {
            CountedBy.KEYLESS_PEER: self._vault.address_hash(address) or b"",
            CountedBy.KEYLESS_NETWORK: (network or "").encode(),
        }
        windows = [
            LimitWindow(
                limit=limit,
                quota=quota,
                subject=self._vault.limit_hash(client_id.bytes, subjects[limit.counted]),
            )
            for limit in KEYLESS_LIMITS
            if (quota := self._quotas[limit.name])
        ]
        return CallRate(limits=self, windows=(*windows, *self.of(client_id, own).windows), keyless=True)

    def __call__(self, holder: UUID, own: ClientSettings) -> None:
        """Count a call by the holder. Raises LimitExceeded."""
        self.of(holder, own).count()

    def count(self, windows: Sequence[LimitWindow], *, keyless: bool = False) -> None:
        """Count a call in its windows. Raises LimitExceeded."""
        if not windows or time.monotonic() < self._redis_again_at:
            return
        try:
            counted = self._limiter.count_call((), rate=windows)
        except LimitsUnavailable as error:
            self._redis_again_at = time.monotonic() + _WITHOUT_REDIS_S
            log.warning("key_rate_not_counted", error=type(error.__cause__).__name__)
            return
        _note(counted, keyless=keyless)
        if not counted.rate_admitted:
            raise refusal(counted.statuses)


@dataclass(kw_only=True)
class CallRate:
    """The rate of one call. It is counted once, alone or in the same script as the limits of the request."""

    limits: KeyRate
    windows: tuple[LimitWindow, ...]
    counted: bool = False
    keyless: bool = False
    """Whether the caller has no API key."""

    def count(self) -> None:
        """Count the call unless it has been counted. Raises LimitExceeded."""
        if not self.counted:
            self.counted = True
            self.limits.count(self.windows, keyless=self.keyless)


@dataclass(frozen=True, kw_only=True)
class LimitedTry:
    """The result of counting an attempt."""

    refusal: LimitExceeded | LimitsUnavailable | None = None
    wake_up: int | None = None
    """The state of the wake-up that the script found; None if the script woke no worker."""
    limiter: Limiter | None = field(default=None, repr=False)
    windows: tuple[LimitWindow, ...] = ()
    """The windows in which the attempt was counted."""
    call: CountedCall | None = None
    mark: str | None = None
    """The mark of its Idempotency-Key, which the attempt holds."""
    is_running: bool = False
    """Whether another call with the same Idempotency-Key is running."""

    def give_back(self) -> None:
        """Revert the counts of an attempt that stored no request. The rate of the API key stays counted."""
        if self.limiter and self.call and (self.windows or self.mark):
            self.limiter.undo_call(self.windows, self.call, mark=self.mark)


@dataclass(frozen=True, kw_only=True)
class LeftWindows:
    """Limit windows that still need an older hash key."""

    windows: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Counts requests and resends. All limits of one are counted, or none."""

    limiter: Limiter
    vault: Vault
    quotas: Quotas

    def take(
        self,
        *,
        client_id: UUID,
        settings: ClientSettings,
        number_hashes: Sequence[bytes],
        client_ip_hashes: Sequence[bytes] | None,
        is_resend: bool,
        is_test: bool,
        rate: CallRate | None,
        wake: tuple[str, str] | None,
        mark: str | None = None,
    ) -> LimitedTry:
        """Count an attempt, and before it the rate of its call. `wake` names the job to wake. One round trip.

        `mark` identifies its Idempotency-Key. Attempts for test numbers count only against the rate. Raises
        LimitExceeded for the rate.
        """
        windows = (
            ()
            if is_test
            else tuple(
                self._windows(client_id, settings, number_hashes, client_ip_hashes or (), is_resend=is_resend)
            )
        )
        first = () if rate is None or rate.counted else rate.windows
        if not (windows or first or wake):
            return LimitedTry()
        try:
            counted = self.limiter.count_call(windows, rate=first, wake=wake, mark=mark)
        except LimitsUnavailable as error:
            if windows:
                return LimitedTry(refusal=error)
            log.warning("key_rate_not_counted", error=type(error.__cause__).__name__)
            return LimitedTry()
        finally:
            if rate is not None:
                rate.counted = True
        _note(counted, keyless=rate is not None and rate.keyless)
        if not counted.rate_admitted:
            raise refusal(counted.statuses)
        if counted.is_running:
            return LimitedTry(is_running=True)
        if not counted.admitted:
            return LimitedTry(refusal=refusal(counted.statuses[len(first) :]))
        return LimitedTry(
            wake_up=counted.wake_up, limiter=self.limiter, windows=windows, call=counted, mark=mark
        )

    def forget(self, number_hashes: Sequence[bytes], own: Mapping[UUID, Quotas]) -> None:
        """Delete a number's windows: with each hash key, per client and shared, by the current quotas.

        `own` maps clients to their own quotas. A window with a quota that has changed since it began is kept
        until it expires. Raises LimitsUnavailable.
        """
        self.limiter.delete_windows(
            [
                LimitWindow(limit=limit, quota=quota, subject=self.vault.limit_hash(*scope, number, nth=nth))
                for nth, number in enumerate(number_hashes)
                for limit in REQUEST_LIMITS
                for scope, quotas in self._counted_by(limit, own)
                for quota in quotas
            ]
        )

    def under(self, nth: int, own: Mapping[UUID, Quotas], *, now: datetime, note: bool) -> LeftWindows:
        """Return the windows that use the `nth` hash key, and until when they are needed.

        Every attempt is counted with all hash keys. So the windows of an older key are needed for the length
        of the longest window, from when every process has the first key. The first call with `note` records
        that time; an operator runs it then. Raises LimitsUnavailable.
        """
        marks = [mark.hex() for mark in self.vault.marks]
        windows = self.limiter.count_windows(REQUEST_LIMITS, marks[nth])
        since = self.limiter.get_first_time(marks[0], note=note)
        begun = datetime.fromtimestamp(since, UTC) if since else now
        quotas = [self.quotas, *own.values()]
        longest_s = max(
            (quota.window_s for one in quotas for limit in REQUEST_LIMITS if (quota := one.get(limit.name))),
            default=0,
        )
        until = begun + timedelta(seconds=longest_s)
        return LeftWindows(windows=windows if until > now else 0, until=until)

    def _counted_by(
        self, limit: Limit, own: Mapping[UUID, Quotas]
    ) -> Iterable[tuple[tuple[bytes, ...], set[Quota]]]:
        """Yield the scopes of a limit's windows for a number, with the quotas that may apply."""
        usual = self.quotas[limit.name]
        if limit.counted is CountedBy.NUMBER:
            yield (), _set(usual)
        elif limit.counted is CountedBy.NUMBER_OF_CLIENT:
            for client_id, quotas in own.items():
                yield (client_id.bytes,), _set(usual, quotas.get(limit.name))

    def _windows(
        self,
        client_id: UUID,
        settings: ClientSettings,
        number_hashes: Sequence[bytes],
        client_ip_hashes: Sequence[bytes],
        *,
        is_resend: bool,
    ) -> Iterable[LimitWindow]:
        client = client_id.bytes
        subjects: dict[CountedBy, list[tuple[bytes, ...]]] = {
            CountedBy.NUMBER_OF_CLIENT: [(client, number) for number in number_hashes],
            CountedBy.NUMBER: [(number,) for number in number_hashes],
            CountedBy.ADDRESS_OF_CLIENT: [(client, address) for address in client_ip_hashes],
        }
        for limit in REQUEST_LIMITS:
            quota = in_force(limit, self.quotas, settings.limits)
            if quota and (limit.resends or not is_resend):
                # One per hash key, so that key rotation does not reset a caller's window.
                for nth, parts in enumerate(subjects[limit.counted]):
                    yield LimitWindow(
                        limit=limit, quota=quota, subject=self.vault.limit_hash(*parts, nth=nth)
                    )
