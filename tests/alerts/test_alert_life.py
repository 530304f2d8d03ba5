"""The life cycle of an alert: minimum samples, concurrent evaluations and erasure."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import event, text

from otpqueue import clock
from otpqueue.domain.alerts import MOST_OPEN, AlertState
from otpqueue.domain.errors import AlertNotFound, InvalidRequest
from otpqueue.operations.alerts import lifecycle
from otpqueue.store.engine import connection
from tests.alerts import consistency
from tests.alerts.conftest import MINUTE, Deployment, MakeDeployment, numbers, only
from tests.operations.looking import at_once

SENDS = {"path": "/2fa/2/pin"}
NUMBER = "+447700900123"
OPEN_AT_TWO = only("number_requests") | {"number_requests": {"threshold": 1}}


def execute(deployment: Deployment, statement: str, **values: object) -> list[tuple[object, ...]]:
    """Run a statement and return its rows, if it has any."""
    with connection(deployment.parts.engine) as conn:
        result = conn.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


@contextmanager
def locked(deployment: Deployment, table: str) -> Iterator[None]:
    """Lock a table against reads until the block ends."""
    engine = deployment.parts.engine.execution_options(isolation_level="READ COMMITTED")
    with connection(engine) as conn:
        conn.execute(text(f"LOCK TABLE {table}"))
        yield


def happened(deployment: Deployment, rule: str) -> list[tuple[str, str | None]]:
    """Return what happened to the newest alert of a rule."""
    newest = deployment.parts.alert_admin.list(rule=rule)[0]
    return [(one.what, one.detail) for one in deployment.parts.alert_admin.get(newest.id).history]


def test_idle_system_is_well(deployment: Deployment) -> None:
    """An idle system opens no alert."""
    deployment.evaluate(3)
    deployment.now += timedelta(days=1)
    deployment.evaluate(3)

    assert deployment.parts.alert_admin.list() == []
    assert execute(deployment, "SELECT count(*), sum(opened), sum(closed) FROM alert_evaluations") == [
        (6, 0, 0)
    ]


def test_three_failures_are_too_few(deployment: Deployment) -> None:
    """Three failed requests, or three wrong and expired codes, open no alert."""
    deployment.provider.fault(status=400, times=3, match=SENDS)
    deployment.send(numbers(3))
    tried = numbers(3, first=10)
    for request, number in zip(deployment.send(tried), tried, strict=True):
        deployment.check(request, number, right=False)
    deployment.evaluate(5)
    deployment.parts.expire(now=clock.now() + timedelta(minutes=10))
    deployment.now += timedelta(minutes=10)
    deployment.evaluate(5)

    assert deployment.parts.alert_admin.list() == []


def test_two_evaluations_at_once_open_one_alert(deployment: Deployment) -> None:
    """Of several beats one evaluates."""
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])
    deployment.parts.roll_up()

    found = at_once([lambda: deployment.parts.evaluate_alerts(now=deployment.now)] * 6)

    assert [one.skipped for one in found].count(False) == 1
    assert deployment.rules_open() == ["provider_5xx"]
    assert execute(deployment, "SELECT count(*) FROM alert_notices") == [(1,)]


def test_second_beat_counts_nothing_twice(deployment: Deployment) -> None:
    """What must be bad for two evaluations is not so because two beats look within a minute."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(20))
    deployment.evaluate(only="success_rate")
    soon = deployment.now - MINUTE + timedelta(seconds=20)

    assert deployment.parts.evaluate_alerts(now=soon).skipped

    assert deployment.open("success_rate") == []
    deployment.evaluate(only="success_rate")
    assert len(deployment.open("success_rate")) == 1


def test_clock_that_was_set_back_evaluates(deployment: Deployment) -> None:
    """An evaluation by a clock that was hours ahead does not keep the others from evaluating."""
    deployment.now += timedelta(hours=5)
    deployment.evaluate()
    deployment.now -= timedelta(hours=5)

    deployment.evaluate()


def test_run_is_broken_by_one_good_evaluation(deployment: Deployment) -> None:
    """Bad, good, bad is not twice bad."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(20))
    deployment.evaluate(only="success_rate")
    assert execute(deployment, "SELECT rule, subject, bad FROM alert_pending") == [("success_rate", "all", 1)]
    deployment.now += timedelta(minutes=30)
    deployment.evaluate(only="success_rate")
    assert execute(deployment, "SELECT * FROM alert_pending") == []
    deployment.now -= timedelta(minutes=31)
    deployment.evaluate(only="success_rate")

    assert deployment.open("success_rate") == []


def test_alert_stays_open_while_few_fail(deployment: Deployment) -> None:
    """When traffic drops, the few remaining failures keep the alert open."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(20))
    deployment.evaluate(2, only="success_rate")
    assert len(deployment.open("success_rate")) == 1
    with deployment.after(timedelta(minutes=20)):
        deployment.send(numbers(2, first=50))

    deployment.evaluate(5, only="success_rate")

    (alert,) = deployment.open("success_rate")
    assert (alert.value, alert.sample) == (0, 2)
    values = deployment.parts.alert_admin.get(alert.id).values
    assert [one.sample for one in values] == [20, 2, 2, 2, 2, 2]


def test_attack_on_many_numbers_is_bounded(make_deployment: MakeDeployment) -> None:
    """Of many numbers the worst ones have an alert each, which says how many there are; so has the log."""
    deployment = make_deployment(OPEN_AT_TWO)
    for number in numbers(MOST_OPEN + 5):
        for _ in range(3 if number == NUMBER[:-2] + "07" else 2):
            deployment.ask(number)

    with structlog.testing.capture_logs() as records:
        deployment.evaluate()
        found = deployment.open("number_requests")
        deployment.evaluate()

    assert len(found) == len(deployment.open("number_requests")) == MOST_OPEN
    assert {alert.evidence["figures"]["numbers_over"] for alert in found} == {MOST_OPEN + 5}
    assert [one["subjects"] for one in records if one["event"] == "alerts_held_back"] == [5]


def test_number_counts_during_a_pause_of_beat(make_deployment: MakeDeployment) -> None:
    """After a pause of beat, evaluation continues where it stopped."""
    deployment = make_deployment(OPEN_AT_TWO)
    deployment.now -= timedelta(minutes=2)
    deployment.evaluate()
    for _ in range(2):
        deployment.ask(NUMBER)
    deployment.now += timedelta(minutes=50)

    deployment.evaluate()

    assert len(deployment.open("number_requests")) == 1


def test_rule_that_is_turned_off(make_deployment: MakeDeployment) -> None:
    """Its open alerts are closed and notified as usual, and it opens no more."""
    deployment = make_deployment(OPEN_AT_TWO)
    for _ in range(2):
        deployment.ask(NUMBER)
    deployment.evaluate()
    deployment.parts.notify_alerts(now=deployment.now)
    other = make_deployment({"number_requests": {"off": True}})
    other.now = deployment.now

    other.evaluate()

    assert other.open("number_requests") == []
    assert ("closed", "the rule is off") in happened(other, "number_requests")
    assert other.parts.notify_alerts(now=other.now) == 1


def test_rule_that_cannot_look_leaves_the_others_alone(deployment: Deployment) -> None:
    """A bug in one rule is logged; the others are evaluated, and its own alerts stay as they are."""

    def broken() -> None:
        raise RuntimeError

    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])
    deployment.parts.roll_up()
    evaluate = replace(deployment.parts.evaluate_alerts, circuit=broken)

    with structlog.testing.capture_logs() as records:
        evaluate(now=deployment.now)

    assert deployment.rules_open() == ["provider_5xx"]
    assert [one["rule"] for one in records if one["event"] == "alert_rule_failed"] == ["circuit_open"]


def test_rule_that_takes_too_long_leaves_the_others_alone(deployment: Deployment) -> None:
    """What one rule cannot read in time is logged; the others are evaluated."""
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])

    with locked(deployment, "webhook_endpoints"), structlog.testing.capture_logs() as records:
        deployment.evaluate()

    assert deployment.rules_open() == ["provider_5xx"]
    (late,) = [one for one in records if one["event"] == "alert_rule_not_evaluated"]
    assert (late["rule"], late["reason"]) == ("webhook_disabled", "database_unavailable")


def test_alert_opens_without_evidence(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence that cannot be read in time is logged and missing; the alert opens with its figures."""
    monkeypatch.setattr(lifecycle, "_ALLOWED_S", 1)
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])

    with locked(deployment, "send_attempts"), structlog.testing.capture_logs() as records:
        deployment.evaluate()

    (alert,) = deployment.open()
    assert (alert.rule, alert.evidence["figures"]["http_503"]) == ("provider_5xx", 1)
    assert "requests" not in alert.evidence
    assert [one["rule"] for one in records if one["event"] == "alert_evidence_failed"] == ["provider_5xx"]


def test_counts_that_change_while_a_rule_is_evaluated(deployment: Deployment) -> None:
    """Value, figures, reasons and chart are read of one moment, whatever is counted between the queries."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(25))
    deployment.evaluate(only="success_rate")
    engine = deployment.parts.engine
    doubled = []

    def double(_conn: object, _cursor: object, statement: str, *_: object) -> None:
        if "date_bin" in statement:
            with connection(deployment.parts.health_engine) as conn:
                conn.execute(text("UPDATE stats_minutes SET n = n * 2"))
            doubled.append(True)

    event.listen(engine, "before_cursor_execute", double)
    try:
        deployment.evaluate(only="success_rate")
    finally:
        event.remove(engine, "before_cursor_execute", double)

    (alert,) = deployment.open("success_rate")
    assert doubled
    assert alert.evidence["sample"] == 25
    consistency.check(alert)


def test_statistics_that_stand_still(deployment: Deployment) -> None:
    """Without roll-ups no rule on sums is evaluated. Other rules still are."""
    deployment.provider.fault(status=400, match=SENDS)
    deployment.send(numbers(20))
    deployment.evaluate(2)
    assert len(deployment.open("success_rate")) == 1
    deployment.send(numbers(1, first=30))
    deployment.ask(NUMBER)
    later = deployment.now + timedelta(minutes=30)

    with structlog.testing.capture_logs() as records:
        for minutes in range(4):
            deployment.parts.evaluate_alerts(now=later + minutes * MINUTE)

    assert deployment.rules_open() == ["queue_age", "success_rate"]
    assert [one["event"] for one in records].count("alerts_without_statistics") == 3


def test_late_price_is_no_standstill(deployment: Deployment) -> None:
    """A late event for an old minute does not count as a stopped roll-up."""
    statement = """
        INSERT INTO stat_events (at, client_id, country, channel, metric, label, n, total)
        VALUES (:at, :client, 'GB', 'sms', 'cost', 'EUR', 1, 0.01)
    """
    with structlog.testing.capture_logs() as records:
        for _ in range(3):
            execute(deployment, statement, at=clock.now() - timedelta(hours=1), client=deployment.client_id)
            deployment.parts.evaluate_alerts(now=deployment.now)
            deployment.now += MINUTE
            deployment.evaluate()

    assert "alerts_without_statistics" not in [one["event"] for one in records]


def test_rule_of_another_version(deployment: Deployment) -> None:
    """An alert of a rule that is no more is closed."""
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])
    deployment.evaluate()
    execute(deployment, "UPDATE alerts SET rule = 'rule_of_old'")

    deployment.evaluate()

    assert "rule_of_old" not in deployment.rules_open()


def test_erased_number_is_removed(make_deployment: MakeDeployment) -> None:
    """An erasure removes the number from its alerts.

    An open one closes, and its notification names no number.
    """
    deployment = make_deployment(
        {"number_requests": {"threshold": 1, "opens_after": 2}, "number_wrong_codes": {"threshold": 0}}
    )
    (request,) = deployment.send([NUMBER])
    deployment.check(request, NUMBER, right=False)
    deployment.ask(NUMBER)
    deployment.evaluate()
    assert deployment.rules_open() == ["number_wrong_codes"]
    desk = deployment.parts.alert_admin
    (alert,) = deployment.open()
    desk.silence(rule=alert.rule, subject=alert.subject, until=clock.now() + MINUTE, by="anna")

    counts = deployment.parts.erase(NUMBER, country=None, client_id=None, now=clock.now())

    assert (counts["alerts"], counts["alert_pending"], counts["alert_silences"]) == (1, 1, 1)
    again = deployment.parts.erase(NUMBER, country=None, client_id=None, now=clock.now())
    assert not any(again.values())
    (forgotten,) = deployment.open()
    assert (forgotten.subject, forgotten.evidence) == (None, {})
    with pytest.raises(InvalidRequest):
        desk.silence_alert(alert.id, until=clock.now() + MINUTE, by="anna", reason=None, every_subject=False)
    deployment.evaluate()
    assert deployment.open() == []
    assert ("closed", "the number was erased") in happened(deployment, "number_wrong_codes")


def test_alert_outlives_its_look_up_key(make_deployment: MakeDeployment) -> None:
    """An open alert about a number survives the rotation of the hash key."""
    deployment = make_deployment(OPEN_AT_TWO)
    for _ in range(2):
        deployment.ask(NUMBER)
    deployment.evaluate()
    (before,) = deployment.open("number_requests")
    keys = ",".join(base64.b64encode(key * 32).decode() for key in (b"n", b"h"))
    rotated = make_deployment(OPEN_AT_TWO, OTPQUEUE_HASH_KEY=keys)
    rotated.now = deployment.now

    rotated.parts.rotate_hash(progress=lambda *_: None)
    rotated.ask(NUMBER)
    rotated.evaluate()

    (after,) = rotated.open("number_requests")
    assert (after.id, after.value) == (before.id, 3)


def test_purge_takes_old_alerts(deployment: Deployment) -> None:
    """Closed alerts go with their history when the retention is over; open ones stay."""
    deployment.provider.fault(status=503, times=1, match=SENDS)
    deployment.send([NUMBER])
    deployment.evaluate(only="provider_5xx")
    assert deployment.parts.purge(now=clock.now() + timedelta(days=40))["alerts"] == 0
    deployment.now += timedelta(hours=1)
    deployment.evaluate(3, only="provider_5xx")

    deleted = deployment.parts.purge(now=clock.now() + timedelta(days=40))

    assert deleted["alerts"] == 1
    assert execute(deployment, "SELECT count(*) FROM alert_history") == [(0,)]
    assert deployment.parts.alert_admin.list(state=AlertState.CLOSED) == []


def test_desk_refuses_what_cannot_be(deployment: Deployment) -> None:
    """Unknown rules, past times and texts with a number are rejected with the field's name."""
    desk, soon = deployment.parts.alert_admin, clock.now() + MINUTE
    for field, wanted in (
        ("rule", {"rule": "no_rule"}),
        ("until", {"until": clock.now() - MINUTE}),
        ("until", {"until": clock.now() + timedelta(days=91)}),
        ("subject", {"subject": NUMBER}),
        ("reason", {"reason": f"asked by {NUMBER}"}),
        ("reason", {"reason": "two\nlines"}),
        ("by", {"by": " "}),
    ):
        given = {"rule": "success_rate", "subject": None, "until": soon, "by": "anna", **wanted}
        with pytest.raises(InvalidRequest) as refused:
            desk.silence(**given)  # type: ignore[arg-type]
        assert [one.field for one in refused.value.errors] == [field]
    with pytest.raises(InvalidRequest):
        desk.list(rule="no_rule")
    with pytest.raises(AlertNotFound):
        desk.ack(deployment.client_id, by="anna")
