"""Alerts and erasure: no alert or silence names an erased number, also in concurrent runs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from otpqueue import clock
from otpqueue.domain.alerts import derive_tag
from otpqueue.domain.circuit import CircuitState
from otpqueue.domain.errors import InvalidRequest
from otpqueue.store import locks
from otpqueue.store.locks import Lock
from tests.alerts.conftest import MINUTE, Deployment, MakeDeployment
from tests.alerts.test_alert_life import NUMBER, execute
from tests.operations.looking import until

OTHER = "+447700900124"
RULES = {
    "number_requests": {"threshold": 1},
    "number_wrong_codes": {"threshold": 0, "opens_after": 2},
    "check_failures": {"threshold": 0.01, "min_sample": 1, "opens_after": 1},
    "queue_age": {"off": True},
}


@pytest.fixture
def deployment(make_deployment: MakeDeployment) -> Deployment:
    """Return a deployment with low thresholds for the rules about numbers and checks."""
    return make_deployment(RULES)


def erase(deployment: Deployment, number: str = NUMBER) -> dict[str, int]:
    """Erase a number."""
    return dict(deployment.parts.erase(number, country=None, client_id=None, now=clock.now()))


def guess(deployment: Deployment, *numbers: str) -> list[str]:
    """Have a code sent to each number, and a wrong one typed; return the requests' ids."""
    asked = deployment.send(numbers)
    for request, number in zip(asked, numbers, strict=True):
        deployment.check(request, number, right=False)
    return [str(request.id) for request in asked]


@contextmanager
def held(engine: Engine, *, alone: bool) -> Iterator[None]:
    """Hold the lock that erasures share and evaluations take alone."""
    with engine.execution_options(isolation_level="READ COMMITTED").connect() as conn, conn.begin():
        (locks.take if alone else locks.take_shared)(conn, Lock.ERASE)
        yield


def waiting(deployment: Deployment) -> bool:
    """Return whether a session waits for that lock."""
    waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    return execute(deployment, waits) != [(0,)]


def test_requests_are_taken_out_of_alerts_about_others(deployment: Deployment) -> None:
    """An alert about all codes stays as it is but for the erased number's requests among its examples."""
    erased, kept = guess(deployment, NUMBER, OTHER)
    deployment.evaluate()
    (before,) = deployment.open("check_failures")
    assert set(before.evidence["requests"]) == {erased, kept}

    counts = erase(deployment)

    (after,) = deployment.open("check_failures")
    assert after.evidence == {**before.evidence, "requests": [kept]}
    assert counts["alerts"] == 1
    assert erase(deployment)["alerts"] == 0
    assert erase(deployment, OTHER)["alerts"] == 1
    assert deployment.open("check_failures")[0].evidence["requests"] == []


def test_requests_are_removed_from_closed_alerts_too(deployment: Deployment) -> None:
    """Whatever state an alert is in, it names no erased request."""
    (erased,) = guess(deployment, NUMBER)
    deployment.evaluate()
    execute(deployment, "UPDATE alerts SET state = 'closed', closed_at = now()")

    erase(deployment)

    left = execute(deployment, "SELECT 1 FROM alerts WHERE evidence::text LIKE :id", id=f"%{erased}%")
    assert left == []


def test_number_is_erased_while_rules_are_evaluated(deployment: Deployment) -> None:
    """Its earlier counts open no alert afterwards."""
    guess(deployment, NUMBER)
    deployment.ask(NUMBER)
    deployment.parts.roll_up()
    erased = []

    def erases() -> CircuitState:
        """Be asked how the circuit is, which is after numbers were counted."""
        erased.append(erase(deployment))
        return CircuitState.CLOSED

    now = clock.now()
    replace(deployment.parts.evaluate_alerts, circuit=erases)(now=now)

    assert [one["requests"] for one in erased] == [2]
    assert execute(deployment, "SELECT rule FROM alerts WHERE rule LIKE 'number%'") == []
    assert execute(deployment, "SELECT rule FROM alert_pending WHERE number_hash IS NOT NULL") == []
    (alert,) = deployment.open("check_failures")
    assert alert.evidence["requests"] == []


def test_number_that_asks_again_after_its_erasure(deployment: Deployment) -> None:
    """Counts before the erasure are not assigned to a number that returns."""
    for _ in range(2):
        deployment.ask(NUMBER)

    def erases() -> CircuitState:
        erase(deployment)
        deployment.ask(NUMBER)
        return CircuitState.CLOSED

    replace(deployment.parts.evaluate_alerts, circuit=erases)(now=clock.now())

    assert deployment.open("number_requests") == []
    deployment.ask(NUMBER)
    deployment.now += MINUTE
    deployment.evaluate()
    assert [alert.value for alert in deployment.open("number_requests")] == [2]


def test_evaluation_beside_an_erasure_names_nothing(deployment: Deployment) -> None:
    """While an erasure is under way alerts open without examples, and those about numbers a minute later."""
    (request,) = guess(deployment, NUMBER)
    deployment.ask(NUMBER)
    with held(deployment.parts.engine, alone=False):
        deployment.evaluate()
        beside = deployment.rules_open()
        pending = execute(deployment, "SELECT rule FROM alert_pending")
    deployment.evaluate(2)

    assert (beside, pending) == (["check_failures"], [])
    (checks,) = deployment.open("check_failures")
    assert "requests" not in checks.evidence
    assert checks.evidence["figures"]["wrong"] == 1
    assert deployment.rules_open() == ["check_failures", "number_requests", "number_wrong_codes"]
    assert request in deployment.open("number_requests")[0].evidence["requests"]


def test_run_of_a_number_outlasts_an_erasure_of_another(deployment: Deployment) -> None:
    """Earlier bad evaluations survive the erasure of another number."""
    guess(deployment, NUMBER)
    deployment.evaluate()
    assert execute(deployment, "SELECT rule, bad FROM alert_pending") == [("number_wrong_codes", 1)]
    with held(deployment.parts.engine, alone=False):
        deployment.evaluate()
    assert execute(deployment, "SELECT rule, bad FROM alert_pending") == [("number_wrong_codes", 1)]

    deployment.evaluate()

    assert deployment.rules_open() == ["check_failures", "number_wrong_codes"]


def test_erasure_waits_for_the_evaluation_under_way(deployment: Deployment) -> None:
    """It finds what that has stored."""
    deployment.ask(NUMBER)
    with ThreadPoolExecutor(1) as threads:
        with held(deployment.parts.engine, alone=True):
            erasing = threads.submit(erase, deployment)
            until(lambda: waiting(deployment))
            assert not erasing.done()

        assert erasing.result()["requests"] == 1


def test_no_digits_are_stored_of_an_alerts_number(deployment: Deployment) -> None:
    """It is known by its tag; people see it masked for as long as a request tells its last digits."""
    tag = derive_tag(deployment.parts.vault.number_hash(NUMBER))
    for _ in range(2):
        deployment.ask(NUMBER)
    deployment.evaluate()
    (alert,) = deployment.open("number_requests")
    desk = deployment.parts.alert_admin
    made = desk.silence_alert(
        alert.id, until=clock.now() + MINUTE, by="anna", reason=None, every_subject=False
    )

    stored = execute(deployment, "SELECT subject FROM alerts UNION SELECT subject FROM alert_silences")

    assert stored == [(tag,)]
    assert alert.subject == made.subject == desk.silences()[0].subject == f"+44********23 {tag}"
    execute(deployment, "DELETE FROM otp_requests")
    assert desk.get(alert.id).subject == desk.silences()[0].subject == tag


def test_silence_names_a_number_as_its_alerts_do(deployment: Deployment) -> None:
    """It is found by the tag, masked or not, and goes with the number; an unknown one is refused."""
    desk, soon = deployment.parts.alert_admin, clock.now() + timedelta(hours=1)
    for _ in range(2):
        deployment.ask(NUMBER)
    deployment.evaluate()
    (alert,) = deployment.open("number_requests")
    tag = str(alert.subject).split()[-1]
    for subject in (alert.subject, tag):
        assert desk.silence(rule="number_wrong_codes", subject=subject, until=soon, by="anna")
    for subject in ("+44********23", "#bcdfgh", "all", "GB"):
        with pytest.raises(InvalidRequest) as refused:
            desk.silence(rule="number_requests", subject=subject, until=soon, by="anna")
        assert [one.field for one in refused.value.errors] == ["subject"]
    for reason in (f"{tag} is ours", "ours, it ends ***23"):
        with pytest.raises(InvalidRequest) as refused:
            desk.silence(rule="success_rate", subject=None, until=soon, by="anna", reason=reason)
        assert [one.field for one in refused.value.errors] == ["reason"]

    assert erase(deployment)["alert_silences"] == 2
    assert desk.silences() == []
    with pytest.raises(InvalidRequest):
        desk.silence(rule="number_requests", subject=tag, until=soon, by="anna")
