"""The data that alert rules evaluate: roll-ups, bounded reads of the queue, and examples for an alert."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Select, Subquery, and_, exists, func, or_, select

from otpqueue.domain import phone
from otpqueue.domain.alert_queries import Baseline, ExampleQuery, RuleQuery
from otpqueue.domain.alert_rules import BASELINE_DAYS
from otpqueue.domain.alerts import ALL, AlertRule
from otpqueue.domain.checking import CheckVerdict
from otpqueue.domain.provider_calls import PROVIDER_CALLS, CallFailure, count_failures
from otpqueue.domain.receipts import DeliveryState
from otpqueue.domain.request import SendState, Status
from otpqueue.domain.sending import NUMBER_NOT_FOUND
from otpqueue.domain.stats import Dimension, MetricPoint, MetricSum, MetricTally
from otpqueue.store.schema import (
    checks,
    clients,
    otp_requests,
    send_attempts,
    stat_events,
    stats_hours,
    webhook_endpoints,
)
from otpqueue.store.stats import reports

_MOST_SCANNED = 2_000
"""Requests that are read for examples."""

MOST_EXAMPLES = 5
_MOST_POINTS = 60
_MOST_DUE = 10_000
_DAYS = range(1, BASELINE_DAYS)
_MINUTE, _HOUR, _DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
_FAILED_CALLS_OF = timedelta(minutes=5)

_r = otp_requests.c

Windows = Mapping[str, tuple[MetricTally, Sequence[MetricTally]]]


@dataclass(frozen=True, kw_only=True)
class QueueFacts:
    """The requests that wait to be sent."""

    due: int
    """At most `_MOST_DUE` plus one."""
    oldest: datetime | None
    """When the oldest one fell due."""


@dataclass(frozen=True, kw_only=True)
class DisabledEndpoint:
    """A client's webhook endpoint that was disabled."""

    client: str
    disabled_at: datetime
    reason: str


@dataclass(frozen=True, kw_only=True)
class WaitingEvent:
    """An event that is not added to the statistics yet."""

    id: int
    at: datetime
    """The minute it belongs to."""


def find_window_start(rule: AlertRule, now: datetime) -> datetime:
    """Return where a rule's window begins, aligned to a step of the roll-ups."""
    return reports.find_window_start(now, rule.window)


def read_windows(conn: Connection, rule: AlertRule, watch: RuleQuery, *, now: datetime) -> Windows:
    """Return the counts of a rule's window and of its baseline, by subject."""
    since = find_window_start(rule, now)
    found = _tallies(conn, watch, since, now)
    past: list[Mapping[str, MetricTally]] = []
    if watch.baseline is Baseline.PAST_DAYS:
        past = [_tallies(conn, watch, since - BASELINE_DAYS * _DAY, since)]
    elif watch.baseline is Baseline.SAME_HOURS:
        began = conn.execute(select(func.min(stats_hours.c.at))).scalar_one()
        known = [day * _DAY for day in _DAYS if began is not None and began <= since - day * _DAY]
        past = [_tallies(conn, watch, since - back, now - back) for back in known]
    nothing = MetricTally([])
    subjects = [ALL] if watch.by is None else sorted(found)
    return {one: (found.get(one, nothing), [day.get(one, nothing) for day in past]) for one in subjects}


def _tallies(conn: Connection, watch: RuleQuery, since: datetime, until: datetime) -> dict[str, MetricTally]:
    by = () if watch.by is None else (watch.by,)
    grouped: dict[str, list[MetricSum]] = defaultdict(list)
    for one in reports.read_sums(conn, since=since, until=until, by=by, metrics=watch.metrics):
        grouped[one.key[0] if one.key else ALL].append(one)
    return {subject: MetricTally(ones) for subject, ones in grouped.items()}


def read_series(
    conn: Connection, rule: AlertRule, watch: RuleQuery, subject: str, *, now: datetime
) -> tuple[timedelta, list[tuple[datetime, MetricTally]]]:
    """Return the counts of a rule's window step by step, oldest first, and the length of a step."""
    step = choose_step(rule)
    points = reports.read_series(
        conn,
        since=find_window_start(rule, now),
        until=now,
        step=step,
        metrics=watch.metrics,
        client=subject if watch.by is Dimension.CLIENT else None,
        country=subject if watch.by is Dimension.COUNTRY else None,
    )
    grouped: dict[datetime, list[MetricPoint]] = defaultdict(list)
    for point in points:
        grouped[point.at].append(point)
    return step, [(at, MetricTally(ones)) for at, ones in sorted(grouped.items())]


def choose_step(rule: AlertRule) -> timedelta:
    """Return the step of a chart of a rule's window: whole minutes or hours, at most sixty steps."""
    whole = _MINUTE if rule.window <= reports.BY_MINUTE_UP_TO else _HOUR
    return max(1, -(-rule.window // (_MOST_POINTS * whole))) * whole


def find_examples(
    conn: Connection, rule: AlertRule, watch: RuleQuery, subject: str, *, now: datetime
) -> list[UUID]:
    """Return the ids of a few requests that are examples of the problem, newest first."""
    since = find_window_start(rule, now)
    conditions: list[ColumnElement[bool]] = [~_r.is_test]
    if watch.by is Dimension.COUNTRY:
        conditions.append(func.coalesce(_r.country, phone.NO_COUNTRY) == subject)
    if watch.by is Dimension.CLIENT:
        conditions.append(_r.client_id == _client_id(subject))
    if watch.examples is ExampleQuery.WRONG:
        return _unique(conn.execute(_wrong(since, conditions)).scalars())
    ended = watch.examples is ExampleQuery.UNSENT
    scanned = _scanned(_r.finished_at if ended else _r.created_at, since, conditions)
    shown = select(scanned.c.id).where(_shows(watch.examples, scanned))
    return list(conn.execute(shown.order_by(scanned.c.at.desc()).limit(MOST_EXAMPLES)).scalars())


def _client_id(name: str) -> Any:
    return select(clients.c.id).where(clients.c.name == name).scalar_subquery()


def _wrong(since: datetime, conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    return (
        select(checks.c.request_id)
        .join(otp_requests, _r.id == checks.c.request_id)
        .where(checks.c.verdict == CheckVerdict.WRONG, checks.c.started_at >= since, *conditions)
        .order_by(checks.c.started_at.desc())
        .limit(MOST_EXAMPLES * 5)
    )


def _scanned(at: ColumnElement[Any], since: datetime, conditions: Sequence[ColumnElement[bool]]) -> Subquery:
    """Return the newest requests of a window, among which the examples are searched."""
    return (
        select(_r.id, at.label("at"), _r.status, _r.sent_at, _r.verified_at)
        .where(at >= since, *conditions)
        .order_by(at.desc())
        .limit(_MOST_SCANNED)
        .subquery("scanned")
    )


def _shows(wanted: ExampleQuery, scanned: Subquery) -> ColumnElement[bool]:
    one, attempt = scanned.c, send_attempts.c
    of_it = attempt.request_id == one.id
    match wanted:
        case ExampleQuery.UNSENT:
            return or_(one.status == Status.FAILED, and_(one.status == Status.EXPIRED, one.sent_at.is_(None)))
        case ExampleQuery.UNUSED:
            return and_(one.sent_at.is_not(None), one.verified_at.is_(None))
        case ExampleQuery.UNDELIVERED:
            return exists().where(of_it, attempt.delivery == DeliveryState.UNDELIVERED)
        case ExampleQuery.MISCONFIGURED:
            return exists().where(of_it, _for_configuration())
        case ExampleQuery.SERVER_ERROR:
            check = checks.c
            return or_(
                exists().where(of_it, attempt.http_status >= 500),
                exists().where(check.request_id == one.id, check.http_status >= 500),
            )
    return one.id.is_not(None)


def _for_configuration() -> ColumnElement[bool]:
    attempt = send_attempts.c
    return and_(attempt.http_status.in_((401, 403, 404)), attempt.retryable, attempt.code != NUMBER_NOT_FOUND)


def count_configuration_refusals(conn: Connection, rule: AlertRule, *, now: datetime) -> dict[str, int]:
    """Return the codes of sends that were refused because of our configuration, with their counts.

    The most frequent first. The code of a missing template names its language. Only the newest requests of
    the window are read.
    """
    scanned = _scanned(_r.created_at, find_window_start(rule, now), [~_r.is_test])
    code, n = send_attempts.c.code, func.count().label("n")
    rows = conn.execute(
        select(code, n)
        .join_from(scanned, send_attempts, send_attempts.c.request_id == scanned.c.id)
        .where(_for_configuration())
        .group_by(code)
        .order_by(n.desc(), code)
        .limit(MOST_EXAMPLES)
    )
    return {row.code: int(row.n) for row in rows}


def _unique(ids: Iterable[UUID]) -> list[UUID]:
    return list(dict.fromkeys(ids))[:MOST_EXAMPLES]


def find_oldest_event(conn: Connection) -> WaitingEvent | None:
    """Return the event that has waited longest to be added to the statistics, None if there is none."""
    e = stat_events.c
    row = conn.execute(select(e.id, e.at).order_by(e.id).limit(1)).one_or_none()
    return WaitingEvent(id=row.id, at=row.at) if row else None


def read_queue(conn: Connection, *, now: datetime) -> QueueFacts:
    """Return the requests that are due and not claimed."""
    due = (
        select(_r.next_attempt_at)
        .where(_r.send_state == SendState.DUE, _r.next_attempt_at <= now)
        .order_by(_r.next_attempt_at)
        .limit(_MOST_DUE + 1)
        .subquery()
    )
    row = conn.execute(select(func.count(), func.min(due.c.next_attempt_at)).select_from(due)).one()
    return QueueFacts(due=row[0], oldest=row[1])


def find_oldest_due(conn: Connection, *, now: datetime) -> list[UUID]:
    """Return the ids of the requests that have been due for longest."""
    rows = conn.execute(
        select(_r.id)
        .where(_r.send_state == SendState.DUE, _r.next_attempt_at <= now)
        .order_by(_r.next_attempt_at)
        .limit(MOST_EXAMPLES)
    )
    return list(rows.scalars())


def count_failed_calls(conn: Connection, *, now: datetime) -> Mapping[CallFailure, int]:
    """Return the number of failed provider calls in the last five minutes, by cause."""
    since = now.replace(second=0, microsecond=0) - _FAILED_CALLS_OF
    return count_failures(
        MetricTally(reports.read_sums(conn, since=since, until=now, metrics=PROVIDER_CALLS))
    )


def list_disabled_endpoints(conn: Connection) -> list[DisabledEndpoint]:
    """Return the clients' webhook endpoints that were disabled."""
    e = webhook_endpoints.c
    rows = conn.execute(
        select(clients.c.name.label("client"), e.disabled_at, e.disabled_reason.label("reason"))
        .join(clients, clients.c.id == e.client_id)
        .where(e.disabled_at.is_not(None))
        .order_by(clients.c.name)
    )
    return [DisabledEndpoint(**row) for row in rows.mappings()]
