"""What still works when a part is down, and how that is told."""

from __future__ import annotations

import time

import pytest

from otpqueue.domain.errors import DatabaseUnavailable
from otpqueue.domain.heartbeats import ProcessKind
from tests.api.conftest import Caller, MakeCaller, MakeOtherParts
from tests.api.contract import TIME_TEXT
from tests.conftest import NO_LIMITS, Engines
from tests.operations.looking import show_life

ASK = "/v1/otp-requests"
NIL = "00000000-0000-7000-8000-000000000000"


def test_database_down(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without the database every call with a key is 503, to be tried again."""
    cut_off = caller.over(make_other_parts(DATABASE_URL=f"postgresql://someone:hunter2@{nowhere}/x"))

    answers = [
        cut_off.post(ASK, json={"phone_number": caller.number}),
        cut_off.get(f"{ASK}/{NIL}"),
        cut_off.verify(f"{ASK}/{NIL}", "123456"),
        cut_off.call("DELETE", f"{ASK}/{NIL}"),
    ]

    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (503, "database_unavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        assert "hunter2" not in answer.text
        assert nowhere not in answer.text


def test_database_comes_back(lonely: Caller) -> None:
    """Cut connections cost a call or two: after them all is as before."""
    path = lonely.ask()
    others = "datname = current_database()"
    with pytest.raises(DatabaseUnavailable):  # the connection that asks is cut, too
        lonely.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}")

    first, second = lonely.get(path), lonely.get(path)

    assert first.status_code in {200, 503}
    assert second.status_code == 200


def test_database_is_dropped(lonely: Caller, engines: Engines) -> None:
    """A database that goes away between two calls is 503, not a bug."""
    path = lonely.ask()
    engines.postgres.drop_database(lonely.parts.engine.url.database)

    answers = [lonely.get(path), lonely.post(ASK, json={"phone_number": lonely.number}), lonely.get(path)]
    engines.postgres.create_database(lonely.parts.engine.url.database)  # what comes after looks into it

    assert {answer.json["code"] for answer in answers} == {"database_unavailable"}


def test_redis_down(make_caller: MakeCaller, nowhere: str) -> None:
    """Where no limit needs Redis requests are accepted without it; a sweep sees to the sending."""
    caller = make_caller(**NO_LIMITS, REDIS_URL=f"redis://:hunter2@{nowhere}/0")

    started = time.monotonic()
    path, code = caller.sent()
    took = time.monotonic() - started

    assert caller.verify(path, code).status_code == 200
    assert took < 20


def test_broker_down(make_caller: MakeCaller, nowhere: str) -> None:
    """Without the broker a request is accepted: a wake-up that fails is no error for a caller."""
    caller = make_caller(OTPQUEUE_BROKER_URL=f"redis://{nowhere}/0")
    caller.parts.redis.flushall()

    path = caller.ask()

    assert caller.get(path).json["status"] == "queued"


def test_provider_down(caller: Caller) -> None:
    """Asking for a code does not wait for the provider, nor need it."""
    caller.provider.fault(match={"to": caller.number}, latency_ms=20_000)

    path = caller.ask()

    assert caller.get(path).json["status"] == "queued"
    caller.call("DELETE", path)


def staff(caller: Caller, *queues: str, beat: bool = True) -> None:
    """Let a worker of each of these queues live, and beat unless told otherwise."""
    caller.execute("DELETE FROM heartbeats")
    for queue in queues:
        show_life(caller.parts, f"{queue}:1", *queue.split(","))
    if beat:
        show_life(caller.parts, "beat:1", kind=ProcessKind.BEAT)


@pytest.mark.parametrize("queues", [("send,periodic,slow",), ("send", "periodic,slow")])
def test_healthy(caller: Caller, queues: tuple[str, ...]) -> None:
    """With every part there the service is healthy, in the guide's shape, and needs no key to say so."""
    staff(caller, *queues)
    caller.key = None

    answer = caller.get("/health")

    assert answer.status_code == 200
    body = answer.json
    assert TIME_TEXT.fullmatch(body.pop("timestamp"))
    assert body == {
        "status": "healthy",
        "sending": "on",
        "redis": "connected",
        "infobip": "no recent traffic",
        "database": "connected",
        "workers": "running",
        "beat": "running",
        "clock_skew_s": None,
    }


@pytest.mark.parametrize(
    ("queues", "workers"),
    [
        ((), "silent: send, periodic, slow"),
        (("send", "slow"), "silent: periodic"),
        (("periodic,slow",), "silent: send"),
        (("send,periodic",), "silent: slow"),
    ],
)
def test_silent_workers(caller: Caller, queues: tuple[str, ...], workers: str) -> None:
    """A queue that no worker serves degrades the service, and is named."""
    staff(caller, *queues)

    answer = caller.get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["workers"] == workers


def test_workers_without_their_broker(caller: Caller) -> None:
    """A worker that lives and does not hear the broker is told apart from one that is gone."""
    staff(caller, "send")
    show_life(caller.parts, "host:1", "slow", in_touch=False)

    answer = caller.get("/health")

    assert answer.json["status"] == "degraded"
    assert answer.json["workers"] == "silent: periodic; cut off from the broker: slow"


def test_starting_parts(caller: Caller) -> None:
    """In the first seconds of a start parts are `starting`, which does not degrade the service."""
    staff(caller, "periodic,slow", beat=False)
    show_life(caller.parts, "host:1", "send", starting_for_s=3)
    show_life(caller.parts, "beat:1", kind=ProcessKind.BEAT, starting_for_s=3)

    answer = caller.get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "healthy")
    assert (answer.json["workers"], answer.json["beat"]) == ("starting: send", "starting")


@pytest.mark.parametrize("dead", [True, False])
def test_silent_beat(caller: Caller, dead: bool) -> None:
    """Without beat, or with one that cannot publish, nothing is swept: degraded, whatever the workers do."""
    staff(caller, "send,periodic,slow", beat=False)
    if not dead:
        show_life(caller.parts, "beat:1", kind=ProcessKind.BEAT, in_touch=False)

    answer = caller.get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["workers"] == "running"
    assert answer.json["beat"] == ("silent" if dead else "cut off from the broker")


def test_health_without_redis(make_caller: MakeCaller, nowhere: str) -> None:
    """Without Redis the service is degraded."""
    caller = make_caller(REDIS_URL=f"redis://{nowhere}/0")
    staff(caller, "send,periodic,slow")

    answer = caller.get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert (answer.json["redis"], answer.json["workers"]) == ("unreachable", "running")
    assert caller.get("/health/ready").status_code == 200


def test_health_before_provisioning(caller: Caller, make_other_parts: MakeOtherParts) -> None:
    """Without a 2FA application no code can leave: degraded."""
    staff(caller, "send,periodic,slow")
    fresh = caller.over(make_other_parts(INFOBIP_APP_NAME="another"))

    answer = fresh.get("/health")

    assert (answer.status_code, answer.json["status"]) == (200, "degraded")
    assert answer.json["infobip"] == "not configured"


def test_health_without_the_database(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """Without the database nothing can be served: unhealthy, not ready, yet alive."""
    cut_off = caller.over(make_other_parts(DATABASE_URL=f"postgresql://someone:hunter2@{nowhere}/x"))

    health, ready = cut_off.get("/health"), cut_off.get("/health/ready")

    assert (health.status_code, health.json["status"]) == (503, "unhealthy")
    assert health.json["database"] == "unreachable"
    assert (health.json["workers"], health.json["beat"]) == ("unknown", "unknown")
    assert ready.status_code == 503
    assert "hunter2" not in health.text
    assert cut_off.get("/health/live").json == {"status": "ok"}


def test_health_without_anything(caller: Caller, make_other_parts: MakeOtherParts, nowhere: str) -> None:
    """With every part gone the answer comes all the same."""
    parts = make_other_parts(
        DATABASE_URL=f"postgresql://x@{nowhere}/x",
        REDIS_URL=f"redis://{nowhere}/0",
        INFOBIP_BASE_URL=f"http://{nowhere}",
    )

    answer = caller.over(parts).get("/health")

    assert (answer.status_code, answer.json["status"]) == (503, "unhealthy")
