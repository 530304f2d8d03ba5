"""`workers_silent`: API processes detect a queue without workers or a missing beat."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import text

from otpqueue import jobs
from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.operations.alerts.lifecycle import EvaluationResult
from otpqueue.store import heartbeats
from otpqueue.store.engine import connection
from otpqueue.store.heartbeats import ProcessReport
from otpqueue.wiring import Parts
from tests.alerts.conftest import Deployment, MakeDeployment
from tests.alerts.receiving import Inbox, Receivers
from tests.operations.looking import at_once

LOOK = timedelta(seconds=12)
SUBJECTS = ["beat", "queue periodic", "queue send", "queue slow"]


class Watched:
    """Processes that show life or do not, and an API that watches them on a clock of its own."""

    def __init__(self, deployment: Deployment) -> None:
        self.parts, self.now = deployment.parts, deployment.now
        self._deployment = deployment

    def beat(self, kind: ProcessKind, *queues: str, heard: datetime | None = None) -> None:
        """Show that a process lives, and when it heard the broker: now unless given."""
        sign = ProcessReport(
            process=f"{kind}|{'+'.join(queues)}",
            kind=kind,
            queues=queues,
            in_touch=heard is None,
            unheard_s=0 if heard is None else (self.now - heard).total_seconds(),
            version="1",
            running_s=1,
            skew_s=None,
        )
        with connection(self.parts.engine) as conn:
            heartbeats.store_heartbeat(conn, sign)

    def all_beat(self) -> None:
        """Show that beat and a worker of every queue live."""
        self.beat(ProcessKind.BEAT)
        self.beat(ProcessKind.WORKER, "send")
        self.beat(ProcessKind.WORKER, "periodic", "slow")

    def wait(self, pause: timedelta) -> None:
        """Let time pass without heartbeats."""
        self.now += pause
        with connection(self.parts.engine) as conn:
            conn.execute(
                text("UPDATE heartbeats SET seen_at = seen_at - :pause, heard_at = heard_at - :pause"),
                {"pause": pause},
            )

    def look(self) -> EvaluationResult:
        """Look once, some seconds after the last time."""
        self.wait(LOOK)
        found = self.parts.evaluate_workers(now=self.now)
        assert not found.skipped
        return found

    def silent(self) -> list[str | None]:
        """Return the subjects of open alerts."""
        return sorted(alert.subject or "" for alert in self._deployment.open("workers_silent"))


@pytest.fixture
def watched(deployment: Deployment) -> Watched:
    """Return processes under watch."""
    return Watched(deployment)


def test_silence_is_noticed_and_its_end(watched: Watched) -> None:
    """A minute of silence over two evaluations opens an alert. Two heartbeats close it."""
    watched.all_beat()
    watched.look()
    watched.wait(timedelta(seconds=60))
    watched.look()
    assert watched.silent() == []
    watched.look()
    assert watched.silent() == SUBJECTS

    for _ in range(2):
        watched.all_beat()
        watched.look()

    assert watched.silent() == []


def test_one_queue_without_a_worker(watched: Watched) -> None:
    """Only what is silent has an alert, with its figures."""
    for _ in range(8):
        watched.beat(ProcessKind.BEAT)
        watched.beat(ProcessKind.WORKER, "periodic", "slow")
        watched.look()

    assert watched.silent() == ["queue send"]
    (alert,) = watched.parts.alert_admin.list(rule="workers_silent")
    assert alert.evidence["figures"] == {"living": 0, "cut_off": 0}


def test_just_started(watched: Watched) -> None:
    """After its own start the watcher gives other processes a minute."""
    watched.look()
    watched.look()
    watched.all_beat()
    watched.look()

    assert watched.silent() == []


def test_worker_that_does_not_hear_the_broker(watched: Watched) -> None:
    """A running process without contact with the broker counts as silent."""
    watched.all_beat()
    watched.look()
    heard = watched.now
    for _ in range(8):
        watched.all_beat()
        watched.beat(ProcessKind.WORKER, "send", heard=heard)
        watched.look()

    assert watched.silent() == ["queue send"]
    (alert,) = watched.parts.alert_admin.list(rule="workers_silent")
    assert alert.evidence["figures"] == {"living": 1, "cut_off": 1}


def test_notices_are_delivered_without_workers(make_deployment: MakeDeployment) -> None:
    """The API itself delivers the notification once, until workers are back."""
    receivers = Receivers(Inbox())
    watched = Watched(make_deployment(**receivers.settings))
    watched.wait(timedelta(minutes=2))
    for _ in range(3):
        watched.look()
    with receivers.up():
        for _ in range(5):
            watched.wait(timedelta(minutes=5))
            watched.look()
        assert len(receivers.inbox.posts) == len(receivers.inbox.mails) == len(SUBJECTS)
        for _ in range(2):
            watched.all_beat()
            watched.look()

    assert [title.split()[0] for title in receivers.inbox.titles] == ["[CRITICAL]"] * 4 + ["[RESOLVED]"] * 4
    assert (
        "[CRITICAL] shop: a worker or beat is silent (workers_silent: queue send)" in receivers.inbox.titles
    )


def test_processes_of_the_api_watch_together(watched: Watched) -> None:
    """Of many concurrent processes one evaluates."""
    watched.wait(timedelta(minutes=2))
    watch = watched.parts.evaluate_workers
    others = [replace(watch, worked={}) for _ in range(4)]

    found = at_once([lambda one=one: one(now=watched.now) for one in others])

    assert [one.skipped for one in found].count(False) == 1


def test_rule_that_is_off(make_deployment: MakeDeployment) -> None:
    """Nothing is watched, and what was open is closed."""
    on, off = Watched(make_deployment()), Watched(make_deployment({"workers_silent": {"off": True}}))
    on.wait(timedelta(minutes=2))
    for _ in range(2):
        on.look()
    assert on.silent() == SUBJECTS
    off.now = on.now

    off.look()

    assert off.silent() == []


def test_every_queue_is_watched(parts: Parts) -> None:
    """A queue that a job goes to must be served."""
    assert set(parts.evaluate_workers.queues) == {job.queue for job in jobs.ALL}
