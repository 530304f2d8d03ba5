"""The guarantees, each as a function that takes a history and returns the violations."""

from __future__ import annotations

from bisect import bisect
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from otpqueue.domain.request import MOVES, Status
from tests.faults.history import (
    CLOCK_SLACK_S,
    FINAL_STATUSES,
    AttemptRow,
    Call,
    Disruption,
    History,
    RequestRow,
    Seen,
    Sent,
    Violation,
    deliveries,
)

LATE_S = 5.0
"""The maximum delay of a sweep or an expiry without faults: they run every second or two."""

SLOW_MACHINE_S = 0.5
"""The maximum time between reading the clock and the call, on a busy machine."""

RECOVERY_S = 10.0
"""The maximum time from the expiry of a lease to the next claim."""

STATEMENT_S = 6.0
"""The statement time-out, and a little more."""

PATIENCE_S = 2.5
"""The API gives up on recording a right code when Postgres is away for about this long."""

FLOOD_LASTS_S = 30.0
"""How long after a client's flood of requests its backlog may be in the way of others."""

TURN_S = 10.0
"""How long a request may wait for its first attempt while another client has a backlog."""

SHARED_CLAIMS = 32
"""How many requests all workers can claim at once: two workers of 16 threads."""

RESET_LASTS_S = 10.0
"""How long Redis may go on to forget counts after it was struck."""


def nothing_lost(history: History) -> list[Violation]:
    """Every request that was accepted has ended with a reason, or is live within its deadlines."""
    rows = {row.id: row for row in history.requests}
    found = [
        Violation("nothing_lost", "was answered 202 and is in no table", call.request)
        for call in history.calls
        if call.kind == "ask" and call.status == 202 and call.request not in rows
    ]
    for row in history.requests:
        problem = _stuck(row, history)
        if problem:
            found.append(Violation("nothing_lost", problem, row.id, row.number))
    return found


def _stuck(row: RequestRow, history: History) -> str | None:
    late = history.ended - LATE_S
    held = row.send_state == "claimed" and (row.lease_until or 0) < late
    checking = row.check_lease_until is not None and row.check_lease_until < late
    final = row.status in FINAL_STATUSES
    problems = {
        f"ended {row.status} without a reason": final and (row.reason is None or row.finished_at is None),
        "is queued though no worker will send it": row.status == "queued" and row.send_state == "idle",
        "is queued past its deadline": row.status == "queued"
        and row.send_state == "due"
        and row.send_by < late,
        "is still held by a worker with an expired lease": held,
        "still blocks checks for a check with an expired lease": checking and not final,
        f"is {row.status} past its lifetime": not final
        and row.status != "queued"
        and (row.expires_at is None or row.expires_at + history.policy.expire_every_s < late),
    }
    return next((text for text, so in problems.items() if so), None)


def sends_bounded(history: History) -> list[Violation]:
    """One send for each accepted attempt; more only for unknown outcomes; none begun after `send_by`."""
    matched = deliveries(history)
    attempts = _attempts(history)
    found = []
    for row in history.requests:
        of_row = attempts.get(row.id, [])
        messages = matched.of(of_row)
        allowed = (1 + history.policy.unknown_resends) * row.sends
        unknown = [one for one in of_row if one.outcome in {"unknown", None}]
        again = _sent_again(of_row, history) if row.sends == 1 else None
        problems = {
            f"was sent {len(messages)} times, {allowed} at most are allowed": len(messages) > allowed,
            f"has {len(unknown)} unknown attempts, {allowed} at most are allowed": len(unknown) > allowed,
            f"was sent again after attempt {again} had been accepted": again is not None,
        }
        found += [Violation("sends_bounded", text, row.id, row.number) for text, so in problems.items() if so]
        for attempt in of_row:
            after = _after_deadline(attempt, row, matched.of([attempt]), history)
            if after:
                found.append(Violation("sends_bounded", after, row.id, row.number))
    return found


def _sent_again(attempts: list[AttemptRow], history: History) -> int | None:
    """Return the number of an accepted attempt with a successor, although it was not declared lost."""
    for one, following in pairwise(attempts):
        # After its lease has expired its outcome is unknown, until a late answer arrives.
        lost_from = one.claimed_at + history.policy.send_lease_s - CLOCK_SLACK_S
        if one.outcome == "accepted" and following.claimed_at < lost_from:
            return one.number
    return None


def _after_deadline(
    attempt: AttemptRow, row: RequestRow, messages: Sequence[Sent], history: History
) -> str | None:
    begun = attempt.started_at
    if begun is None and messages:
        # For a killed worker only the message shows the time: the call began at most its time-out before.
        begun = messages[0].at - history.policy.provider_timeout_s
    if begun is None or begun <= row.send_by + SLOW_MACHINE_S:
        return None
    # A process stopped between its last look at the clock and its call cannot know: it is excused.
    reached = max([begun, *(sent.at for sent in messages)])
    for one in history.disruptions:
        stopped = one.how == "paused" and one.role in {"send", "simulator"}
        if stopped and one.began <= reached and one.ended >= attempt.claimed_at:
            return None
    return f"attempt {attempt.number} began {begun - row.send_by:.1f} s after send_by"


def sends_recorded(history: History) -> list[Violation]:
    """Every send has its attempt, every accepted attempt its send; the newest one's code is the one kept."""
    matched = deliveries(history)
    found = [
        Violation("sends_recorded", f"was sent at {sent.at:.3f}, and no attempt says so", None, sent.number)
        for sent in matched.strays
    ]
    attempts = _attempts(history)
    for row in history.requests:
        accepted = [one for one in attempts.get(row.id, []) if one.outcome == "accepted"]
        found += [
            Violation(
                "sends_recorded", f"attempt {one.number} is accepted but was never sent", row.id, row.number
            )
            for one in accepted
            if not matched.of([one])
        ]
        if row.pin_id and (not accepted or row.pin_id != accepted[-1].pin_id):
            text = "checks a code that is not that of the newest accepted attempt"
            found.append(Violation("sends_recorded", text, row.id, row.number))
        numbers = [one.number for one in attempts.get(row.id, [])]
        if numbers != list(range(1, len(numbers) + 1)):
            found.append(Violation("sends_recorded", f"has attempts {numbers}", row.id, row.number))
    return found


def codes_judged_rightly(history: History) -> list[Violation]:
    """No wrong, used, expired, replaced or foreign code is accepted; no right one is refused."""
    pins = {sent.pin_id: sent.pin for sent in history.sent}
    attempts = _attempts(history)
    by_request: dict[str, list[Call]] = defaultdict(list)
    by_script: dict[int, list[Call]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda one: one.began):
        by_script[call.script].append(call)
        if call.request:
            by_request[call.request].append(call)
    sessions = {call.request: call.session for call in history.calls if call.kind == "ask" and call.request}
    found = []
    for row in history.requests:
        accepted = [one for one in attempts.get(row.id, []) if one.outcome == "accepted" and one.pin_id]
        newest = accepted[-1:] if row.sends == 1 else accepted
        right = {pins[one.pin_id] for one in newest if one.pin_id in pins}
        calls = by_request[row.id]
        scripts = {call.script for call in calls}
        others = [call for script in scripts for call in by_script[script]]
        problems = [
            *_wrongly_accepted(row, calls, others, right, sessions.get(row.id)),
            *_wrongly_refused(row, calls, others, right, history, sessions.get(row.id)),
        ]
        found += [Violation("codes_judged_rightly", text, row.id, row.number) for text in problems]
    return found


def _wrongly_accepted(
    row: RequestRow, calls: list[Call], others: list[Call], right: set[str], session: str | None
) -> list[str]:
    checks = [call for call in calls if call.kind == "verify"]
    accepted = [call for call in checks if call.status == 200]
    problems = []
    if len(accepted) > 1:
        problems.append(f"its code was accepted {len(accepted)} times")
    for call in accepted:
        over = [before for before in calls if before.ended < call.began and _is_over(before)]
        wrong_before = [one for one in checks if one.ended < call.began and _is_wrong_guess(one)]
        replaced = [
            one
            for one in others
            if one.kind == "ask"
            and one.status == 202
            and one.request != row.id
            and one.session == session
            and one.ended < call.began
            and _asked(calls) < one.began
        ]
        reasons = {
            "a wrong code": call.code not in right,
            "another client": call.stranger,
            "another session": session is not None and call.session != session,
            "a request that was over": bool(over),
            "a request that had been replaced": bool(replaced),
            "an expired code": row.expires_at is not None and call.began > row.expires_at + CLOCK_SLACK_S,
            "a code after five wrong ones": len(wrong_before) >= 5,
        }
        problems += [f"verify at {call.began:.3f} accepted {text}" for text, so in reasons.items() if so]
    possible = [call for call in checks if (call.status == 200 or call.ambiguous) and call.code in right]
    said = [call for call in checks if call.problem == "already_verified"]
    if (row.status == "verified" or said) and not possible:
        problems.append("is verified without a call with its code")
    return problems


def _asked(calls: list[Call]) -> float:
    return min((call.began for call in calls if call.kind == "ask"), default=0.0)


def _is_over(call: Call) -> bool:
    """Whether an answer said that the request has ended for good."""
    if call.stranger:
        return False
    if call.kind in {"poll", "cancel"}:
        return call.status == 200 and call.body.get("status") in FINAL_STATUSES
    # That a code has expired is also said shortly before the request ends; a check in flight may still win.
    return call.kind == "verify" and (call.status == 200 or call.problem in {"locked", "cancelled", "failed"})


def _is_wrong_guess(call: Call) -> bool:
    return call.status == 422 and not call.stranger


def _wrongly_refused(
    row: RequestRow,
    calls: list[Call],
    others: list[Call],
    right: set[str],
    history: History,
    session: str | None,
) -> list[str]:
    """Find refusals of a right code while nothing else was going on: before, or at the same time."""
    problems = []
    for call in calls:
        if call.kind != "verify" or call.status is None or call.status >= 500 or call.status == 200:
            continue
        if call.stranger or call.code not in right or call.session != session or row.sends > 1:
            continue
        before = [one for one in others if one.began < call.ended and one is not call]
        concurrent = [one for one in before if one.ended > call.began and one.kind != "poll"]
        # An unanswered call may have its effect at any later time.
        open_ends = [one for one in before if one.ambiguous and one.kind != "poll"]
        ended = [one for one in before if one.ended <= call.began and _may_end(one, row.id, session)]
        checks = [
            one for one in before if one.kind == "verify" and one.request == row.id and not one.stranger
        ]
        shown = [
            one
            for one in before
            if one.kind == "poll"
            and one.request == row.id
            and one.ended <= call.began
            and one.body.get("status") in {"sent", "delivered", "undelivered"}
        ]
        in_time = row.expires_at is not None and call.ended < row.expires_at
        undisturbed = not (concurrent or open_ends or ended) and len(checks) < history.policy.max_checks
        if shown and in_time and undisturbed:
            problems.append(
                f"verify at {call.began:.3f} refused the right code with {call.status} {call.problem}"
            )
    return problems


def _may_end(call: Call, request: str, session: str | None) -> bool:
    """Whether a call made before may have ended the request, or used its code."""
    if call.stranger:
        return False
    if call.request == request:
        return call.kind == "cancel" or (call.kind == "verify" and call.status == 200)
    return call.kind == "ask" and call.session == session and call.status == 202


def _closure() -> Mapping[str, frozenset[str]]:
    reach: dict[Status, set[Status]] = {status: {status, *targets} for status, targets in MOVES.items()}
    for _ in MOVES:
        for targets in reach.values():
            targets.update(*[reach[target] for target in targets])
    return {status.value: frozenset(one.value for one in targets) for status, targets in reach.items()}


_REACHABLE = _closure()


def states_move_forward(history: History) -> list[Violation]:
    """States move forward: a final one stays, with its reason, and no receipt moves one back."""
    seen: dict[str, list[Seen]] = defaultdict(list)
    for one in (*history.seen, *filter(None, map(_as_seen, history.calls))):
        seen[one.request].append(one)
    for row in history.requests:
        seen[row.id].append(
            Seen(
                request=row.id, began=history.ended, ended=history.ended, status=row.status, reason=row.reason
            )
        )
    found = []
    for request, views in seen.items():
        problem = _moved_back(views)
        if problem:
            found.append(Violation("states_move_forward", problem, request))
    return found


def _as_seen(call: Call) -> Seen | None:
    status, reason = call.body.get("status"), call.body.get("reason")
    if call.problem == "already_verified":
        status, reason = "verified", "code_correct"
    elif call.status is None or call.status >= 300 or not isinstance(status, str):
        return None
    assert call.request, call
    status = "queued" if status == "sending" else status
    return Seen(request=call.request, began=call.began, ended=call.ended, status=status, reason=reason)


def _moved_back(views: list[Seen]) -> str | None:
    """Compare each view with the newest one that had ended before it began: only those have an order."""
    ended = sorted(views, key=lambda one: one.ended)
    place, last = 0, None
    for view in sorted(views, key=lambda one: one.began):
        while place < len(ended) and ended[place].ended < view.began:
            if last is None or ended[place].began >= last.ended:
                last = ended[place]
            place += 1
        if last is None:
            continue
        if view.status not in _REACHABLE[last.status]:
            return f"was {last.status} at {last.ended:.3f} and {view.status} at {view.began:.3f}"
        if last.status in FINAL_STATUSES and view.reason != last.reason:
            return f"ended {last.status} for {last.reason}, later for {view.reason}"
    return None


def crashes_recovered(history: History) -> list[Violation]:
    """Crashes are recovered from: what a worker held is taken up within its lease and ten seconds more."""
    attempts = _attempts(history)
    found = []
    for row in history.requests:
        of_row = attempts.get(row.id, [])
        for place, attempt in enumerate(of_row):
            waited = recovery_s(attempt, of_row[place + 1] if place + 1 < len(of_row) else None, history)
            if waited is not None and waited > history.policy.send_lease_s + RECOVERY_S:
                text = f"attempt {attempt.number} of {attempt.worker} was taken up again after {waited:.1f} s"
                found.append(Violation("crashes_recovered", text, row.id, row.number))
    return found


def recovery_s(attempt: AttemptRow, successor: AttemptRow | None, history: History) -> float | None:
    """Return how long after its worker's crash an attempt was taken up again, in seconds.

    None for an attempt that was not dropped. Times in which the system could not have done it (Postgres,
    Redis, the periodic worker, beat, the provider or all senders did not work, or the circuit breaker was
    open) are taken off.
    """
    crash = next(
        (
            one.began
            for one in sorted(history.disruptions, key=lambda one: one.began)
            if one.pid == attempt.pid
            and one.role == "send"
            and one.began >= attempt.claimed_at - CLOCK_SLACK_S
        ),
        None,
    )
    if attempt.code != "lease_ran_out" and attempt.outcome is not None:
        return None
    # If the worker was not disturbed, or only later, Postgres was down when it tried to record.
    crash = min(crash or history.ended, attempt.claimed_at + history.policy.send_lease_s)
    taken_up = attempt.finished_at if attempt.finished_at is not None else history.ended
    if successor is not None:
        taken_up = max(taken_up, successor.claimed_at)
    return taken_up - crash - _unable_s(crash, taken_up, history)


def _unable_s(began: float, ended: float, history: History) -> float:
    """Return for how long between two moments the system could not take anything up."""
    # While the provider is down or answers with errors, the circuit breaker stops all claims but probes.
    needed = {"postgres", "redis", "periodic", "beat", "simulator"}
    away = [one for one in history.disruptions if one.role in needed]
    spans = [(one.began, one.ended) for one in away]
    return _covered_s([*spans, *_all_down(history), *history.open_circuit], began, ended)


def _covered_s(spans: Sequence[tuple[float, float]], began: float, ended: float) -> float:
    """Return how much of the time between two moments some span covers, in seconds."""
    total, covered = 0.0, began
    for start, stop in sorted(spans):
        since, until = max(start, covered), min(stop, ended)
        if until > since:
            total, covered = total + until - since, until
    return total


def _all_down(history: History) -> list[tuple[float, float]]:
    """Return the times in which no sender worked."""
    edges = sorted(
        edge
        for one in history.disruptions
        if one.role == "send"
        for edge in ((one.began, 1), (one.ended, -1))
    )
    spans, down, since = [], 0, 0.0
    for when, change in edges:
        before, down = down, down + change
        if before < history.policy.senders <= down:
            since = when
        elif down < history.policy.senders <= before:
            spans.append((since, when))
    return spans


def _attempts(history: History) -> dict[str, list[AttemptRow]]:
    found: dict[str, list[AttemptRow]] = defaultdict(list)
    for attempt in sorted(history.attempts, key=lambda one: one.number):
        found[attempt.request].append(attempt)
    return found


def statistics_exact(history: History) -> list[Violation]:
    """Statistics say what a recount of the rows says."""
    return [Violation("statistics_exact", text) for text in history.miscounted]


def outcomes_kept(history: History) -> list[Violation]:
    """Require that what a worker learned is recorded, in spite of outages and locks of Postgres.

    An attempt may be declared lost only if its worker was struck, if Postgres was struck during its claim and
    nothing was sent, or if a foreign session locked the row of its request. No other user gets a second code.
    """
    found = []
    matched = deliveries(history)
    rows = {row.id: row for row in history.requests}
    for request, of_row in _attempts(history).items():
        row = rows[request]
        for place, attempt in enumerate(of_row):
            following = of_row[place + 1] if place + 1 < len(of_row) else None
            resent = attempt.outcome == "accepted" and following is not None and row.sends == 1
            if not resent and attempt.code != "lease_ran_out":
                continue
            until = following.claimed_at if following else attempt.finished_at or history.ended
            if not _may_be_lost(attempt, until, history, was_sent=bool(matched.of([attempt]))):
                text = (
                    f"attempt {attempt.number} of {attempt.worker} was taken for lost, and nothing struck it"
                )
                found.append(Violation("outcomes_kept", text, row.id, row.number))
    return found


def _may_be_lost(attempt: AttemptRow, until: float, history: History, *, was_sent: bool) -> bool:
    since = attempt.claimed_at - CLOCK_SLACK_S
    for one in history.disruptions:
        if one.role == "send" and one.pid == attempt.pid and one.began <= until and one.ended >= since:
            return True
        # The claim may have been committed though its worker got no answer.
        claiming = one.role == "postgres" and one.began <= since + STATEMENT_S and one.ended >= since
        if claiming and not was_sent:
            return True
    return any(
        attempt.request in lock.requests and lock.began <= until and lock.ended >= since
        for lock in history.locks
    )


def right_codes_told(history: History) -> list[Violation]:
    """Require a 200 for each right code that was recorded, unless its caller could not be answered."""
    checks: dict[str, list[Call]] = defaultdict(list)
    for call in history.calls:
        if call.kind == "verify" and call.request:
            checks[call.request].append(call)
    found = []
    for row in history.requests:
        calls = checks[row.id]
        if row.status != "verified" or any(call.status in {200, None} for call in calls):
            continue
        if not any(_away_s("postgres", call.began, call.ended, history) >= PATIENCE_S for call in calls):
            text = "is verified, each of its checks was answered, and none with 200"
            found.append(Violation("right_codes_told", text, row.id, row.number))
    return found


def _away_s(role: str, began: float, ended: float, history: History) -> float:
    """Return for how long between two moments a node of a role did not work."""
    spans = [(one.began, one.ended) for one in history.disruptions if one.role == role]
    return _covered_s(spans, began, ended)


def clients_take_turns(history: History) -> list[Violation]:
    """Require that one client's flood delays the codes of others by a few seconds at most."""
    rows = {row.id: row for row in history.requests}
    claims = sorted((one.claimed_at, rows[one.request].flood) for one in history.attempts)
    return [
        Violation(
            "clients_take_turns",
            f"waited {waited:.1f} s for its first attempt while another client flooded",
            request,
            rows[request].number,
        )
        for request, waited in waits_beside_floods(history).items()
        if waited > TURN_S and _flood_preferred(rows[request].created_at, claims)
    ]


def _flood_preferred(since: float, claims: Sequence[tuple[float, bool]]) -> bool:
    """Return whether the client that floods got more than its share of the next claims, and a batch more.

    An open circuit breaker delays all clients equally, which is no violation.
    """
    following = [flood for claimed_at, flood in claims if claimed_at > since][: 4 * SHARED_CLAIMS]
    return 2 * sum(following) > len(following) + SHARED_CLAIMS


def waits_beside_floods(history: History) -> dict[str, float]:
    """Return for how long requests waited for their first attempt during another client's flood, in seconds.

    Requests that a foreign session locked are left out. Times in which nothing could be claimed do not count.
    """
    attempts = _attempts(history)
    locked = {request for lock in history.locks for request in lock.requests}
    floods = sorted(call.began for call in history.calls if call.flood and call.kind == "ask")
    waits = {}
    for row in history.requests:
        place = bisect(floods, row.created_at)
        flooded = place > 0 and floods[place - 1] > row.created_at - FLOOD_LASTS_S
        if row.flood or not flooded or row.id in locked:
            continue
        of_row = attempts.get(row.id)
        ended = of_row[0].claimed_at if of_row else row.finished_at or history.ended
        waits[row.id] = ended - row.created_at - _unable_s(row.created_at, ended, history)
    return waits


_DOCUMENTED: Mapping[int, frozenset[str]] = {
    503: frozenset({"database_unavailable", "limits_unavailable", "provider_unavailable", "too_busy"}),
    429: frozenset({"limit_exceeded", "resend_too_soon"}),
}


def refusals_documented(history: History) -> list[Violation]:
    """Require a documented cause and `Retry-After` for each refusal, exact limits, and no answer 500."""
    found = []
    asks: dict[str, list[Call]] = defaultdict(list)
    numbers = {row.reference: row.number for row in history.requests}
    for call in sorted(history.calls, key=lambda one: one.began):
        if call.kind == "ask" and call.reference:
            asks[call.reference.partition(".")[0]].append(call)
        if call.status is None or (call.status < 500 and call.status != 429):
            continue
        if call.problem not in _DOCUMENTED.get(call.status, ()):
            text = f"{call.kind} at {call.began:.3f} was answered {call.status} {call.problem}"
            found.append(Violation("refusals_documented", text, call.request))
        elif not call.retry_after:
            text = f"{call.kind} at {call.began:.3f} was answered {call.status} without Retry-After"
            found.append(Violation("refusals_documented", text, call.request))
    for of_number in asks.values():
        number = next((numbers[one.reference] for one in of_number if one.reference in numbers), None)
        found += [
            Violation("refusals_documented", text, None, number) for text in _miscounted(of_number, history)
        ]
    return found


def _miscounted(asks: Sequence[Call], history: History) -> list[str]:
    """Return where the limit of a number's requests, all within one window, was not what is documented."""
    quota = history.policy.number_quota
    refused = next((place for place, call in enumerate(asks) if call.problem == "limit_exceeded"), None)
    problems = []
    if refused is not None and refused < quota:
        problems.append(f"only {refused} requests were made before one was refused; {quota} are admitted")
    began, ended = asks[0].began, asks[-1].ended
    resets = sum(1 for moment in history.emptied if began - RESET_LASTS_S <= moment <= ended)
    admitted = sum(1 for call in asks if call.status == 202)
    if admitted > quota * (1 + resets):
        problems.append(f"{admitted} requests were admitted, {quota} are allowed")
    return problems


def caps_exact(history: History) -> list[Violation]:
    """Require that the daily caps count each attempt that left or may have left, and no other."""
    return [Violation("caps_exact", text) for text in history.miscapped]


def processes_end_only_when_stopped(history: History) -> list[Violation]:
    """Require that no process ends unasked, and that none outlives its main process."""
    return [Violation("processes_end_only_when_stopped", text) for text in history.misbehaved]


CHECKS: tuple[Callable[[History], list[Violation]], ...] = (
    nothing_lost,
    sends_bounded,
    sends_recorded,
    codes_judged_rightly,
    states_move_forward,
    crashes_recovered,
    statistics_exact,
    outcomes_kept,
    right_codes_told,
    clients_take_turns,
    refusals_documented,
    caps_exact,
    processes_end_only_when_stopped,
)


def violations(history: History) -> list[Violation]:
    """Return the violations of all checks."""
    return [violation for check in CHECKS for violation in check(history)]


def in_flight_when_killed(history: History) -> list[tuple[Disruption, int]]:
    """Return the kills of senders, each with the number of attempts that were in its hands."""
    return [
        (
            one,
            sum(
                1
                for attempt in history.attempts
                if attempt.pid == one.pid
                and attempt.code == "lease_ran_out"
                and attempt.claimed_at <= one.began
            ),
        )
        for one in history.disruptions
        if one.role == "send" and one.how == "killed"
    ]
