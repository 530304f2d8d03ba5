"""Heartbeats of real workers, beat and API processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from otpqueue.domain.heartbeats import ProcessKind
from otpqueue.embedded import Valkey
from otpqueue.embedded.home import free_port
from otpqueue.wiring import Parts
from tests.operations.looking import heartbeats, until
from tests.worker.conftest import Start


def test_processes_show_life(start: Start, parts_of: Callable[[Valkey], Parts], own_valkey: Valkey) -> None:
    """Each process reports heartbeats and contact with the broker, and removes them unless killed."""
    parts = parts_of(own_valkey)
    redis = {"REDIS_URL": own_valkey.url, "OTPQUEUE_TUNING_SWEEP_EVERY_S": "1"}
    worker = start("worker", "--queues=periodic,slow", **redis)
    beat = start("beat", **redis)
    api = start("api", f"--port={free_port()}", **redis)

    def at_work() -> set[ProcessKind]:
        return {one.kind for one in heartbeats(parts) if one.is_connected}

    until(lambda: at_work() == {ProcessKind.API, ProcessKind.BEAT, ProcessKind.WORKER}, within_s=60)
    shown = {one.kind: one for one in heartbeats(parts)}
    assert shown[ProcessKind.WORKER].queues == ("periodic", "slow")
    assert {
        kind: one.process.rpartition(":")[2] for kind, one in shown.items() if kind is not ProcessKind.API
    } == {
        ProcessKind.WORKER: str(worker.pid),
        ProcessKind.BEAT: str(beat.pid),
    }

    # Without the broker they live on, and say that they do not hear it.
    own_valkey.stop()
    until(lambda: at_work() == {ProcessKind.API}, within_s=60)
    assert {one.kind for one in heartbeats(parts) if one.is_alive} == {
        ProcessKind.API,
        ProcessKind.BEAT,
        ProcessKind.WORKER,
    }
    own_valkey.start()
    until(lambda: at_work() == {ProcessKind.API, ProcessKind.BEAT, ProcessKind.WORKER}, within_s=60)

    os.kill(worker.pid, signal.SIGKILL)
    for child in (beat, api):
        os.kill(child.pid, signal.SIGTERM)
        child.wait(20)
    until(lambda: [one.kind for one in heartbeats(parts)] == [ProcessKind.WORKER])
