"""The state machine of the circuit breaker.

After consecutive failures the circuit opens and no request is claimed for a pause, which doubles with each
failed probe. After the pause one request probes the provider.

The module only computes the next state. `otpqueue.circuit` stores it. Times are seconds on a clock that all
users of the circuit share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from otpqueue.domain.sending import Outcome, RefusalCause


class CircuitSignal(StrEnum):
    """What an attempt shows about the provider as a whole."""

    ALIVE = "alive"
    """The provider answered, even if it rejected one number."""
    FAILED = "failed"
    """No connection, no answer, or an answer that reports a failure of the provider."""
    MISCONFIGURED = "misconfigured"
    """The provider rejects every send until an operator fixes our configuration."""
    SUSPECTED = "suspected"
    """The provider may reject every send or only this one. Its answer does not say which."""
    NONE = "none"
    """The provider was not called."""


class ClaimPermit(StrEnum):
    """What a worker may claim now."""

    ALL = "all"
    PROBE = "probe"
    """One request. The worker must report its outcome as the probe's."""
    NOTHING = "nothing"


class CircuitState(StrEnum):
    """The states of the circuit breaker pattern."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, kw_only=True)
class CircuitPolicy:
    """When the circuit opens, and for how long. Times are in seconds."""

    failures: int
    """How many consecutive failures open the circuit."""
    pause_s: float
    """The first pause. It doubles with each failed probe."""
    pause_max_s: float
    probe_s: float
    """How long a probe may take. After that it counts as lost, and another one may start."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """The circuit at one moment. A new one is closed."""

    failures: int = 0
    """Consecutive failures while closed."""
    pauses: int = 0
    """Consecutive pauses without an answer from the provider."""
    probe_at: float | None = None
    """When the pause ends. None while closed."""
    probe_until: float | None = None
    """When the running probe times out."""

    def get_state(self, now: float) -> CircuitState:
        """Return the state of the circuit at `now`."""
        if self.probe_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.probe_at else CircuitState.HALF_OPEN

    def get_pause_left_s(self, now: float) -> float:
        """Return the seconds until requests may be claimed again, 0 if they may be claimed now."""
        if self.probe_at is None:
            return 0.0
        return max(self.probe_at - now, (self.probe_until or now) - now, 0.0)

    def claim(self, now: float, policy: CircuitPolicy) -> tuple[Circuit, ClaimPermit]:
        """Return what may be claimed at `now`, and the circuit after that claim.

        Only one probe runs at a time.
        """
        if self.probe_at is None:
            return self, ClaimPermit.ALL
        if self.get_pause_left_s(now) > 0:
            return self, ClaimPermit.NOTHING
        return replace(self, probe_until=now + policy.probe_s), ClaimPermit.PROBE

    def record_signals(
        self, signs: Iterable[tuple[CircuitSignal, bool]], now: float, policy: CircuitPolicy
    ) -> Circuit:
        """Return the circuit after some attempts, each given as its signal and whether it was the probe.

        An `ALIVE` signal closes the circuit. While the circuit is open, only the probe's failure counts,
        because the other attempts began before it opened.
        """
        circuit = self
        for sign, probe in signs:
            circuit = circuit._record_signal(sign, now, policy, probe=probe)
        return circuit

    def _record_signal(
        self, sign: CircuitSignal, now: float, policy: CircuitPolicy, *, probe: bool
    ) -> Circuit:
        if sign is CircuitSignal.NONE:
            return replace(self, probe_until=None) if probe else self
        if sign is CircuitSignal.ALIVE:
            return Circuit()
        if self.probe_at is not None:
            return self._open(now, policy) if probe else self
        failures = self.failures + 1
        if sign is CircuitSignal.MISCONFIGURED or failures >= policy.failures:
            return self._open(now, policy)
        return replace(self, failures=failures)

    def _open(self, now: float, policy: CircuitPolicy) -> Circuit:
        # 2**30 exceeds every backoff ceiling and does not overflow.
        pause = min(policy.pause_max_s, policy.pause_s * 2.0 ** min(self.pauses, 30))
        return Circuit(pauses=self.pauses + 1, probe_at=now + pause)

    def shift_clock(self, by: float) -> Circuit:
        """Return the same circuit on a clock that is `by` seconds ahead."""
        return replace(
            self,
            probe_at=None if self.probe_at is None else self.probe_at + by,
            probe_until=None if self.probe_until is None else self.probe_until + by,
        )


def classify_outcome(outcome: Outcome, *, is_retry: bool = False) -> CircuitSignal:
    """Return what an outcome shows about the provider.

    A rejection of one number (any 4xx) means that the provider is alive. A rejection that may affect every
    send counts once per request, so not again if `is_retry`. A rejection by a proxy on the way is not a
    signal from the provider. A rejected template or number says nothing about other sends.
    """
    if not outcome.asked:
        return CircuitSignal.NONE
    if outcome.cause in {RefusalCause.KEY, RefusalCause.APPLICATION}:
        return CircuitSignal.MISCONFIGURED
    if outcome.cause is RefusalCause.UNCLEAR:
        return CircuitSignal.NONE if is_retry else CircuitSignal.SUSPECTED
    answered = outcome.by_provider and outcome.http_status is not None and outcome.http_status < 500
    return CircuitSignal.ALIVE if answered else CircuitSignal.FAILED
