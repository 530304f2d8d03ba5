"""The next state of a request after each outcome of an attempt."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.request import Reason, Status
from otpqueue.domain.sending import (
    LEASE_RAN_OUT,
    RETURNED,
    Outcome,
    OutcomeKind,
    RefusalCause,
    SendDecision,
    SendingPolicy,
    SendProgress,
    decide_next,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
POLICY = SendingPolicy(max_attempts=6, unknown_resends=1, backoff_base_s=0.5, backoff_max_s=15)
FAR = SendProgress(tries=1, unknowns=0, send_by=NOW + timedelta(days=30))

ACCEPTED = Outcome(kind=OutcomeKind.ACCEPTED, code="MESSAGE_SENT", pin_id="p", http_status=200)
PERMANENT = Outcome(kind=OutcomeKind.REFUSED, code="BAD_REQUEST", http_status=400)
RETRYABLE = Outcome(kind=OutcomeKind.REFUSED, code="SERVICE_UNAVAILABLE", http_status=503, retryable=True)
MISCONFIGURED = Outcome(
    kind=OutcomeKind.REFUSED, code="UNAUTHORIZED", http_status=401, retryable=True, cause=RefusalCause.KEY
)
BAD_NUMBER = Outcome(
    kind=OutcomeKind.REFUSED,
    code="number_not_found",
    http_status=404,
    retryable=True,
    cause=RefusalCause.NUMBER,
)
UNKNOWN = Outcome(kind=OutcomeKind.UNKNOWN, code="timeout")

SENT = SendDecision(status=Status.SENT)
FAILED_UNKNOWN = SendDecision(status=Status.FAILED, reason=Reason.OUTCOME_UNKNOWN)
FAILED_REFUSED = SendDecision(status=Status.FAILED, reason=Reason.PROVIDER_REFUSED)
EXHAUSTED = SendDecision(status=Status.FAILED, reason=Reason.ATTEMPTS_EXHAUSTED)
TOO_LATE = SendDecision(status=Status.EXPIRED, reason=Reason.SEND_DEADLINE)


def again(after_s: float) -> SendDecision:
    """Return the decision to send again in `after_s` seconds."""
    return SendDecision(status=Status.QUEUED, next_attempt_at=NOW + timedelta(seconds=after_s))


def progress(tries: int = 1, unknowns: int = 0, send_within_s: float = 3600) -> SendProgress:
    """Return how far sending has come."""
    return SendProgress(tries=tries, unknowns=unknowns, send_by=NOW + timedelta(seconds=send_within_s))


@pytest.mark.parametrize(
    ("outcome", "so_far", "expected"),
    [
        pytest.param(ACCEPTED, progress(), SENT, id="accepted"),
        pytest.param(ACCEPTED, progress(tries=99, unknowns=9, send_within_s=-5), SENT, id="accepted late"),
        pytest.param(RETURNED, progress(), again(0), id="given back"),
        pytest.param(RETURNED, progress(tries=6, unknowns=1), again(0), id="given back at the last try"),
        pytest.param(RETURNED, progress(send_within_s=0), TOO_LATE, id="given back too late"),
        pytest.param(PERMANENT, progress(), FAILED_REFUSED, id="refused for good"),
        pytest.param(PERMANENT, progress(send_within_s=-1), FAILED_REFUSED, id="refused for good, late"),
        pytest.param(RETRYABLE, progress(tries=1), again(0.25), id="first back-off"),
        pytest.param(RETRYABLE, progress(tries=2), again(0.5), id="doubles"),
        pytest.param(RETRYABLE, progress(tries=3), again(1), id="doubles again"),
        pytest.param(RETRYABLE, progress(tries=5), again(4), id="last back-off"),
        pytest.param(RETRYABLE, progress(tries=6), EXHAUSTED, id="attempts exhausted"),
        pytest.param(RETRYABLE, progress(tries=7), EXHAUSTED, id="attempts more than exhausted"),
        pytest.param(RETRYABLE, progress(tries=3, send_within_s=1), TOO_LATE, id="again only at send_by"),
        pytest.param(RETRYABLE, progress(tries=3, send_within_s=1.1), again(1), id="again before send_by"),
        pytest.param(UNKNOWN, progress(), again(0.25), id="unknown once"),
        pytest.param(UNKNOWN, progress(tries=2, unknowns=1), FAILED_UNKNOWN, id="unknown twice"),
        pytest.param(UNKNOWN, progress(tries=6), EXHAUSTED, id="unknown at the last try"),
        pytest.param(UNKNOWN, progress(send_within_s=0.1), TOO_LATE, id="unknown, too late to send again"),
        pytest.param(LEASE_RAN_OUT, progress(), again(0.25), id="lease ran out"),
        pytest.param(LEASE_RAN_OUT, progress(unknowns=1), FAILED_UNKNOWN, id="lease ran out twice"),
        pytest.param(MISCONFIGURED, progress(), again(11.25), id="misconfigured"),
        pytest.param(MISCONFIGURED, progress(tries=500), again(11.25), id="misconfigured, never exhausted"),
        pytest.param(MISCONFIGURED, progress(send_within_s=5), TOO_LATE, id="misconfigured until send_by"),
        pytest.param(BAD_NUMBER, progress(tries=6), EXHAUSTED, id="a number's own refusal is exhausted"),
        pytest.param(
            replace(RETRYABLE, retry_after_s=42), progress(tries=5), again(42), id="Retry-After wins"
        ),
        pytest.param(replace(RETRYABLE, retry_after_s=0), progress(), again(0), id="Retry-After of nothing"),
        pytest.param(
            replace(RETRYABLE, retry_after_s=42), progress(tries=6), EXHAUSTED, id="Retry-After, exhausted"
        ),
        pytest.param(
            replace(RETRYABLE, retry_after_s=90),
            progress(send_within_s=90),
            TOO_LATE,
            id="Retry-After past send_by",
        ),
    ],
)
def test_what_follows_from_an_outcome(outcome: Outcome, so_far: SendProgress, expected: SendDecision) -> None:
    """Each outcome has one consequence, given how far sending has come (half the jitter, for exact times)."""
    assert decide_next(outcome, so_far, policy=POLICY, now=NOW, jitter=0.5) == expected


@pytest.mark.parametrize("resends", [0, 1, 5])
def test_unknown_outcome_is_sent_again_as_often_as_the_policy_says(resends: int) -> None:
    """0 allows no resend after an unknown outcome, n allows n."""
    policy = replace(POLICY, unknown_resends=resends, max_attempts=20)

    decisions = [
        decide_next(UNKNOWN, progress(tries=done + 1, unknowns=done), policy=policy, now=NOW, jitter=0.5)
        for done in range(resends + 1)
    ]

    assert [decision.status for decision in decisions] == [Status.QUEUED] * resends + [Status.FAILED]
    assert decisions[-1] == FAILED_UNKNOWN


tries = st.integers(1, 5)
jitters = st.floats(0, 1, exclude_max=True)


@given(
    tries,
    jitters,
    st.floats(0.001, 60, allow_subnormal=False),
    st.floats(0.001, 600, allow_subnormal=False),
    st.sampled_from([RETRYABLE, UNKNOWN]),
)
def test_back_off_is_a_share_of_a_ceiling_that_doubles(
    tries: int, jitter: float, base_s: float, max_s: float, outcome: Outcome
) -> None:
    """The wait is never below zero, never over the doubled base, never over the ceiling of all back-offs."""
    policy = replace(POLICY, backoff_base_s=base_s, backoff_max_s=max_s)

    decision = decide_next(outcome, replace(FAR, tries=tries), policy=policy, now=NOW, jitter=jitter)

    assert decision.next_attempt_at is not None
    wait_s = (decision.next_attempt_at - NOW).total_seconds()
    assert 0 <= wait_s <= min(max_s, base_s * 2 ** (tries - 1)) + 1e-6


@given(st.integers(1, 10_000), jitters)
def test_misconfiguration_is_tried_again_between_half_and_the_whole_ceiling(
    tries: int, jitter: float
) -> None:
    """While an operator fixes the configuration, requests wait without using attempts."""
    decision = decide_next(MISCONFIGURED, replace(FAR, tries=tries), policy=POLICY, now=NOW, jitter=jitter)

    assert decision.status is Status.QUEUED
    assert decision.next_attempt_at is not None
    assert 7.5 <= (decision.next_attempt_at - NOW).total_seconds() <= 15


outcomes = st.builds(
    Outcome,
    kind=st.sampled_from(OutcomeKind),
    code=st.just("x"),
    retryable=st.booleans(),
    cause=st.sampled_from([None, *RefusalCause]),
    retry_after_s=st.none() | st.floats(0, 86_400),
)


@given(outcomes, st.integers(1, 30_000), st.integers(0, 10), st.floats(-600, 600), jitters)
def test_every_outcome_ends_or_is_tried_before_the_deadline(
    outcome: Outcome, tries: int, unknowns: int, send_within_s: float, jitter: float
) -> None:
    """Whatever happened, the request is sent, tried again before `send_by`, or ended with a reason."""
    so_far = progress(tries, unknowns, send_within_s)

    decision = decide_next(outcome, so_far, policy=POLICY, now=NOW, jitter=jitter)

    if decision.status is Status.QUEUED:
        assert decision.next_attempt_at is not None
        assert NOW <= decision.next_attempt_at < so_far.send_by
        assert decision.reason is None
    else:
        assert decision.next_attempt_at is None
        assert decision.status in {Status.SENT, Status.FAILED, Status.EXPIRED}
        assert (decision.reason is None) == (decision.status is Status.SENT)
        assert (decision.status is Status.SENT) == (outcome.kind is OutcomeKind.ACCEPTED)
