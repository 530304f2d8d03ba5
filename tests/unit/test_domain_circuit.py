"""The circuit breaker's state machine: opening, pauses, probes and closing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.circuit import (
    Circuit,
    CircuitPolicy,
    CircuitSignal,
    CircuitState,
    ClaimPermit,
    classify_outcome,
)
from otpqueue.domain.sending import LEASE_RAN_OUT, RETURNED, Outcome, OutcomeKind, RefusalCause

POLICY = CircuitPolicy(failures=3, pause_s=1, pause_max_s=8, probe_s=5)
FAILED, ALIVE = (CircuitSignal.FAILED, False), (CircuitSignal.ALIVE, False)
PROBE_FAILED, PROBE_ALIVE, PROBE_UNUSED = (
    (CircuitSignal.FAILED, True),
    (CircuitSignal.ALIVE, True),
    (CircuitSignal.NONE, True),
)


def opened(now: float = 0.0) -> Circuit:
    """Return a circuit that opened at `now`."""
    return Circuit().record_signals([FAILED] * 3, now, POLICY)


def probing(now: float = 1.0) -> Circuit:
    """Return a circuit with a first probe at `now`."""
    circuit, permit = opened(now - 1).claim(now, POLICY)
    assert permit is ClaimPermit.PROBE
    return circuit


def test_closed_circuit_lets_everything_through() -> None:
    """A new circuit permits all claims, and claiming changes nothing."""
    assert Circuit().claim(0.0, POLICY) == (Circuit(), ClaimPermit.ALL)
    assert Circuit().get_state(0.0) is CircuitState.CLOSED


def test_opens_after_failures_in_a_row() -> None:
    """Two failures do not open it, the third does; nothing is permitted during the pause."""
    almost = Circuit().record_signals([FAILED, FAILED], 0.0, POLICY)
    assert almost.claim(0.0, POLICY)[1] is ClaimPermit.ALL

    circuit = almost.record_signals([FAILED], 0.0, POLICY)

    assert circuit.get_state(0.5) is CircuitState.OPEN
    assert circuit.claim(0.5, POLICY) == (circuit, ClaimPermit.NOTHING)
    assert circuit.get_pause_left_s(0.25) == 0.75


def test_answer_resets_the_failure_count() -> None:
    """An answer between failures resets the count."""
    circuit = Circuit().record_signals([FAILED, FAILED, ALIVE, FAILED, FAILED], 0.0, POLICY)

    assert circuit.get_state(0.0) is CircuitState.CLOSED
    assert circuit.failures == 2


def test_misconfiguration_opens_at_once() -> None:
    """One rejection of every send opens the circuit."""
    circuit = Circuit().record_signals([(CircuitSignal.MISCONFIGURED, False)], 0.0, POLICY)

    assert circuit.get_state(0.0) is CircuitState.OPEN


def test_several_unclear_refusals_open_the_circuit() -> None:
    """A single unclear refusal may concern one number. As many as the failure limit open the circuit."""
    suspected = (CircuitSignal.SUSPECTED, False)
    circuit = Circuit().record_signals([suspected] * (POLICY.failures - 1), 0.0, POLICY)
    assert circuit.get_state(0.0) is CircuitState.CLOSED
    assert circuit.record_signals([ALIVE, suspected], 0.0, POLICY).get_state(0.0) is CircuitState.CLOSED

    assert circuit.record_signals([suspected], 0.0, POLICY).get_state(0.0) is CircuitState.OPEN


def refused(cause: RefusalCause) -> Outcome:
    """Return a refusal for a cause."""
    return Outcome(kind=OutcomeKind.REFUSED, code="x", http_status=403, retryable=True, cause=cause)


@pytest.mark.parametrize(
    ("cause", "first", "again"),
    [
        (RefusalCause.KEY, CircuitSignal.MISCONFIGURED, CircuitSignal.MISCONFIGURED),
        (RefusalCause.APPLICATION, CircuitSignal.MISCONFIGURED, CircuitSignal.MISCONFIGURED),
        (RefusalCause.TEMPLATE, CircuitSignal.ALIVE, CircuitSignal.ALIVE),
        (RefusalCause.NUMBER, CircuitSignal.ALIVE, CircuitSignal.ALIVE),
        (RefusalCause.UNCLEAR, CircuitSignal.SUSPECTED, CircuitSignal.NONE),
    ],
)
def test_scope_of_a_refusal(cause: RefusalCause, first: CircuitSignal, again: CircuitSignal) -> None:
    """A bad key or application concerns every send. An unclear refusal counts once per request."""
    assert classify_outcome(refused(cause)) is first
    assert classify_outcome(refused(cause), is_retry=True) is again


def test_one_probe_at_a_time() -> None:
    """After the pause one request probes. The next waits until the probe has ended or timed out."""
    circuit = probing(1.0)

    assert circuit.get_state(1.0) is CircuitState.HALF_OPEN
    assert circuit.claim(1.0, POLICY) == (circuit, ClaimPermit.NOTHING)
    assert circuit.get_pause_left_s(2.0) == 4.0
    assert circuit.claim(6.0, POLICY)[1] is ClaimPermit.PROBE


def test_probe_that_found_nothing_to_send_is_free_again() -> None:
    """A worker without a request to send releases the probe."""
    circuit = probing(1.0).record_signals([PROBE_UNUSED], 1.1, POLICY)

    assert circuit.claim(1.1, POLICY)[1] is ClaimPermit.PROBE


def test_pause_doubles_up_to_its_ceiling() -> None:
    """Each probe that fails doubles the pause: 1, 2, 4, 8, 8."""
    circuit, now, pauses = opened(0.0), 0.0, []
    for _ in range(5):
        pauses.append(circuit.get_pause_left_s(now))
        now += pauses[-1]
        circuit, permit = circuit.claim(now, POLICY)
        assert permit is ClaimPermit.PROBE
        circuit = circuit.record_signals([PROBE_FAILED], now, POLICY)

    assert pauses == [1, 2, 4, 8, 8]


def test_probe_that_is_answered_closes() -> None:
    """An answered probe closes the circuit and resets the pause."""
    assert probing().record_signals([PROBE_ALIVE], 1.5, POLICY) == Circuit()


def test_late_failures_do_not_prolong_the_pause() -> None:
    """Failures of earlier attempts do not extend the pause, but a late answer closes the circuit."""
    for circuit in (opened(), probing()):
        assert circuit.record_signals([FAILED] * 50, 1.0, POLICY) == circuit
        assert circuit.record_signals([ALIVE], 1.0, POLICY) == Circuit()


def test_another_clock() -> None:
    """A circuit shifted to another clock behaves the same."""
    for circuit in (Circuit(), opened(10.0), probing(10.0)):
        shifted = circuit.shift_clock(1000.0)
        assert shifted.get_pause_left_s(1010.5) == circuit.get_pause_left_s(10.5)
        assert shifted.get_state(1010.5) is circuit.get_state(10.5)


@pytest.mark.parametrize(
    ("outcome", "sign"),
    [
        (Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", http_status=200), CircuitSignal.ALIVE),
        (Outcome(kind=OutcomeKind.REFUSED, code="MESSAGE_NOT_SENT", http_status=200), CircuitSignal.ALIVE),
        (Outcome(kind=OutcomeKind.REFUSED, code="BAD_REQUEST", http_status=400), CircuitSignal.ALIVE),
        (
            Outcome(kind=OutcomeKind.REFUSED, code="TOO_MANY", http_status=429, retryable=True),
            CircuitSignal.ALIVE,
        ),
        (
            Outcome(kind=OutcomeKind.UNKNOWN, code="answer_not_understood", http_status=200),
            CircuitSignal.ALIVE,
        ),
        (
            Outcome(kind=OutcomeKind.REFUSED, code="http_503", http_status=503, retryable=True),
            CircuitSignal.FAILED,
        ),
        (Outcome(kind=OutcomeKind.UNKNOWN, code="http_502", http_status=502), CircuitSignal.FAILED),
        (Outcome(kind=OutcomeKind.REFUSED, code="connection_failed", retryable=True), CircuitSignal.FAILED),
        (Outcome(kind=OutcomeKind.UNKNOWN, code="timeout"), CircuitSignal.FAILED),
        (
            Outcome(kind=OutcomeKind.REFUSED, code="UNAUTHORIZED", http_status=401, cause=RefusalCause.KEY),
            CircuitSignal.MISCONFIGURED,
        ),
        (
            Outcome(kind=OutcomeKind.REFUSED, code="http_404", http_status=404, by_provider=False),
            CircuitSignal.FAILED,
        ),
        (
            Outcome(kind=OutcomeKind.UNKNOWN, code="x", http_status=200, by_provider=False),
            CircuitSignal.FAILED,
        ),
        (RETURNED, CircuitSignal.NONE),
        (LEASE_RAN_OUT, CircuitSignal.FAILED),
    ],
)
def test_what_an_outcome_says(outcome: Outcome, sign: CircuitSignal) -> None:
    """Any answer of the provider about one number shows that it is alive."""
    assert classify_outcome(outcome) is sign


@given(st.lists(st.tuples(st.sampled_from(list(CircuitSignal)), st.booleans(), st.floats(0, 20))))
def test_never_two_probes_and_never_stuck(steps: list[tuple[CircuitSignal, bool, float]]) -> None:
    """There is at most one probe at a time, and a permit comes in bounded time."""
    circuit, now, probe_over = Circuit(), 0.0, 0.0
    for sign, probe, pause in steps:
        now += pause
        circuit, permit = circuit.claim(now, POLICY)
        if permit is ClaimPermit.PROBE:
            assert now >= probe_over
            probe_over = now + POLICY.probe_s
        assert circuit.get_pause_left_s(now) <= max(POLICY.pause_max_s, POLICY.probe_s) + 1e-9  # of rounding
        circuit = circuit.record_signals([(sign, probe)], now, POLICY)
        if probe or circuit.probe_at is None:
            probe_over = now
