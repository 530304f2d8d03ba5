"""The circuit breaker that all workers share through Redis.

While Redis is away, each process uses its own.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TypeVar

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, WatchError

from otpqueue.domain.circuit import Circuit, CircuitPolicy, CircuitSignal, CircuitState, ClaimPermit
from otpqueue.telemetry import metrics
from otpqueue.telemetry.logs import get_logger

log = get_logger(__name__)

T = TypeVar("T")
Change = Callable[[Circuit, float], tuple[Circuit, T]]

_KEY = "otpqueue:circuit"
_KEPT_S = 3600
"""How long an unused circuit is kept."""

_WITHOUT_REDIS_S = 2.0
"""How long Redis is not used after an error. The pump queries the circuit twenty times a second."""

_TRIES = 50


class SharedCircuit:
    """The circuit breaker between the workers and the provider. Thread-safe."""

    def __init__(self, *, redis: Redis, policy: CircuitPolicy) -> None:
        self._redis, self._policy = redis, policy
        self._own = Circuit()
        """The last known circuit, on this process's monotonic clock."""
        self._lock = threading.Lock()
        self._redis_again_at = 0.0

    def claim(self) -> tuple[ClaimPermit, float]:
        """Return what may be claimed now. If nothing may, also return for how many seconds."""

        def take(circuit: Circuit, now: float) -> tuple[Circuit, tuple[ClaimPermit, float]]:
            after, permit = circuit.claim(now, self._policy)
            return after, (permit, after.get_pause_left_s(now))

        return self._change(take)

    def record_signals(self, signs: Sequence[tuple[CircuitSignal, bool]]) -> None:
        """Record the signals of attempts, each with whether it was the probe."""
        with self._lock:
            nothing_new = self._own == Circuit() and all(sign is CircuitSignal.ALIVE for sign, _ in signs)
        if not nothing_new:
            self._change(lambda circuit, now: (circuit.record_signals(signs, now, self._policy), None))

    def get_state(self) -> CircuitState:
        """Return the current state."""
        return self._change(lambda circuit, now: (circuit, circuit.get_state(now)))

    def get_shared_state(self) -> CircuitState:
        """Return the state that all workers share, without changing it. Raises RedisError."""
        now, circuit = _read_circuit(self._redis.pipeline(transaction=False))
        return circuit.get_state(now)

    def _change(self, change: Change[T]) -> T:
        if time.monotonic() >= self._redis_again_at:
            try:
                return self._change_shared(change)
            except RedisError as error:
                self._redis_again_at = time.monotonic() + _WITHOUT_REDIS_S
                log.warning("circuit_not_shared", error=type(error).__name__)
        with self._lock:
            now, before = time.monotonic(), self._own
            self._own, result = change(before, now)
        _report_change(before, self._own)
        return result

    def _change_shared(self, change: Change[T]) -> T:
        # The circuit rarely changes. One round trip without a transaction is then enough.
        now, before = _read_circuit(self._redis.pipeline(transaction=False))
        after, result = change(before, now)
        if after != before:
            now, before, after, result = self._commit(change)
        with self._lock:
            self._own = after.shift_clock(time.monotonic() - now)
        _report_change(before, after)
        return result

    def _commit(self, change: Change[T]) -> tuple[float, Circuit, Circuit, T]:
        with self._redis.pipeline() as pipe:
            for _ in range(_TRIES):
                pipe.watch(_KEY)  # type: ignore[no-untyped-call]
                now, before = _read_circuit(self._redis.pipeline(transaction=False))
                after, result = change(before, now)
                pipe.multi()
                if after == Circuit():
                    pipe.delete(_KEY)
                else:
                    pipe.set(_KEY, json.dumps(asdict(after)), ex=_KEPT_S)
                try:
                    pipe.execute()
                except WatchError:
                    continue
                return now, before, after, result
        raise WatchError("too many processes change the circuit at once")


def _read_circuit(pipe: Pipeline) -> tuple[float, Circuit]:
    """Return the time by Redis's clock, because the clocks of the workers' hosts differ, and the circuit."""
    with pipe:
        pipe.time()
        pipe.get(_KEY)
        (seconds, microseconds), found = pipe.execute()
    return float(seconds) + float(microseconds) / 1e6, _parse_circuit(found)


def _parse_circuit(found: bytes | None) -> Circuit:
    if found is None:
        return Circuit()
    try:
        return Circuit(**json.loads(found))
    except (ValueError, TypeError):
        return Circuit()  # another version's value; the circuit opens again if it must


def _report_change(before: Circuit, after: Circuit) -> None:
    if after.pauses > before.pauses:
        metrics.count(metrics.CIRCUIT_OPENED)
        log.error("circuit_opened", pauses=after.pauses)
    elif before.probe_at is not None and after.probe_at is None:
        log.warning("circuit_closed", pauses=before.pauses)
    elif after.probe_until is not None and after.probe_until != before.probe_until:
        log.warning("circuit_probed", pauses=after.pauses)
