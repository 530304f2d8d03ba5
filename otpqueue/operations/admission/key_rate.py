"""Rate limits of calls: per API key, or per address without one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from otpqueue.domain.client_settings import ClientSettings
from otpqueue.domain.errors import LimitsUnavailable
from otpqueue.domain.limits import KEY_RATE, KEYLESS_LIMITS, KEYLESS_PEER, CountedBy, Quotas
from otpqueue.limiter import Limiter, LimitWindow
from otpqueue.operations.admission.counted_limits import build_limit_error, choose_quota, note_counted
from otpqueue.store.vault import Vault
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

_WITHOUT_REDIS_S = 2.0
"""How long calls are not counted after Redis failed, so that not every call waits for it."""


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
        quota = choose_quota(KEY_RATE, self._quotas, own.limits)
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
        note_counted(counted, keyless=keyless)
        if not counted.rate_admitted:
            raise build_limit_error(counted.statuses)


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
