"""The dashboard's warnings and their order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from otpqueue.console.warnings import ConsoleWarning, ServiceSummary, Severity, summarize
from otpqueue.domain.heartbeats import Heartbeat, ProcessKind
from otpqueue.domain.provider_calls import CallFailure
from otpqueue.domain.stats import RECENT_WINDOW, MetricTally
from otpqueue.jobs import QUEUES
from otpqueue.operations.admission.stop_sending import CapUsage, SendingStatus, StopDetails
from otpqueue.operations.health import HealthStatus, ProviderHealth
from otpqueue.operations.stats.overview import COMPARED_RULES, ChartSpan, Comparison, Overview
from otpqueue.store.queue import QueueDepth

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=UTC)


def heartbeat(
    kind: ProcessKind, *queues: str, age_s: float = 1, in_touch: bool = True, skew_s: float = 0
) -> Heartbeat:
    """Return a heartbeat."""
    return Heartbeat(
        process=f"{kind.value}|web-1:1",
        kind=kind,
        queues=queues,
        in_touch=in_touch,
        version="1",
        started_at=NOW,
        seen_at=NOW,
        age_s=age_s,
        idle_s=0,
        skew_s=skew_s,
    )


ALIVE = (heartbeat(ProcessKind.WORKER, *QUEUES), heartbeat(ProcessKind.BEAT))
HEALTHY = HealthStatus(
    database=True, migrated=True, redis=True, infobip=ProviderHealth.CONNECTED, heartbeats=ALIVE
)
NOTHING = Comparison(
    window=RECENT_WINDOW, now=MetricTally(()), minutes=15.5, before=MetricTally(()), minutes_before=15
)
WELL = Overview(
    healthy=HEALTHY,
    queue=QueueDepth(due=0, later=0, claimed=0, due_since=None),
    sending=SendingStatus(stops=(), lines=(CapUsage(what="everything", taken=5, cap=100),)),
    recent=NOTHING,
    of_rules=dict.fromkeys(COMPARED_RULES, NOTHING),
    points=(),
    counted_until=NOW - timedelta(seconds=30),
    at=NOW,
)


def said(overview: Overview, *alerts: ConsoleWarning) -> ServiceSummary:
    """Return the verdict."""
    return summarize(overview, alerts=alerts, now=NOW)


def test_no_warnings() -> None:
    """Without problems there are no warnings."""
    assert said(WELL) == ServiceSummary(level=Severity.GOOD, headline="All systems operational", warnings=())


def of(**changed: object) -> Overview:
    """Return an overview with another health."""
    return replace(WELL, healthy=replace(HEALTHY, **changed))  # type: ignore[arg-type]


def waiting(seconds: float) -> Overview:
    """Return an overview in which codes have waited."""
    depth = QueueDepth(due=7, later=0, claimed=0, due_since=NOW - timedelta(seconds=seconds))
    return replace(WELL, queue=depth)


def stopped(what: str) -> Overview:
    """Return an overview in which something is stopped."""
    stop = StopDetails(what=what, reason=None, stopped_by="ann", stopped_at=NOW)
    return replace(WELL, sending=replace(WELL.sending, stops=(stop,)))


def capped(taken: int) -> Overview:
    """Return an overview with a cap of 100."""
    return replace(
        WELL, sending=replace(WELL.sending, lines=(CapUsage(what="country FR", taken=taken, cap=100),))
    )


SEND = heartbeat(ProcessKind.WORKER, "send")
PERIODIC = heartbeat(ProcessKind.WORKER, "periodic", "slow")
BEAT = heartbeat(ProcessKind.BEAT)


@pytest.mark.parametrize(
    ("overview", "level", "headline"),
    [
        (of(redis=False), Severity.BAD, "Redis does not answer"),
        (of(infobip=ProviderHealth.NOT_CONFIGURED), Severity.BAD, "Infobip is not set up"),
        (of(infobip=ProviderHealth.FAILING), Severity.WARN, "Calls to Infobip fail"),
        (
            of(infobip=ProviderHealth.FAILING, call_failure=CallFailure.SERVER_ERRORS),
            Severity.WARN,
            "Calls to Infobip fail: it answers with 5xx",
        ),
        (
            of(infobip=ProviderHealth.PAUSED, call_failure=CallFailure.NO_ANSWER),
            Severity.BAD,
            "Sending is paused: calls to Infobip fail: no connection or no answer",
        ),
        (
            of(infobip=ProviderHealth.PAUSED, call_failure=CallFailure.SERVER_ERRORS),
            Severity.BAD,
            "Sending is paused: calls to Infobip fail: it answers with 5xx",
        ),
        (
            of(infobip=ProviderHealth.PAUSED, call_failure=CallFailure.REFUSALS),
            Severity.BAD,
            "Sending is paused: calls to Infobip fail: it refuses the API key",
        ),
        (of(infobip=ProviderHealth.PAUSED), Severity.BAD, "Sending is paused: calls to Infobip fail"),
        (of(infobip=ProviderHealth.QUIET), Severity.GOOD, "All systems operational"),
        (of(heartbeats=(PERIODIC, BEAT)), Severity.BAD, "No worker sends codes"),
        (of(heartbeats=(replace(SEND, age_s=600), PERIODIC, BEAT)), Severity.BAD, "No worker sends codes"),
        (
            of(heartbeats=(SEND, heartbeat(ProcessKind.WORKER, "slow"), BEAT)),
            Severity.BAD,
            "No worker serves the queue periodic",
        ),
        (
            of(heartbeats=(SEND, heartbeat(ProcessKind.WORKER, "periodic"), BEAT)),
            Severity.WARN,
            "No worker serves the queue slow",
        ),
        (of(heartbeats=(SEND, PERIODIC)), Severity.BAD, "Beat is not running"),
        (
            of(heartbeats=(SEND, PERIODIC, replace(BEAT, in_touch=False))),
            Severity.BAD,
            "Beat cannot reach the broker",
        ),
        (of(heartbeats=(*ALIVE, replace(SEND, skew_s=-9.0))), Severity.WARN, "The clock of a host is wrong"),
        (waiting(5), Severity.GOOD, "All systems operational"),
        (waiting(15), Severity.WARN, "Codes wait to be sent"),
        (waiting(45), Severity.BAD, "Codes wait to be sent"),
        (stopped("everything"), Severity.BAD, "Sending is stopped for everything"),
        (stopped("country FR"), Severity.WARN, "Sending is stopped for country FR"),
        (capped(89), Severity.GOOD, "All systems operational"),
        (capped(90), Severity.WARN, "The daily cap of country FR is nearly reached"),
        (capped(100), Severity.BAD, "The daily cap of country FR is reached"),
        (
            replace(WELL, counted_until=NOW - timedelta(minutes=5)),
            Severity.WARN,
            "Statistics are behind",
        ),
    ],
)
def test_what_is_wrong(overview: Overview, level: Severity, headline: str) -> None:
    """Each problem has a warning with its severity and a next step."""
    verdict = said(overview)

    assert (verdict.level, verdict.headline) == (level, headline)
    assert all(one.means and one.todo for one in verdict.warnings)


def test_cut_off_worker_needs_no_restart() -> None:
    """If workers run without contact with the broker, the warning points to the broker."""
    (one,) = said(of(heartbeats=(replace(SEND, in_touch=False), PERIODIC, BEAT))).warnings

    assert "cannot reach the broker" in one.todo


STARTING = {"in_touch": False, "heard": False, "idle_s": 3.0}


def test_starting_parts_are_no_warning() -> None:
    """Processes that have just started cause no warning."""
    starting = of(heartbeats=(replace(SEND, **STARTING), PERIODIC, replace(BEAT, **STARTING)))

    assert said(starting).headline == "All systems operational"


def test_worst_first() -> None:
    """A sending stop comes before its consequences, and severe warnings before others, alerts included."""
    alert = ConsoleWarning(level=Severity.BAD, what="Codes are not being sent", means="x", todo="y")
    everything = replace(stopped("everything"), healthy=replace(HEALTHY, infobip=ProviderHealth.FAILING))

    verdict = said(everything, alert)

    assert [one.what for one in verdict.warnings] == [
        "Sending is stopped for everything",
        "Codes are not being sent",
        "Calls to Infobip fail",
    ]


def test_spans_end_with_what_is_running() -> None:
    """An hour is sixty minutes, a day 24 hours, each with the running one as the last."""
    now = datetime(2026, 11, 26, 3, 7, 42, tzinfo=UTC)
    hour, day = ChartSpan.HOUR.times(now), ChartSpan.DAY.times(now)

    assert (len(hour), hour[-1]) == (60, datetime(2026, 11, 26, 3, 7, tzinfo=UTC))
    assert (len(day), day[-1]) == (24, datetime(2026, 11, 26, 3, 0, tzinfo=UTC))
    assert hour[0] == datetime(2026, 11, 26, 2, 8, tzinfo=UTC)
