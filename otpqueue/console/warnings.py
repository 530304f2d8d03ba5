"""The warnings of the dashboard: faults, worst first, each with its effect and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from urllib.parse import urlencode

from otpqueue.console.formatting import number, span
from otpqueue.domain.heartbeats import Liveness
from otpqueue.domain.provider_calls import CallFailure
from otpqueue.operations.admission.stop_sending import EVERYTHING
from otpqueue.operations.health import MOST_SKEW_S, HealthStatus, ProviderHealth
from otpqueue.operations.stats.overview import Overview
from otpqueue.store.queue import MOST

SLOW_S, STUCK_S = 10.0, 30.0
"""How long a code may be due before that is a warning, and before it is severe."""

_FIGURES_LATE = timedelta(minutes=2)
_NEARLY = 0.9


class Severity(StrEnum):
    """The severity; also a class of the style sheet."""

    BAD = "bad"
    WARN = "warn"
    GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class ConsoleWarning:
    """One fault."""

    level: Severity
    what: str
    """The fault in a few words."""
    means: str
    """Its effect."""
    todo: str
    """What to do, or where to read."""
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSummary:
    """The state of the service in one line, and its warnings."""

    level: Severity
    headline: str
    warnings: tuple[ConsoleWarning, ...]


def summarize(overview: Overview, *, alerts: tuple[ConsoleWarning, ...], now: datetime) -> ServiceSummary:
    """Return the summary."""
    found = [
        *_of_stops(overview),
        *_of_parts(overview),
        *_of_queue(overview),
        *alerts,
        *_of_figures(overview, now),
    ]
    found.sort(key=lambda one: list(Severity).index(one.level))
    if not found:
        return ServiceSummary(level=Severity.GOOD, headline="All systems operational", warnings=())
    return ServiceSummary(level=found[0].level, headline=found[0].what, warnings=tuple(found))


def resume_link(what: str) -> str:
    """Return the page that ends a stop, by what is stopped."""
    kind, _, name = what.partition(" ")
    query = "" if what == EVERYTHING else f"?{urlencode({kind: name})}"
    return f"/console/actions/resume-sending{query}"


def resuming(what: str) -> str:
    """Return the command that ends a stop, by what is stopped."""
    option = "" if what == EVERYTHING else f" --{what}"
    return f"otpqueue resume-sending{option}"


_WHY_REFUSED = "It may be a replica, be out of memory, or have an ACL that denies commands. "


_CHECK_ATTEMPTS = "Check the attempts of a failed request and the status page of Infobip."
_WHAT_TO_DO: dict[CallFailure | None, str] = {
    CallFailure.NO_ANSWER: "Check DNS, firewall and proxy of the workers, then the status page of Infobip.",
    CallFailure.SERVER_ERRORS: "Check the status page of Infobip. Workers resume automatically.",
    CallFailure.REFUSALS: "Check INFOBIP_API_KEY and INFOBIP_BASE_URL: docs/provider.md",
    CallFailure.NOT_FOUND: "Check the application and templates: otpqueue provision, docs/provider.md",
}


def _cause(healthy: HealthStatus) -> str:
    return f": {_CAUSES[healthy.call_failure]}" if healthy.call_failure else ""


_CAUSES = {
    CallFailure.NO_ANSWER: "no connection or no answer",
    CallFailure.SERVER_ERRORS: "it answers with 5xx",
    CallFailure.REFUSALS: "it refuses the API key",
    CallFailure.NOT_FOUND: "it answers with 404",
}


def _of_parts(overview: Overview) -> Iterator[ConsoleWarning]:
    healthy = overview.healthy
    if not healthy.redis:
        yield ConsoleWarning(
            level=Severity.BAD,
            what="Redis refuses to write" if healthy.redis_refuses else "Redis does not answer",
            means="New requests get 503, because they cannot be counted. Codes can still be checked.",
            todo=f"{_WHY_REFUSED if healthy.redis_refuses else ''}Fix Redis. otpqueue needs no restart "
            "after that: docs/operations.md",
        )
    if healthy.infobip is ProviderHealth.NOT_CONFIGURED:
        yield ConsoleWarning(
            level=Severity.BAD,
            what="Infobip is not set up",
            means="There is no 2FA application to send with. Codes wait until their deadline of 90 s.",
            todo="Run otpqueue provision: docs/provider.md",
        )
    yield from _of_processes(overview)
    if healthy.infobip is ProviderHealth.FAILING:
        yield ConsoleWarning(
            level=Severity.WARN,
            what=f"Calls to Infobip fail{_cause(healthy)}",
            means="Most calls of the last minutes failed. Workers retry them.",
            todo=_WHAT_TO_DO.get(healthy.call_failure, _CHECK_ATTEMPTS),
            link="/console/requests?last=15m",
        )
    if healthy.infobip is ProviderHealth.PAUSED:
        yield ConsoleWarning(
            level=Severity.BAD,
            what=f"Sending is paused: calls to Infobip fail{_cause(healthy)}",
            means="The circuit is open: workers send one code from time to time until that succeeds.",
            todo=_WHAT_TO_DO.get(healthy.call_failure, _CHECK_ATTEMPTS),
            link="/console/requests?last=15m",
        )
    if abs(healthy.skew_s or 0) > MOST_SKEW_S:
        yield ConsoleWarning(
            level=Severity.WARN,
            what="The clock of a host is wrong",
            means=f"It is {abs(healthy.skew_s or 0):.1f} s off: codes expire early or are sent late.",
            todo="Fix its time synchronisation (chronyc tracking).",
        )


def _of_processes(overview: Overview) -> Iterator[ConsoleWarning]:
    meaning = {
        "send": (
            Severity.BAD,
            "No worker sends codes",
            "Requested codes wait until their deadline of 90 s.",
        ),
        "periodic": (
            Severity.BAD,
            "No worker serves the queue periodic",
            "Expired leases are not retried, codes do not expire, statistics are not updated.",
        ),
        "slow": (
            Severity.WARN,
            "No worker serves the queue slow",
            "Alerts are not evaluated, webhooks are not sent, old data is not deleted.",
        ),
    }
    for queue, life in (overview.healthy.queues or {}).items():
        if life not in {Liveness.RUNNING, Liveness.STARTING} and queue in meaning:
            level, what, means = meaning[queue]
            cut_off = life is Liveness.CUT_OFF
            yield ConsoleWarning(
                level=level,
                what=what,
                means=means,
                todo=f"Workers of the queue {queue} run but cannot reach the broker. Check the broker."
                if cut_off
                else f"Start a worker: otpqueue worker --queues={queue}",
            )
    if overview.healthy.beat in {Liveness.SILENT, Liveness.CUT_OFF}:
        silent = overview.healthy.beat is Liveness.SILENT
        yield ConsoleWarning(
            level=Severity.BAD,
            what="Beat is not running" if silent else "Beat cannot reach the broker",
            means="No periodic jobs start: no sweeps, expiry, statistics or alerts.",
            todo="Start beat: otpqueue beat" if silent else "Check the broker and the log of beat.",
        )


def _of_stops(overview: Overview) -> Iterator[ConsoleWarning]:
    for stop in overview.sending.stops:
        of_it = "" if stop.what == EVERYTHING else " for it"
        yield ConsoleWarning(
            level=Severity.BAD if stop.what == EVERYTHING else Severity.WARN,
            what=f"Sending is stopped for {stop.what}",
            means=f"An operator stopped it: no codes are sent{of_it}. Codes sent before can be checked.",
            todo=f"Resume with {resuming(stop.what)}: docs/sending-policy.md",
        )


def _of_queue(overview: Overview) -> Iterator[ConsoleWarning]:
    age_s = overview.waited_s
    if age_s is not None and age_s > SLOW_S:
        count = number(overview.queue.due) + (" or more" if overview.queue.due >= MOST else "")
        yield ConsoleWarning(
            level=Severity.BAD if age_s > STUCK_S else Severity.WARN,
            what="Codes wait to be sent",
            means=f"{count} are due, the oldest for {span(age_s)}.",
            todo="If Infobip answers, start more workers: otpqueue worker --queues=send",
            link="/console/requests?status=queued",
        )
    for line in overview.sending.lines:
        if line.cap is not None and line.taken >= _NEARLY * line.cap:
            full = line.taken >= line.cap
            yield ConsoleWarning(
                level=Severity.BAD if full else Severity.WARN,
                what=f"The daily cap of {line.what} is {'reached' if full else 'nearly reached'}",
                means=f"{number(line.taken)} of {number(line.cap)} codes have been sent today (UTC).",
                todo="If this is not an attack, raise the cap: docs/sending-policy.md",
                link="/console/countries",
            )


def _of_figures(overview: Overview, now: datetime) -> Iterator[ConsoleWarning]:
    if overview.counted_until is not None and now - overview.counted_until > _FIGURES_LATE:
        yield ConsoleWarning(
            level=Severity.WARN,
            what="Statistics are behind",
            means=f"Events since {overview.counted_until:%H:%M} UTC are not all counted.",
            todo="The job roll_up runs on the queue periodic: check that a worker serves it, and its log.",
        )
