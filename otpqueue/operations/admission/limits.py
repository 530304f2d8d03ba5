"""Limits kept in Redis: of codes that are asked for, and of calls with one API key."""

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
"""How long the rate of calls is not counted after Redis failed: else each call would wait for it."""

_standings: ContextVar[tuple[LimitStatus, ...] | None] = ContextVar("standings", default=None)
"""None outside the API, where no answer shows them."""


def forget_standings() -> None:
    """Begin a call: nothing was counted in it so far."""
    _standings.set(())


def standings() -> tuple[LimitStatus, ...]:
    """Return how the limits stand that were counted in this call, as far as its caller may see them."""
    return _standings.get() or ()


def _note(counted: CountedCall, *, keyless: bool = False) -> None:
    before = _standings.get()
    if before is not None:
        strictest = _strictest(counted.statuses)
        _standings.set((*before, *(one for one in strictest if one.limit.is_visible(keyless=keyless))))


def _strictest(standings: Iterable[LimitStatus]) -> Iterable[LimitStatus]:
    """Return how each limit stands, once: while a key is being replaced it is counted twice."""
    found: dict[str, LimitStatus] = {}
    for one in standings:
        other = found.get(one.limit.name, one)
        found[one.limit.name] = min(one, other, key=lambda standing: (standing.left, -standing.more_in_s))
    return found.values()


def refusal(standings: Sequence[LimitStatus]) -> LimitExceeded:
    """Return the refusal of a try that was not admitted: of the full windows the one full for longest."""
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


def _set(*quotas: Quota | None) -> set[Quota]:
    return {quota for quota in quotas if quota is not None}


class KeyRate:
    """The rate of calls with one API key. While Redis is away all are admitted: checks must go on."""

    def __init__(self, *, limiter: Limiter, vault: Vault, quotas: Quotas) -> None:
        self._limiter, self._vault, self._quotas = limiter, vault, quotas
        self._redis_again_at = 0.0

    @property
    def counts_addresses(self) -> bool:
        """Whether calls without a key are limited by the address that they come from."""
        return self._quotas[KEYLESS_PEER.name] is not None

    def of(self, holder: UUID, own: ClientSettings) -> CallRate:
        """Return the rate of a call by the holder: an API key, or the client of a call without one."""
        quota = in_force(KEY_RATE, self._quotas, own.limits)
        whom = self._vault.limit_hash(holder.bytes)
        windows = () if quota is None else (LimitWindow(limit=KEY_RATE, quota=quota, subject=whom),)
        return CallRate(limits=self, windows=windows)

    def of_keyless(
        self, client_id: UUID, own: ClientSettings, *, address: str | None, network: str | None
    ) -> CallRate:
        """Return the rate of a call without a key: of its address, its network, and the client it counts as.

        All or nothing: what one address has too many of takes nothing from the others. Calls whose address is
        unknown share one count.
        """
        whom = {
            CountedBy.KEYLESS_PEER: self._vault.address_hash(address) or b"",
            CountedBy.KEYLESS_NETWORK: (network or "").encode(),
        }
        windows = [
            LimitWindow(
                limit=limit, quota=quota, subject=self._vault.limit_hash(client_id.bytes, whom[limit.counted])
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
    """The rate of one call: counted once, with the limits of what the call asks for or by itself."""

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
    """What the limits say to a try."""

    refusal: LimitExceeded | LimitsUnavailable | None = None
    wake_up: int | None = None
    """What the script found when it woke a worker; None if it did not."""
    limiter: Limiter | None = field(default=None, repr=False)
    windows: tuple[LimitWindow, ...] = ()
    """Those in which the try was counted."""
    call: CountedCall | None = None
    mark: str | None = None
    """The mark of its Idempotency-Key that the try holds."""
    is_running: bool = False
    """Whether another call with the same Idempotency-Key is running."""

    def give_back(self) -> None:
        """Count the try no more: nothing came of it. The rate of the API key stays counted."""
        if self.limiter and self.call and (self.windows or self.mark):
            self.limiter.undo_call(self.windows, self.call, mark=self.mark)


@dataclass(frozen=True, kw_only=True)
class LeftWindows:
    """The limit windows for which an older look-up key is needed yet."""

    windows: int
    until: datetime


@dataclass(frozen=True, kw_only=True)
class RequestLimits:
    """Counts requests and resends, all limits of one at once or none of them."""

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
        """Count a try, and before it the rate of its call; `wake` names the job to wake. One round trip.

        `mark` stands for its Idempotency-Key.
        Nothing is sent to test numbers: they count against the rate alone. Raises LimitExceeded for the rate.
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
        """Delete a number's windows: under each look-up key, of each client and of all, as quotas are now.

        `own` are the clients, with the quotas that are set for each alone. A window whose quota was changed
        after it began ends by itself. Raises LimitsUnavailable.
        """
        self.limiter.delete_windows(
            [
                LimitWindow(limit=limit, quota=quota, subject=self.vault.limit_hash(*whose, number, nth=nth))
                for nth, number in enumerate(number_hashes)
                for limit in REQUEST_LIMITS
                for whose, quotas in self._counted_by(limit, own)
                for quota in quotas
            ]
        )

    def under(self, nth: int, own: Mapping[UUID, Quotas], *, now: datetime, note: bool) -> LeftWindows:
        """Return the windows under the `nth` look-up key, and until when they say more than the first key's.

        Every try is counted under all keys. So the windows of an older one are needed for the length of the
        longest, from when each process knew the first key: from the first call with `note`, which an
        operator makes then. Raises LimitsUnavailable.
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
        """Yield whose windows of a number a limit has, and the quotas that these may have begun with."""
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
        whom: dict[CountedBy, list[tuple[bytes, ...]]] = {
            CountedBy.NUMBER_OF_CLIENT: [(client, number) for number in number_hashes],
            CountedBy.NUMBER: [(number,) for number in number_hashes],
            CountedBy.ADDRESS_OF_CLIENT: [(client, address) for address in client_ip_hashes],
        }
        for limit in REQUEST_LIMITS:
            quota = in_force(limit, self.quotas, settings.limits)
            if quota and (limit.resends or not is_resend):
                # Under each look-up key, so that replacing it gives no caller a fresh window.
                for nth, parts in enumerate(whom[limit.counted]):
                    yield LimitWindow(
                        limit=limit, quota=quota, subject=self.vault.limit_hash(*parts, nth=nth)
                    )
