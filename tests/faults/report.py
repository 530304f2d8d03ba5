"""A history in words: the table of a run, and everything about a request that broke a promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tests.faults import checks
from tests.faults.history import AttemptRow, Call, History, Violation, deliveries


def table(history: History) -> str:
    """Return what happened in a run, in figures."""
    width = 34
    return "\n".join(f"{name:<{width}} {value}" for name, value in _figures(history))


def _figures(history: History) -> Iterator[tuple[str, object]]:
    outcomes = Counter(attempt.outcome or "open" for attempt in history.attempts)
    lost = sum(1 for attempt in history.attempts if attempt.code == "lease_ran_out")
    calls = [call for call in history.calls if call.status is None]
    yield "requests accepted", sum(1 for call in history.calls if call.kind == "ask" and call.status == 202)
    yield "requests in the table", len(history.requests)
    for status, count in sorted(Counter(row.status for row in history.requests).items()):
        yield f"  {status}", count
    yield "calls", f"{len(history.calls)}, {len(calls)} of them never answered"
    yield "answers 500", sum(1 for call in history.calls if call.status == 500)
    yield "answers 429 and 503", sum(1 for call in history.calls if call.status in {429, 503})
    refused = Counter(f"{call.status} {call.problem}" for call in history.calls if call.status in {429, 503})
    for answer, count in sorted(refused.items()):
        yield f"  {answer}", count
    yield "messages sent by the provider", len(history.sent)
    yield "requests sent more than once", len(doubles(history))
    yield "attempts", ", ".join(f"{count} {name}" for name, count in sorted(outcomes.items()))
    yield "  of them unknown by their lease", lost
    killed = checks.in_flight_when_killed(history)
    yield "kills of senders", f"{len(killed)}, {sum(1 for _, held in killed if held)} with sends in flight"
    yield "slowest recovery", f"{slowest_recovery_s(history):.1f} s after the crash"
    yield "locked by a foreign session", f"{sum(len(lock.requests) for lock in history.locks)} requests"
    if waits := checks.waits_beside_floods(history):
        yield "longest wait beside a flood", f"{max(waits.values()):.1f} s for the first attempt"
    yield "faults", sum(history.faults.values())
    for name, count in sorted(history.faults.items()):
        if count:
            yield f"  {name}", count


def doubles(history: History) -> list[str]:
    """Return the requests that were sent more than once without a resend."""
    matched = deliveries(history)
    counts: Counter[str] = Counter()
    for (request, _), messages in matched.by_attempt.items():
        counts[request] += len(messages)
    return [row.id for row in history.requests if counts[row.id] > row.sends]


def slowest_recovery_s(history: History) -> float:
    """Return the longest time from a crash until what it dropped was taken up again, outages taken off."""
    slowest = 0.0
    attempts = sorted(history.attempts, key=lambda one: (one.request, one.number))
    for place, attempt in enumerate(attempts):
        following = attempts[place + 1] if place + 1 < len(attempts) else None
        if following and following.request != attempt.request:
            following = None
        slowest = max(slowest, checks.recovery_s(attempt, following, history) or 0.0)
    return slowest


def complaint(history: History, violations: Sequence[Violation], *, seed: int, at_most: int = 5) -> str:
    """Return the violations, and the whole history of the requests that the first of them are about."""
    counts = Counter(violation.check for violation in violations)
    lines = [f"{len(violations)} violations with seed {seed}: {dict(counts)}"]
    for violation in violations[:at_most]:
        lines += ["", f"{violation.check}: {violation.request or violation.number} {violation.text}"]
        lines += [f"  {line}" for line in _life(history, violation)]
    return "\n".join(lines)


def _life(history: History, violation: Violation) -> list[str]:
    """Return everything known about the number that a violation is about, in order of time."""
    number = violation.number or next(
        (row.number for row in history.requests if row.id == violation.request), None
    )
    requests = {row.id for row in history.requests if row.number == number} | {violation.request}
    scripts = {call.script for call in history.calls if call.request in requests}
    events = [
        *((call.began, _call(call)) for call in history.calls if call.script in scripts),
        *(
            (one.at, f"the provider sent {one.pin} as {one.pin_id[:6]}")
            for one in history.sent
            if one.number == number
        ),
        *((one.claimed_at, _attempt(one)) for one in history.attempts if one.request in requests),
        *(
            (one.began, f"{_short(one.request)} seen {one.status} {one.reason or ''}")
            for one in history.seen
            if one.request in requests
        ),
    ]
    events += [
        (lock.began, f"-- {_short(request)} locked by a foreign session for {lock.ended - lock.began:.1f} s")
        for lock in history.locks
        for request in requests.intersection(lock.requests)
    ]
    if events:
        first, last = min(events)[0], max(events)[0]
        events += [
            (
                one.began,
                f"-- {one.node} ({one.pid}) {one.how}, worked again after {one.ended - one.began:.1f} s",
            )
            for one in history.disruptions
            if one.ended > first - 2 and one.began < last + 2
        ]
    lines = [f"{when:.3f} {text}" for when, text in sorted(events)]
    return lines + [f"at {history.ended:.3f}: {row}" for row in history.requests if row.id in requests]


def _call(call: Call) -> str:
    outcome = call.problem or call.body.get("status")
    text = f"{call.kind} of {_short(call.request)} in session {call.session} -> {call.status} {outcome}"
    text += f" after {call.ended - call.began:.2f} s"
    return text + (f", code {call.code}" if call.code else "") + (", by a stranger" if call.stranger else "")


def _attempt(one: AttemptRow) -> str:
    started, finished = _after(one.started_at, one.claimed_at), _after(one.finished_at, one.claimed_at)
    text = f"attempt {one.number} of {_short(one.request)} by {one.worker}, {one.kind}"
    return (
        f"{text}: started {started}, finished {finished}, {one.outcome} {one.code} {(one.pin_id or '')[:6]}"
    )


def _short(request: str | None) -> str:
    return (request or "?")[-8:]


def _after(moment: float | None, base: float) -> str:
    return "never" if moment is None else f"+{moment - base:.2f} s"
