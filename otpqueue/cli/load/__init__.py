"""`otpqueue load`: a bounded load test against a deployment with the simulator."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from otpqueue.cli.errors import explain_errors
from otpqueue.cli.exits import ExitCode
from otpqueue.cli.load.generator import LoadFigures, LoadGenerator, LoadPlan, generate_numbers
from otpqueue.cli.load.safety import SimulatorInbox, open_simulator, send_canary
from otpqueue.cli.options import json_option, open_parts
from otpqueue.cli.output import print_facts
from otpqueue.cli.target import add_target_options, choose_target

MOST_RATE = 500
MOST_CONNECTIONS = 64
MOST_SECONDS = 300

_DRAINS_WITHIN_S = 10.0
_POLL_S = 0.1


@click.command()
@click.option(
    "--rate",
    type=click.IntRange(1, MOST_RATE),
    default=20,
    show_default=True,
    help="Requests per second.",
)
@click.option(
    "--connections",
    type=click.IntRange(1, MOST_CONNECTIONS),
    default=8,
    show_default=True,
    help="Connections, and thus requests at the same time.",
)
@click.option(
    "--seconds", type=click.IntRange(1, MOST_SECONDS), default=10, show_default=True, help="How long."
)
@add_target_options
@json_option
@explain_errors
def load(
    rate: int, connections: int, seconds: int, *, url: str | None, api_key: str | None, as_json: bool
) -> None:
    """Run a bounded load test against a deployment that uses the simulator.

    It requests codes for numbers that are reserved for audiovisual works, and shows each second how many were
    accepted, how long the answers took, which were refused and how many the simulator sent. It refuses to
    start unless the simulator receives the first code, and with a database that was provisioned at Infobip.

    Limits and caps apply. To measure beyond them, set OTPQUEUE_DAILY_CAP=none and
    OTPQUEUE_LIMIT_KEY_RATE=off for the API and the workers.

    Exit code 1: a request got no answer, or an internal error.
    """
    target = choose_target(url, api_key)
    plan = LoadPlan(rate=rate, connections=connections, seconds=seconds)
    numbers = generate_numbers()
    with open_parts() as parts, closing(open_simulator(parts, target)) as inbox:
        send_canary(target, inbox, next(numbers))
        facts = _run_plan(LoadGenerator(target, plan, numbers), plan, inbox, live=_is_live(as_json=as_json))
    print_facts(facts, _format_summary(facts), as_json=as_json)
    if facts["errors"] or "internal_error" in facts["refused"]:
        raise click.exceptions.Exit(ExitCode.PROBLEM)


def _is_live(*, as_json: bool) -> bool:
    return sys.stderr.isatty() or not as_json


def _run_plan(
    generator: LoadGenerator, plan: LoadPlan, inbox: SimulatorInbox, *, live: bool
) -> dict[str, Any]:
    sent_before = sent = inbox.count_sends()
    accepted = 0

    def show_second(figures: LoadFigures) -> None:
        nonlocal sent, accepted
        now_sent, now_accepted = inbox.count_sends(), figures.accepted
        if live:
            line = _format_second(figures, accepted_per_s=now_accepted - accepted, sent_per_s=now_sent - sent)
            click.echo(line, err=True)
        sent, accepted = now_sent, now_accepted

    took_s = generator.run(on_second=show_second)
    figures = generator.figures
    _wait_for_sends(inbox, sent_before + figures.accepted)
    sent_in_all = inbox.count_sends() - sent_before
    return {
        "rate": plan.rate,
        "connections": plan.connections,
        "seconds": round(took_s, 2),
        "accepted": figures.accepted,
        "accepted_per_s": round(figures.accepted / took_s, 1),
        "latency_ms": figures.compute_percentiles(),
        "refused": dict(figures.refused),
        "errors": dict(figures.errors),
        "not_started": generator.not_started,
        "sent": sent_in_all,
        "not_sent": max(figures.accepted - sent_in_all, 0),
    }


def _wait_for_sends(inbox: SimulatorInbox, expected: int) -> None:
    deadline = time.monotonic() + _DRAINS_WITHIN_S
    while inbox.count_sends() < expected and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _format_second(figures: LoadFigures, *, accepted_per_s: int, sent_per_s: int) -> str:
    refused = ", ".join(f"{count} {code}" for code, count in figures.refused.most_common(3)) or "none"
    return (
        f"accepted {accepted_per_s}/s  {_format_latencies(figures.compute_percentiles())}  "
        f"sent {sent_per_s}/s  refused: {refused}"
    )


def _format_latencies(percentiles: dict[str, float | None]) -> str:
    return "  ".join(f"{name} {'-' if ms is None else f'{ms:g} ms'}" for name, ms in percentiles.items())


def _format_summary(facts: dict[str, Any]) -> Iterator[str]:
    yield f"accepted   {facts['accepted']} in {facts['seconds']} s, {facts['accepted_per_s']}/s"
    yield f"latency    {_format_latencies(facts['latency_ms'])}"
    yield f"sent       {facts['sent']}, {facts['not_sent']} accepted but not sent"
    if facts["not_started"]:
        yield f"waiting    {facts['not_started']} requests not started: all connections were in use"
    for name in ("refused", "errors"):
        for code, count in facts[name].items():
            yield f"{name:<11}{count} {code}"
