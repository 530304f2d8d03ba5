"""The health check distinguishes its parts, and never raises for one that is down."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text

from otpqueue import clock
from otpqueue.domain.heartbeats import Liveness, ProcessKind
from otpqueue.operations.health import MOST_SKEW_S, ProviderHealth
from otpqueue.store.engine import connection
from otpqueue.wiring import Parts
from tests.conftest import Ask, MakeParts
from tests.conftest import Provider as Simulator
from tests.operations.looking import show_life


def staff(parts: Parts) -> None:
    """Write heartbeats of all required processes."""
    show_life(parts, "host:1", "periodic", "send", "slow")
    show_life(parts, "host:2", kind=ProcessKind.BEAT)


def test_everything_works(parts: Parts) -> None:
    """With Postgres, Redis, provider ids, beat and a worker for each queue the service is healthy."""
    staff(parts)

    healthy = parts.health(now=clock.now())

    assert (healthy.database, healthy.redis, healthy.infobip) == (True, True, ProviderHealth.QUIET)
    assert healthy.queues == {
        "send": Liveness.RUNNING,
        "periodic": Liveness.RUNNING,
        "slow": Liveness.RUNNING,
    }
    assert healthy.beat is Liveness.RUNNING
    assert healthy.serves
    assert healthy.whole


def test_missing_workers_are_named(parts: Parts) -> None:
    """Queues without a worker are named. Calls are answered, but codes would not be sent."""
    silent = parts.health(now=clock.now())
    show_life(parts, "host:1", "send")
    show_life(parts, "host:2", kind=ProcessKind.BEAT)
    some = parts.health(now=clock.now())

    assert silent.queues == {"send": Liveness.SILENT, "periodic": Liveness.SILENT, "slow": Liveness.SILENT}
    assert some.queues == {"send": Liveness.RUNNING, "periodic": Liveness.SILENT, "slow": Liveness.SILENT}
    assert some.serves
    assert not some.whole


def test_worker_is_no_beat(parts: Parts) -> None:
    """Workers of all queues do not replace beat."""
    show_life(parts, "host:1", "periodic", "send", "slow")

    healthy = parts.health(now=clock.now())

    assert healthy.beat is Liveness.SILENT
    assert not healthy.whole


def test_silent_and_cut_off_processes_do_not_count(parts: Parts) -> None:
    """A process without a heartbeat for 15 s counts as gone. One without its broker is reported."""
    show_life(parts, "host:1", "send", ago_s=10)
    show_life(parts, "host:2", "periodic", ago_s=20)
    show_life(parts, "host:3", "slow", in_touch=False)
    show_life(parts, "host:4", kind=ProcessKind.BEAT, in_touch=False)

    healthy = parts.health(now=clock.now())

    assert healthy.queues == {"send": Liveness.RUNNING, "periodic": Liveness.SILENT, "slow": Liveness.CUT_OFF}
    assert healthy.beat is Liveness.CUT_OFF
    assert not healthy.whole


@pytest.mark.parametrize("ahead", [1, -1])
def test_clocks_that_disagree(parts: Parts, ahead: int) -> None:
    """A host with a clock far off Postgres's is reported, because other hosts enforce its deadlines."""
    staff(parts)
    healthy = parts.health(now=clock.now())
    assert healthy.heartbeats
    one, *others = healthy.heartbeats

    def off_by(seconds: float) -> bool:
        return replace(healthy, heartbeats=(replace(one, skew_s=seconds * ahead), *others)).whole

    assert healthy.skew_s is None
    assert off_by(MOST_SKEW_S - 0.1)
    assert not off_by(MOST_SKEW_S + 0.1)


def test_not_provisioned(parts: Parts, make_parts: MakeParts) -> None:
    """Before provisioning the provider counts as down."""
    staff(parts)

    healthy = make_parts(INFOBIP_APP_NAME="other").health(now=clock.now())

    assert healthy.infobip is ProviderHealth.NOT_CONFIGURED
    assert healthy.serves
    assert not healthy.whole


def test_redis_down(parts: Parts, make_parts: MakeParts, closed_port: int) -> None:
    """Without Redis calls are still answered, and workers are still seen."""
    staff(parts)

    healthy = make_parts(REDIS_URL=f"redis://127.0.0.1:{closed_port}/0").health(now=clock.now())

    assert (healthy.database, healthy.redis, healthy.infobip) == (True, False, ProviderHealth.QUIET)
    assert healthy.beat is Liveness.RUNNING
    assert healthy.serves
    assert not healthy.whole


def test_database_down(make_parts: MakeParts, closed_port: int) -> None:
    """Without Postgres no call can be answered, and the state of the workers is unknown."""
    healthy = make_parts(DATABASE_URL=f"postgresql://app@127.0.0.1:{closed_port}/app").health(now=clock.now())

    assert (healthy.database, healthy.redis, healthy.infobip) == (False, True, ProviderHealth.UNKNOWN)
    assert (healthy.queues, healthy.beat, healthy.skew_s) == (None, None, None)
    assert not healthy.serves
    assert not healthy.whole


def test_database_without_tables_does_not_serve(parts: Parts) -> None:
    """A database without the schema is distinguished from one that is down. Neither can serve."""
    with connection(parts.engine) as conn:
        conn.execute(text("ALTER TABLE provider_ids RENAME TO away"))

    try:
        healthy = parts.health(now=clock.now())
    finally:
        with connection(parts.engine) as conn:
            conn.execute(text("ALTER TABLE away RENAME TO provider_ids"))

    assert healthy.database
    assert not healthy.migrated
    assert not healthy.serves


@pytest.mark.parametrize(
    ("age_s", "beat"), [(1, Liveness.STARTING), (19, Liveness.STARTING), (21, Liveness.CUT_OFF)]
)
def test_new_processes_are_starting(parts: Parts, age_s: float, beat: Liveness) -> None:
    """A process that has not reached the broker yet is starting for 20 s, and cut off after that."""
    show_life(parts, "host:1", "periodic", "send", "slow")
    show_life(parts, "host:2", kind=ProcessKind.BEAT, starting_for_s=age_s)

    healthy = parts.health(now=clock.now())

    assert healthy.beat is beat
    assert healthy.whole == (beat is Liveness.STARTING)


def test_process_that_lost_the_broker_is_not_starting(parts: Parts) -> None:
    """A new process that has reached the broker and then lost it is cut off."""
    show_life(parts, "host:1", "send", in_touch=False)
    show_life(parts, "host:3", "send", in_touch=False, ago_s=20)

    healthy = parts.health(now=clock.now())

    assert healthy.queues == {"send": Liveness.CUT_OFF, "periodic": Liveness.SILENT, "slow": Liveness.SILENT}


@pytest.mark.parametrize(
    ("fault", "state", "said"),
    [
        ({"latency_ms": 0}, ProviderHealth.CONNECTED, "connected"),
        ({"status": 400}, ProviderHealth.CONNECTED, "connected"),
        ({"status": 500}, ProviderHealth.FAILING, "failing: answers 5xx"),
        ({"drop": "after"}, ProviderHealth.FAILING, "failing: no answer"),
        ({"status": 401}, ProviderHealth.PAUSED, "paused: answers 401 or 403"),
    ],
)
def test_provider_shows_in_traffic(
    make_parts: MakeParts,
    ask: Ask,
    provider: Simulator,
    fault: dict[str, Any],
    state: ProviderHealth,
    said: str,
) -> None:
    """The state of Infobip and its cause follow from recent sends. The health check makes no call itself."""
    parts = make_parts(
        OTPQUEUE_TUNING_JOB_S="0.3", OTPQUEUE_UNKNOWN_RESENDS="0", OTPQUEUE_TUNING_MAX_ATTEMPTS="3"
    )
    staff(parts)
    provider.fault(**fault)
    ask()
    parts.pump.run()
    parts.roll_up()
    provider.fault(status=500)

    healthy = parts.health(now=clock.now())

    assert healthy.infobip is state
    assert healthy.infobip_status == said
    assert healthy.whole == (state is ProviderHealth.CONNECTED)


def test_old_trouble_of_the_provider_is_over(parts: Parts, ask: Ask, provider: Simulator) -> None:
    """Calls from more than five minutes ago do not count, and recent successes take precedence."""
    provider.fault(status=400, times=1)
    ask()
    parts.pump.run()
    parts.roll_up()
    with connection(parts.engine) as conn:
        conn.execute(text("UPDATE stats_minutes SET label = '503' WHERE metric = 'provider_sends'"))
        failing = parts.health(now=clock.now()).infobip
        conn.execute(text("UPDATE stats_minutes SET at = at - interval '3 minutes'"))
        minutes_ago = parts.health(now=clock.now()).infobip
        ask()
        parts.pump.run()
        parts.roll_up()
        since = parts.health(now=clock.now()).infobip
        conn.execute(text("UPDATE stats_minutes SET at = at - interval '10 minutes'"))
        long_ago = parts.health(now=clock.now()).infobip

    assert [failing, minutes_ago, since] == [
        ProviderHealth.FAILING,
        ProviderHealth.FAILING,
        ProviderHealth.CONNECTED,
    ]
    assert long_ago is ProviderHealth.QUIET
