"""Permits of the circuit breaker: how many codes may be claimed now."""

from __future__ import annotations

import time
from typing import Protocol

from otpqueue.domain.circuit import CircuitSignal, ClaimPermit
from otpqueue.operations.pump_user import ClaimAllowance

_PERMIT_S = 0.1
"""For how long a permit for all claims is valid, unless an attempt fails meanwhile."""

_BLOCKED_S = 0.5
"""How often the circuit is asked while it forbids all claims."""


class CircuitBreaker(Protocol):
    """What keeps all workers from using a provider that fails."""

    def claim(self) -> tuple[ClaimPermit, float]:
        """Return what may be claimed now and, where that is nothing, for how many seconds it stays so."""

    def record_signals(self, signs: list[tuple[CircuitSignal, bool]]) -> None:
        """Note what attempts said of the provider, each with whether it was the probe."""


class ProviderPermits:
    """Caches the circuit's permits for a moment. One job claims at a time, others only note signs."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker
        self._valid_until = 0.0
        """On the monotonic clock, in seconds."""

    def permit_claims(self, free: int) -> ClaimAllowance:
        """Permit as many claims as there are `free` threads, one probe, or none."""
        now = time.monotonic()
        if now >= self._valid_until:
            permit, pause_s = self._breaker.claim()
            if permit is ClaimPermit.NOTHING:
                return ClaimAllowance(0, retry_in_s=min(pause_s, _BLOCKED_S))
            if permit is ClaimPermit.PROBE:
                return ClaimAllowance(1, is_probe=True)
            self._valid_until = now + _PERMIT_S
        return ClaimAllowance(free)

    def note_signs(self, signs: list[tuple[CircuitSignal, bool]]) -> None:
        """Note signs for the circuit, each with whether it was the probe's; after a failure, ask it again."""
        self._breaker.record_signals(signs)
        if any(sign is not CircuitSignal.ALIVE for sign, _ in signs):
            self._valid_until = 0.0

    def release_probe(self) -> None:
        """Let another probe be made: this one found nothing to send."""
        self._breaker.record_signals([(CircuitSignal.NONE, True)])
