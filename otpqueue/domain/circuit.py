"""The circuit breaker: after failures in a row nobody sends for a growing pause, then one request probes.

A value that says what follows from what was seen; where it is kept, and for whom, is not decided here. Times
are seconds on any clock that all its users share.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from otpqueue.domain.sending import Outcome, RefusalCause


class CircuitSignal(StrEnum):
    """What an attempt says of the provider as a whole."""

    ALIVE = "alive"
    """It answered, if only to refuse one number."""
    FAILED = "failed"
    """No connection, no answer, or an answer that says that it is not well."""
    MISCONFIGURED = "misconfigured"
    """It will refuse everybody until an operator fixes our configuration."""
    SUSPECTED = "suspected"
    """It may refuse everybody, or this one send alone: nothing in its answer says which."""
    NONE = "none"
    """It was not asked."""


class ClaimPermit(StrEnum):
    """What may be claimed now."""

    ALL = "all"
    PROBE = "probe"
    """One request, whose outcome is to be noted as the probe's."""
    NOTHING = "nothing"


class CircuitState(StrEnum):
    """What the circuit is, in the pattern's own words."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, kw_only=True)
class CircuitPolicy:
    """When the circuit opens, and for how long. Times in seconds."""

    failures: int
    """So many failures in a row open it."""
    pause_s: float
    """The first pause; it doubles with every probe that fails."""
    pause_max_s: float
    probe_s: float
    """A probe that has said nothing for so long is lost, and another may be made."""


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """The circuit at one moment; a new one is closed."""

    failures: int = 0
    """Failures in a row while closed."""
    pauses: int = 0
    """Pauses in a row without a sign of life."""
    probe_at: float | None = None
    """When the pause ends; None while closed."""
    probe_until: float | None = None
    """Until when the probe under way may take."""

    def state(self, now: float) -> CircuitState:
        """Return what the circuit is at `now`."""
        if self.probe_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if now < self.probe_at else CircuitState.HALF_OPEN

    def pause_left_s(self, now: float) -> float:
        """Return for how long nothing can be claimed, 0 if something may be."""
        if self.probe_at is None:
            return 0.0
        return max(self.probe_at - now, (self.probe_until or now) - now, 0.0)

    def take(self, now: float, policy: CircuitPolicy) -> tuple[Circuit, ClaimPermit]:
        """Return what may be claimed at `now`, and the circuit after that: there is one probe at a time."""
        if self.probe_at is None:
            return self, ClaimPermit.ALL
        if self.pause_left_s(now) > 0:
            return self, ClaimPermit.NOTHING
        return replace(self, probe_until=now + policy.probe_s), ClaimPermit.PROBE

    def noted(
        self, signs: Iterable[tuple[CircuitSignal, bool]], now: float, policy: CircuitPolicy
    ) -> Circuit:
        """Return the circuit after some attempts, each given as its sign and whether it was the probe.

        Any sign of life closes it. While it is open only the probe's failure counts: those of attempts that
        began before it opened tell nothing new.
        """
        circuit = self
        for sign, probe in signs:
            circuit = circuit._noted(sign, now, policy, probe=probe)
        return circuit

    def _noted(self, sign: CircuitSignal, now: float, policy: CircuitPolicy, *, probe: bool) -> Circuit:
        if sign is CircuitSignal.NONE:
            return replace(self, probe_until=None) if probe else self
        if sign is CircuitSignal.ALIVE:
            return Circuit()
        if self.probe_at is not None:
            return self._opened(now, policy) if probe else self
        failures = self.failures + 1
        if sign is CircuitSignal.MISCONFIGURED or failures >= policy.failures:
            return self._opened(now, policy)
        return replace(self, failures=failures)

    def _opened(self, now: float, policy: CircuitPolicy) -> Circuit:
        # 2 to the 30th is longer than any ceiling, and no overflow.
        pause = min(policy.pause_max_s, policy.pause_s * 2.0 ** min(self.pauses, 30))
        return Circuit(pauses=self.pauses + 1, probe_at=now + pause)

    def shifted(self, by: float) -> Circuit:
        """Return the same circuit on a clock that shows `by` seconds more."""
        return replace(
            self,
            probe_at=None if self.probe_at is None else self.probe_at + by,
            probe_until=None if self.probe_until is None else self.probe_until + by,
        )


def sign_of(outcome: Outcome, *, is_retry: bool = False) -> CircuitSignal:
    """Return what an outcome says of the provider: a refusal of one number (any 4xx) is a sign of life.

    A refusal that may concern everybody counts once per request, not again when that request `is_retry`.
    Not if somebody else refused in its place. A refused template or number says nothing against other sends.
    """
    if not outcome.asked:
        return CircuitSignal.NONE
    if outcome.cause in {RefusalCause.KEY, RefusalCause.APPLICATION}:
        return CircuitSignal.MISCONFIGURED
    if outcome.cause is RefusalCause.UNCLEAR:
        return CircuitSignal.NONE if is_retry else CircuitSignal.SUSPECTED
    answered = outcome.by_provider and outcome.http_status is not None and outcome.http_status < 500
    return CircuitSignal.ALIVE if answered else CircuitSignal.FAILED
