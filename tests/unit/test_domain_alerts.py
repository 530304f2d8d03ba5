"""Alert rules and hysteresis: bad values, transitions and configuration."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpqueue.domain.alert_notices import (
    KEPT_TRYING,
    compose_notice,
    compute_next_try,
    format_slack,
    get_rule,
)
from otpqueue.domain.alert_queries import RULE_QUERIES, NumberCounts, measure_counts, measure_numbers
from otpqueue.domain.alert_rules import LONGEST_S, OF_NUMBERS, RULES, apply_overrides
from otpqueue.domain.alert_runbook import todo
from otpqueue.domain.alerts import (
    Alert,
    AlertRule,
    AlertState,
    AlertTransition,
    AlertUnit,
    RuleVerdict,
    SubjectMeasure,
    ThresholdSide,
    TransitionProgress,
    contains_number,
    derive_tag,
    find_tag,
    format_bound,
    format_duration,
    format_number,
    format_value,
    is_bad,
    judge_measure,
    sort_worst_first,
)
from otpqueue.domain.limits import WrongShare
from otpqueue.domain.stats import HISTOGRAMS, Metric, MetricSum, MetricTally
from otpqueue.operations.alerts.evaluate import ELSEWHERE
from otpqueue.telemetry import masks
from tests.alerts.consistency import CHECKS, agree

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
RULE = AlertRule(
    name="r",
    title="t",
    bad=ThresholdSide.BELOW,
    unit=AlertUnit.SHARE,
    threshold=0.95,
    window_s=900,
    min_sample=20,
)
ALERT = Alert(
    id=UUID(int=1),
    rule="success_rate",
    subject="all",
    state=AlertState.OPEN,
    value=0.8,
    threshold=0.95,
    window_s=900,
    sample=120,
    opened_at=NOW,
    closed_at=None,
    evaluated_at=NOW,
    evidence={
        "value": 0.8,
        "sample": 120,
        "figures": {"sent": 96, "failed": 24},
        "reasons": {"provider_refused": 24},
        "requests": ["a", "b"],
    },
    acknowledged_at=None,
    acknowledged_by=None,
    silenced_until=None,
)


def measure(value: float | None, sample: int = 100, subject: str = "all") -> SubjectMeasure:
    """Return a measurement."""
    return SubjectMeasure(subject=subject, value=value, sample=sample)


def tally(**counts: int | tuple[str, int, float]) -> MetricTally:
    """Return counts by metric: a number, or a label, a number and a total."""
    sums = []
    for name, one in counts.items():
        label, n, total = one if isinstance(one, tuple) else ("", one, 0)
        metric = Metric(name.rstrip("_"))
        sums.append(MetricSum(key=(), metric=metric, label=label, n=n, total=Decimal(str(total))))
    return MetricTally(sums)


def value_of(
    rule: str, now: MetricTally, past: Sequence[MetricTally] = (), **differing: float
) -> float | None:
    """Return a rule's value for these counts."""
    changed = replace(RULES[rule], **differing)  # type: ignore[arg-type]
    (found,) = measure_counts(changed, RULE_QUERIES[rule], {"all": (now, past)})
    return found.value


def after(verdicts: Sequence[RuleVerdict], rule: AlertRule) -> list[AlertTransition | None]:
    """Return the transitions that these evaluations cause, one after the other."""
    run, brought = TransitionProgress(), []
    for verdict in verdicts:
        run, transition = run.after(verdict, rule)
        brought.append(transition)
    return brought


rules = st.builds(replace, st.just(RULE), opens_after=st.integers(1, 5), closes_after=st.integers(1, 5))
verdicts = st.lists(st.sampled_from(RuleVerdict), max_size=60)


@given(rules, verdicts)
def test_transitions_alternate(rule: AlertRule, seen: list[RuleVerdict]) -> None:
    """An alert opens before it closes, and closes before it opens again."""
    brought = [one for one in after(seen, rule) if one]

    expected = [AlertTransition.OPENED, AlertTransition.CLOSED] * len(brought)
    assert brought == expected[: len(brought)]


@given(rules, verdicts)
def test_transition_has_its_run(rule: AlertRule, seen: list[RuleVerdict]) -> None:
    """Enough consecutive bad evaluations precede each opening, and enough good ones each closing."""
    for place, transition in enumerate(after(seen, rule), 1):
        if transition is AlertTransition.OPENED:
            assert seen[place - rule.opens_after : place] == [RuleVerdict.BAD] * rule.opens_after
        if transition is AlertTransition.CLOSED:
            assert seen[place - rule.closes_after : place] == [RuleVerdict.GOOD] * rule.closes_after


@given(rules, verdicts)
def test_run_brings_its_transition(rule: AlertRule, seen: list[RuleVerdict]) -> None:
    """Enough bad evaluations open an alert, enough good ones close it. Fewer change nothing."""
    run = TransitionProgress()
    for verdict, group in groupby(seen):
        length, was_open = len(list(group)), run.is_open
        for _ in range(length):
            run, _ = run.after(verdict, rule)
        if verdict is RuleVerdict.BAD:
            assert run.is_open == (was_open or length >= rule.opens_after)
        elif verdict is RuleVerdict.GOOD:
            assert run.is_open == (was_open and length < rule.closes_after)
        else:
            assert run.is_open == was_open


@given(rules, st.integers(0, 40))
def test_value_near_the_threshold_opens_once(rule: AlertRule, times: int) -> None:
    """A value that alternates opens at most one alert, unless one evaluation suffices."""
    steady = replace(rule, opens_after=max(rule.opens_after, 2))

    assert after([RuleVerdict.BAD, RuleVerdict.GOOD] * times, steady) == [None] * 2 * times


@given(st.sampled_from(sorted(RULES)), st.floats(0, 100), st.integers(0, 10**6))
def test_too_few_conclude_nothing(name: str, value: float, sample: int) -> None:
    """No alert opens below the minimum sample. An open alert is evaluated with any sample."""
    rule = RULES[name]
    closed, opened = (
        judge_measure(rule, measure(value, sample), is_open=is_open) for is_open in (False, True)
    )

    assert (closed is RuleVerdict.TOO_FEW) == (sample < rule.min_sample)
    assert opened is (RuleVerdict.BAD if is_bad(rule, value) else RuleVerdict.GOOD)


def test_nothing_to_judge_by() -> None:
    """An idle system opens no alert and closes an open one."""
    assert judge_measure(RULE, measure(None, 0), is_open=False) is RuleVerdict.TOO_FEW
    assert judge_measure(RULE, measure(None, 0), is_open=True) is RuleVerdict.GOOD


@pytest.mark.parametrize(
    ("bad", "threshold", "broken", "whole"),
    [
        (ThresholdSide.BELOW, 0.95, [0, 0.9499], [0.95, 1]),
        (ThresholdSide.ABOVE, 10, [10.1, 11], [0, 10]),
        (ThresholdSide.FROM, 1, [1, 2], [0]),
        (ThresholdSide.AWAY, 3, [0, 0.3, 3.1], [0.34, 1, 3]),
    ],
)
def test_sides(bad: ThresholdSide, threshold: float, broken: list[float], whole: list[float]) -> None:
    """The threshold itself is good, except for rules with `from`."""
    rule = replace(RULE, bad=bad, threshold=threshold)

    assert all(is_bad(rule, value) for value in broken)
    assert not any(is_bad(rule, value) for value in whole)


def test_worst_first() -> None:
    """If the number of alerts is limited, the worst values get them."""
    ones = [measure(0.9, subject="b"), measure(0.1, subject="a"), measure(None, subject="c")]

    assert [one.subject for one in sort_worst_first(RULE, ones)] == ["a", "b", "c"]
    above = replace(RULE, bad=ThresholdSide.ABOVE)
    assert [one.subject for one in sort_worst_first(above, ones)] == ["b", "a", "c"]


def test_every_rule_is_evaluated() -> None:
    """Each rule has a roll-up query or is one of those with a query of their own."""
    own = {
        "number_requests",
        "number_wrong_codes",
        "queue_age",
        "circuit_open",
        "webhook_disabled",
        "seal_key_worn",
    } | ELSEWHERE

    assert set(RULE_QUERIES) | own == set(RULES)
    assert not set(RULE_QUERIES) & own
    assert all(RULES[name].window_s == 0 for name in ("queue_age", "circuit_open", "workers_silent"))


def test_shares_of_roll_ups() -> None:
    """Rules compute their values from counts, and none from no counts."""
    for name in RULE_QUERIES:
        assert value_of(name, tally()) is None or name == "request_spike"
    assert (
        value_of("success_rate", tally(sent=90, failed=("x", 5, 0), expired=("send_deadline", 5, 0))) == 0.9
    )
    assert value_of("success_rate", tally(sent=90, expired=("unchecked", 50, 0))) == 1
    assert value_of("check_failures", tally(checks=("wrong", 3, 0), checks_=("correct", 1, 0))) == 0.75
    assert value_of("check_failures", tally(checks=("expired", 3, 0), checks_=("unknown", 1, 0))) is None
    assert value_of("provider_5xx", tally(provider_sends=("200", 9, 0), provider_checks=("502", 2, 0))) == 2
    assert value_of("provider_5xx", tally(provider_sends=("none", 9, 0))) == 0
    assert value_of("provider_misconfigured", tally(provider_sends=("403", 1, 0))) == 1
    assert value_of("provider_misconfigured", tally(provider_checks=("404", 9, 0))) is None
    assert value_of("delivery_rate", tally(delivered=49, undelivered=1)) == 0.98
    assert value_of("delivery_time", tally(sent_to_delivered=("45000", 2, 62_000))) == 31
    assert value_of("expired_share", tally(expired=("unchecked", 3, 0), verified=1)) == 0.75
    assert value_of("country_conversion", tally(sent=10, verified=2)) == 0.2


def test_baselines() -> None:
    """A value is a multiple of its baseline. Without a baseline there is no value."""
    days = [tally(requested=count) for count in (10, 50, 60)]
    assert value_of("request_spike", tally(requested=100, refused=("limit", 50, 0)), days) == 3
    assert value_of("request_spike", tally(requested=500), days[:2]) is None
    # Nights without a single request are a habit, too, but none to measure by.
    assert value_of("request_spike", tally(requested=50), [tally()] * 3) == pytest.approx(1.5)
    slow, usual = (
        tally(sent_to_verified=("60000", 30, 1_200_000)),
        tally(sent_to_verified=("10000", 90, 900_000)),
    )
    assert value_of("verify_time", slow, [usual]) == 4
    assert value_of("verify_time", slow, [tally(sent_to_verified=("10000", 89, 900_000))]) is None
    assert value_of("verify_time", slow) is None
    dear, cheap = tally(cost=("EUR", 50, 1.0), verified=10), tally(cost=("EUR", 150, 3.0), verified=100)
    assert value_of("cost_per_verified", dear, [cheap]) == pytest.approx(10 / 3)
    assert value_of("cost_per_verified", tally(cost=("EUR", 50, 1.0)), [cheap]) == pytest.approx(100 / 3)


def test_what_can_be_set() -> None:
    """Overrides replace the defaults of a rule. The others remain."""
    rules = apply_overrides(
        {
            "success_rate": {"threshold": 0.9, "window_s": 1800, "min_sample": 0},
            "request_spike": {"off": True},
        }
    )

    assert rules["success_rate"] == replace(RULES["success_rate"], threshold=0.9, window_s=1800, min_sample=0)
    assert rules["request_spike"].off
    assert list(rules) == list(RULES)
    assert rules["check_failures"] is RULES["check_failures"]


def test_ceiling_of_a_client_is_set_elsewhere() -> None:
    """The rule about a client's share uses the admission ceiling unless it is overridden."""
    ceiling = WrongShare(ceiling=0.2, window_s=90, min_checks=7)

    rule = apply_overrides({}, wrong_share=ceiling)["client_wrong_codes"]

    assert (rule.threshold, rule.window_s, rule.min_sample) == (0.2, 120, 7)
    own = apply_overrides({"client_wrong_codes": {"threshold": 0.3}}, wrong_share=ceiling)[
        "client_wrong_codes"
    ]
    assert (own.threshold, own.min_sample) == (0.3, 7)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"sucess_rate": {}}, "'sucess_rate' is not a rule; the rules are .*success_rate"),
        ({"success_rate": {"threshold": 95}}, "threshold must be a share, 0 to 1"),
        ({"success_rate": {"window_s": 30}}, f"window_s must be 60 to {LONGEST_S}"),
        ({"success_rate": {"window_s": 90}}, "window_s must be whole minutes"),
        ({"success_rate": {"window_s": 7 * 3600 + 60}}, "window_s must be whole hours"),
        ({"success_rate": {"window_s": 0}}, "window_s must be 60"),
        ({"queue_age": {"window_s": 60}}, "queue_age evaluates the current moment and has no window_s"),
        ({"verify_time": {"threshold": 1}}, "threshold must be over 1"),
        ({"request_spike": {"threshold": 0}}, "threshold must be over 0"),
    ],
)
def test_what_cannot_be_set(given: dict[str, dict[str, float]], problem: str) -> None:
    """An invalid override is reported with the rule's name and the valid values."""
    with pytest.raises(ValueError, match=problem):
        apply_overrides(given)


def test_number_is_named_by_its_tag() -> None:
    """A number is displayed masked, with a stable tag that reveals nothing and that logs do not mask."""
    tag = derive_tag(b"h" * 32)

    assert tag == derive_tag(b"h" * 32) != derive_tag(b"i" * 32)
    assert re.fullmatch("#[bcdfghjkmnpqrstvwxz]{6}", tag)
    assert format_number(tag, None) == tag
    named = format_number(tag, "+44********23")
    assert named == f"+44********23 {tag}"
    assert masks.mask_text(named) == named
    assert find_tag(named) == find_tag(tag) == tag
    for other in ("all", "GB", "+44********23", "#backlog", f"{tag}s", f"x {tag}", "shop", ""):
        assert find_tag(other) is None


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("+44********23", True),
        ("tests by #bcdfgh go on", True),
        ("the number that ends ***23", True),
        ("#backlog", False),
        ("issue #123456", False),
        ("5 ** 23 %", False),
        ("Infobip maintenance", False),
    ],
)
def test_text_that_names_a_number_is_noticed(text: str, names: bool) -> None:
    """Operator texts may not contain a masked number or a tag, which an erasure would not find."""
    assert contains_number(text) is names


def test_number_is_known_by_its_tag_alone() -> None:
    """A measurement of a number contains none of its digits."""
    counted = NumberCounts(number_hash=b"h" * 32, figures={"wrong": 6}, count=6)

    (measure,) = measure_numbers([counted])

    assert (measure.subject, measure.number_hash) == (derive_tag(b"h" * 32), b"h" * 32)
    assert {name for name in RULES if name.startswith("number_")} == OF_NUMBERS


def test_measure_does_not_print_its_hash() -> None:
    """A measurement can be logged."""
    tag = derive_tag(b"h" * 32)

    assert "hhhh" not in repr(SubjectMeasure(subject=tag, value=1, sample=1, number_hash=b"h" * 32))


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.9449, AlertUnit.SHARE, "94.5 %"),
        (11, AlertUnit.COUNT, "11"),
        (31.24, AlertUnit.SECONDS, "31.2 s"),
        (600, AlertUnit.SECONDS, "10.0 min"),
        (3.52, AlertUnit.TIMES, "3.52 x usual"),
    ],
)
def test_values_are_readable(value: float, unit: AlertUnit, shown: str) -> None:
    """People read a value in its unit."""
    assert format_value(value, unit) == shown


def test_durations_are_readable() -> None:
    """So they do stretches of time, and thresholds."""
    assert [format_duration(s) for s in (5, 60, 900, 5400, 86_400, 129_600)] == [
        "5 s",
        "1 min",
        "15 min",
        "1.5 h",
        "1 d",
        "1.5 d",
    ]
    assert format_bound(RULES["success_rate"], 0.95) == "under 95.0 %"
    assert format_bound(RULES["verify_time"], 3) == "off by more than 3 x usual"


def test_notice_of_an_opening() -> None:
    """An opening notification has the value, sample, causes and a link."""
    said = compose_notice(
        ALERT, AlertTransition.OPENED, notice_id=UUID(int=2), public_url="https://otp.example"
    )

    assert said.text.splitlines() == [
        "[CRITICAL] otpqueue: codes are not being sent (success_rate)",
        "",
        f"What to do: {todo('success_rate').replace('`', '')}",
        "80.0 % over 15 min, sample 120; bad under 95.0 %.",
        "figures: sent 96, failed 24",
        "reasons: provider_refused 24",
        "requests: a, b",
        f"opened 2026-03-01 12:00:00 UTC; alert {ALERT.id}",
        "Runbook: https://otp.example/console/runbooks/success_rate",
        f"https://otp.example/console/alerts/{ALERT.id}",
    ]


def test_notice_of_an_end() -> None:
    """A closing notification gives the duration, and handles erased numbers and unknown rules."""
    over = replace(
        ALERT,
        state=AlertState.CLOSED,
        closed_at=NOW + timedelta(minutes=90),
        subject=None,
        rule="r2",
        evidence={},
    )

    said = compose_notice(over, AlertTransition.CLOSED, notice_id=UUID(int=2), public_url=None)

    assert said.title == "[RESOLVED] otpqueue: r2 (r2: (an erased number))"
    assert "closed 2026-03-01 13:30:00 UTC after 1.5 h" in said.text
    assert said.link is None
    assert get_rule(over).title == "r2"


def test_notice_of_an_opening_shows_what_it_opened_for() -> None:
    """A later evaluation does not change the figures of the opening notification."""
    later = replace(ALERT, value=0.613, sample=31, evaluated_at=NOW + timedelta(minutes=5))
    of_old_version = replace(later, evidence={"figures": {"sent": 96}, "reasons": {"provider_refused": 24}})

    said, old = (
        compose_notice(alert, AlertTransition.OPENED, notice_id=UUID(int=2), public_url=None).text
        for alert in (later, of_old_version)
    )

    assert "80.0 % over 15 min, sample 120" in said
    assert "61.3 %" not in said
    assert "61.3 % over 15 min, sample 31" in old
    assert "figures" not in old


@pytest.mark.parametrize("had_data", [True, False])
def test_notice_of_an_end_without_data(had_data: bool) -> None:
    """The notification does not present an old value as the last one."""
    over = replace(ALERT, state=AlertState.CLOSED, closed_at=NOW)

    said = compose_notice(
        over, AlertTransition.CLOSED, notice_id=UUID(int=2), public_url=None, had_data=had_data
    )

    assert said.lines[0] == (
        "Last value 80.0 % over 15 min, sample 120; bad under 95.0 %."
        if had_data
        else "No data in the last evaluation; before that 80.0 % over 15 min, sample 120; bad under 95.0 %."
    )


_LABELS = {
    Metric.EXPIRED: ("send_deadline", "unchecked", "checked", "sending_stopped"),
    Metric.CHECKS: ("correct", "wrong", "expired", "unknown"),
    Metric.PROVIDER_SENDS: ("200", "401", "403", "404", "500", "503", "none"),
    Metric.PROVIDER_CHECKS: ("200", "400", "404", "502", "none"),
    Metric.FAILED: ("a", "b", "c", "d", "e", "f", "g"),
    Metric.REFUSED: ("a", "b", "c", "d", "e", "f", "g"),
    Metric.COST: ("EUR",),
    **dict.fromkeys(HISTOGRAMS, ("1000", "30000", "inf")),
}


@st.composite
def tallies(draw: st.DrawFn) -> MetricTally:
    """Draw the counts of a window."""
    sums = []
    for metric in Metric:
        for label in _LABELS.get(metric, ("",)):
            n = draw(st.integers(0, 400))
            total = Decimal(n * draw(st.integers(0, 90_000))) if metric in {*HISTOGRAMS, Metric.COST} else 0
            sums.append(MetricSum(key=(), metric=metric, label=label, n=n, total=Decimal(total)))
    return MetricTally(sums)


@given(now=tallies(), past=st.lists(tallies(), min_size=1, max_size=6))
def test_numbers_of_a_measure_agree(now: MetricTally, past: list[MetricTally]) -> None:
    """For all counts, a rule's value, sample, figures and reasons are consistent."""
    for name, watch in RULE_QUERIES.items():
        (measure,) = measure_counts(RULES[name], watch, {"all": (now, past)})
        if measure.value is not None:
            assert agree(name, measure.value, measure.sample, measure.figures, measure.reasons), (
                name,
                measure,
            )


def test_agreement_is_checked_for_every_rule() -> None:
    """No rule is left out, and numbers of different moments are noticed."""
    assert set(CHECKS) == set(RULES)
    assert not agree("check_failures", 0.613, 31, {"wrong": 16, "right": 12}, {})
    assert not agree("success_rate", 0.9, 100, {"sent": 90, "failed": 8, "too_late": 2}, {"a": 19})


def test_slack_reads_no_names() -> None:
    """A client's name is plain text in Slack: no link and no mention."""
    named = replace(ALERT, rule="webhook_disabled", subject="<!channel> & <https://evil.example|us>")

    body = format_slack(
        compose_notice(named, AlertTransition.OPENED, notice_id=UUID(int=2), public_url="https://otp.example")
    )

    assert "&lt;!channel&gt; &amp; &lt;https://evil.example|us&gt;" in body["text"]
    assert "<!" not in body["text"]
    assert body["blocks"][0]["text"]["type"] == "plain_text"
    assert body["text"].endswith("|Open it>")


def test_slack_takes_no_more() -> None:
    """Long evidence is cut to Slack's limits."""
    long = replace(ALERT, subject="s" * 500, evidence={"figures": {f"figure_{i}": i for i in range(1000)}})

    header, section = format_slack(
        compose_notice(long, AlertTransition.OPENED, notice_id=UUID(int=2), public_url="https://x.example")
    )["blocks"]

    assert len(header["text"]["text"]) <= 150
    assert len(section["text"]["text"]) <= 3000


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_between_tries(tries: int, jitter: float) -> None:
    """The pause doubles from 5 to 10 s up to 7.5 to 15 min, and for three days there is a next try."""
    again = compute_next_try(created_at=NOW, tries=tries, now=NOW, jitter=jitter)

    assert again
    longest = min(900, 10 * 2 ** (min(tries, 30) - 1))
    assert longest / 2 <= (again - NOW).total_seconds() <= longest
    late = NOW + KEPT_TRYING
    assert compute_next_try(created_at=NOW, tries=tries, now=late - timedelta(seconds=1), jitter=jitter)
    assert compute_next_try(created_at=NOW, tries=tries, now=late, jitter=jitter) is None
    assert timedelta(days=1) <= KEPT_TRYING
