"""What is wrong now, in plain words, worst first, each with what to do: what one reads first at 3 a.m."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from otpqueue.console.words import number, span
from otpqueue.domain.heartbeats import Life
from otpqueue.operations.health import MOST_SKEW_S, Provider
from otpqueue.operations.overview import Overview
from otpqueue.operations.stop_sending import EVERYTHING
from otpqueue.store.queue import MOST

SLOW_S, STUCK_S = 10.0, 30.0
"""A code that has waited so long is late; one that has waited longer is a third of its life behind."""

_FIGURES_LATE = timedelta(minutes=2)
_NEARLY = 0.9


class Level(StrEnum):
    """How bad it is; also a class of the style sheet."""

    BAD = "bad"
    WARN = "warn"
    GOOD = "good"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong."""

    level: Level
    what: str
    """In a few words."""
    means: str
    todo: str
    """What to do, or where to read."""
    link: str | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How everything is, in one line, and what is wrong."""

    level: Level
    headline: str
    findings: tuple[Finding, ...]


def judge(overview: Overview, *, alerts: tuple[Finding, ...], now: datetime) -> Verdict:
    """Return how everything is."""
    found = [
        *_of_stops(overview),
        *_of_parts(overview),
        *_of_queue(overview),
        *alerts,
        *_of_figures(overview, now),
    ]
    found.sort(key=lambda one: list(Level).index(one.level))
    if not found:
        return Verdict(level=Level.GOOD, headline="All is well", findings=())
    return Verdict(level=found[0].level, headline=found[0].what, findings=tuple(found))


def resuming(what: str) -> str:
    """Return the command that ends a stop, by what is stopped."""
    option = "" if what == EVERYTHING else f" --{what}"
    return f"otpqueue resume-sending{option}"


_WHY_REFUSED = "It may be a replica, out of memory, or have an ACL that denies us something. "


def _of_parts(overview: Overview) -> Iterator[Finding]:
    healthy = overview.healthy
    if not healthy.redis:
        yield Finding(
            level=Level.BAD,
            what="Redis refuses to write" if healthy.redis_refuses else "Redis does not answer",
            means="New requests are answered 503: nobody can count them. Codes are checked all the same.",
            todo=f"{_WHY_REFUSED if healthy.redis_refuses else ''}See to Redis. Nothing of ours needs a "
            "restart after it: docs/operations.md",
        )
    if healthy.infobip is Provider.NOT_CONFIGURED:
        yield Finding(
            level=Level.BAD,
            what="Infobip is not set up",
            means="There is no 2FA application to send with: codes wait, for at most 90 s each.",
            todo="Run otpqueue provision: docs/provider.md",
        )
    yield from _of_processes(overview)
    if healthy.infobip is Provider.FAILING:
        yield Finding(
            level=Level.WARN,
            what="Infobip is failing",
            means="Of the calls of the last minutes most had no good answer. Codes are tried again.",
            todo="See the attempts of a failed request, and Infobip's own status page.",
            link="/console/requests?last=15m",
        )
    if healthy.infobip is Provider.PAUSED:
        yield Finding(
            level=Level.BAD,
            what="Infobip does not answer",
            means="Workers pause and try with one code now and then; what waits is sent when it works again.",
            todo="See the attempts of a failed request and Infobip's own status page: docs/operations.md",
            link="/console/requests?last=15m",
        )
    if abs(healthy.skew_s or 0) > MOST_SKEW_S:
        yield Finding(
            level=Level.WARN,
            what="Clocks disagree",
            means=f"A host's clock is {abs(healthy.skew_s or 0):.1f} s off: codes end early, or leave late.",
            todo="Mend its time synchronisation (chronyc tracking).",
        )


def _of_processes(overview: Overview) -> Iterator[Finding]:
    meaning = {
        "send": (
            Level.BAD,
            "No worker sends codes",
            "Codes that are asked for wait, and are given up after 90 s.",
        ),
        "periodic": (
            Level.BAD,
            "No worker sweeps",
            "What a killed worker held is not picked up, codes do not expire, figures stand still.",
        ),
        "slow": (
            Level.WARN,
            "No worker does the slow jobs",
            "Alerts are not evaluated, old data is not deleted.",
        ),
    }
    for queue, life in (overview.healthy.queues or {}).items():
        if life is not Life.RUNNING and queue in meaning:
            level, what, means = meaning[queue]
            cut_off = life is Life.CUT_OFF
            yield Finding(
                level=level,
                what=what,
                means=means,
                todo=f"Workers of the queue {queue} live, but do not hear the broker: see to it."
                if cut_off
                else f"Start one: otpqueue worker --queues={queue}",
            )
    if overview.healthy.beat in {Life.SILENT, Life.CUT_OFF}:
        silent = overview.healthy.beat is Life.SILENT
        yield Finding(
            level=Level.BAD,
            what="Beat is silent" if silent else "Beat does not reach the broker",
            means="No periodic job is started: nothing is swept, expired, counted or evaluated.",
            todo="Start one: otpqueue beat" if silent else "See to the broker, and beat's log.",
        )


def _of_stops(overview: Overview) -> Iterator[Finding]:
    for stop in overview.sending.stops:
        of_it = "" if stop.what == EVERYTHING else " for it"
        yield Finding(
            level=Level.BAD if stop.what == EVERYTHING else Level.WARN,
            what=f"Sending is stopped for {stop.what}",
            means=f"An operator wanted it so: no code leaves{of_it}. Codes in hand can be checked.",
            todo=f"{resuming(stop.what)} lets it go on: docs/sending-policy.md",
        )


def _of_queue(overview: Overview) -> Iterator[Finding]:
    age_s = overview.waited_s
    if age_s is not None and age_s > SLOW_S:
        count = number(overview.queue.due) + (" or more" if overview.queue.due >= MOST else "")
        yield Finding(
            level=Level.BAD if age_s > STUCK_S else Level.WARN,
            what="Codes wait to be sent",
            means=f"{count} wait, the oldest for {span(age_s)}.",
            todo="If Infobip answers, start more workers: otpqueue worker --queues=send",
            link="/console/requests?status=queued",
        )
    for line in overview.sending.lines:
        if line.cap is not None and line.taken >= _NEARLY * line.cap:
            full = line.taken >= line.cap
            yield Finding(
                level=Level.BAD if full else Level.WARN,
                what=f"The daily cap of {line.what} is {'reached' if full else 'nearly reached'}",
                means=f"{number(line.taken)} of {number(line.cap)} codes of today (UTC) have been sent.",
                todo="If that is no attack, raise the cap: docs/sending-policy.md",
                link="/console/countries",
            )


def _of_figures(overview: Overview, now: datetime) -> Iterator[Finding]:
    if overview.counted_until is not None and now - overview.counted_until > _FIGURES_LATE:
        yield Finding(
            level=Level.WARN,
            what="The figures are late",
            means=f"What happened since {overview.counted_until:%H:%M} UTC is not all in them.",
            todo="The job roll_up runs on the queue periodic: see that a worker serves it, and its log.",
        )
