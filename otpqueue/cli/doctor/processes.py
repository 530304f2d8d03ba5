"""Checks which processes run, by their heartbeats."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version

from otpqueue.cli.doctor.findings import FindingDraft, report_failure, report_ok, report_warning
from otpqueue.cli.doctor.stores import require_database
from otpqueue.domain.heartbeats import Heartbeat, Liveness, ProcessKind, get_liveness
from otpqueue.jobs import QUEUES
from otpqueue.operations.health import MOST_SKEW_S
from otpqueue.store import heartbeats
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts


def check_processes(parts: Parts) -> Iterator[FindingDraft]:
    """Count the API processes, the workers of each queue, and beat, of which there must be one."""
    require_database(parts)
    with connection(parts.engine) as conn:
        living = [one for one in heartbeats.list_heartbeats(conn) if one.is_alive]
    yield _check_role([one for one in living if one.kind is ProcessKind.API], "API", "otpqueue api")
    for queue in QUEUES:
        serving = [one for one in living if one.kind is ProcessKind.WORKER and queue in one.queues]
        yield _check_role(serving, f"worker of the queue {queue}", f"otpqueue worker --queues={queue}")
    beats = [one for one in living if one.kind is ProcessKind.BEAT]
    yield _check_role(beats, "beat", "otpqueue beat")
    if len(beats) > 1:
        yield report_warning(f"{len(beats)} beats run, and each enqueues every job", "Stop all but one.")
    own = version("otpqueue")
    others = sorted({one.version for one in living} - {own})
    if others:
        yield report_warning(
            f"processes of version {', '.join(others)} run beside version {own}",
            "Restart them with the new version after `otpqueue migrate`.",
        )
    for one in living:
        if one.skew_s is not None and abs(one.skew_s) > MOST_SKEW_S:
            yield report_warning(
                f"the clock of {one.process} is {one.skew_s:+.1f} s off that of Postgres",
                "Run NTP on that machine.",
            )


def _check_role(filling: list[Heartbeat], role: str, command: str) -> FindingDraft:
    liveness = get_liveness(*filling)
    if liveness is Liveness.SILENT:
        return report_failure(f"no {role} runs", f"Start `{command}`.")
    if liveness is Liveness.CUT_OFF:
        return report_failure(
            f"{len(filling)} x {role}, cut off from the broker", "Check the broker, and the process's logs."
        )
    return report_ok(f"{len(filling)} x {role}")
