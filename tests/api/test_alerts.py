"""`/v1/alerts`: what operators see of alerts, acknowledge and silence."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from otpqueue import clock
from otpqueue.domain.alerts import derive_tag
from tests.api.conftest import Caller, MakeCaller

SHAPE = [
    *("id", "rule", "subject", "state", "value", "threshold", "window_s", "sample", "opened_at", "closed_at"),
    *("evaluated_at", "acknowledged_at", "acknowledged_by", "silenced_until", "evidence"),
]

NIL = "00000000-0000-7000-8000-000000000000"


@pytest.fixture
def operator(make_caller: MakeCaller) -> Caller:
    """Return an operator of a deployment in which two requests of one number have opened an alert."""
    caller = make_caller(
        OTPQUEUE_ALERT_RULES='{"number_requests": {"threshold": 1}, "queue_age": {"off": true}}',
    )
    caller.execute("TRUNCATE alerts, alert_silences, alert_evaluations, otp_requests CASCADE")
    caller.key = caller.new_key("send", "admin")
    for _ in range(2):
        caller.ask()
    evaluate(caller)
    return caller


def evaluate(caller: Caller, after: timedelta = timedelta()) -> None:
    """Evaluate the rules, some time from now."""
    assert not caller.parts.evaluate_alerts(now=clock.now() + after).skipped


def listed(caller: Caller, query: str = "") -> list[dict[str, Any]]:
    """Return the alerts that a query lists."""
    answer = caller.get("/v1/alerts", query_string=query)
    assert answer.status_code == 200
    found: list[dict[str, Any]] = answer.json["alerts"]
    return found


def test_alert_has_its_shape(operator: Caller) -> None:
    """An alert has all that is known of it, and the number only masked."""
    (alert,) = listed(operator)

    assert list(alert) == SHAPE
    tag = derive_tag(operator.parts.vault.number_hash(operator.number))
    assert alert["subject"] == f"+44********{operator.number[-2:]} {tag}"
    assert (alert["rule"], alert["state"], alert["value"], alert["threshold"]) == (
        "number_requests",
        "open",
        2,
        1,
    )
    assert (alert["window_s"], alert["sample"], alert["closed_at"]) == (3600, 2, None)
    assert alert["evidence"]["figures"] == {"accepted": 2, "refused": 0, "numbers_over": 1}
    assert len(alert["evidence"]["requests"]) == 2
    assert operator.number not in str(alert)


def test_alerts_are_filtered(operator: Caller) -> None:
    """By state and by rule; the newest come first, and no more than asked for."""
    assert len(listed(operator, "state=open&rule=number_requests")) == 1
    assert listed(operator, "state=closed") == listed(operator, "rule=success_rate") == []
    for minutes in range(3):
        evaluate(operator, after=timedelta(hours=2, minutes=minutes))

    (closed,) = listed(operator, "state=closed&limit=1")

    assert closed["state"] == "closed"
    assert closed["closed_at"] > closed["opened_at"]
    assert listed(operator, "state=open") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=ajar", "state"),
        ("rule=no_rule", "rule"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("colour=red", "colour"),
    ],
)
def test_bad_query(operator: Caller, query: str, field: str) -> None:
    """What cannot be asked for is told by the parameter's name."""
    answer = operator.get("/v1/alerts", query_string=query)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert [one["field"] for one in answer.json["errors"]] == [field]


def test_acknowledging(operator: Caller) -> None:
    """It is noted who has seen it and when; the second time changes nothing."""
    (alert,) = listed(operator)
    path = f"/v1/alerts/{alert['id']}/acknowledge"

    first, second = operator.post(path), operator.post(path)

    assert first.json["acknowledged_by"] == f"client {operator.client}"
    assert first.json["acknowledged_at"]
    assert first.json == second.json == listed(operator)[0]


def test_silencing(operator: Caller) -> None:
    """An alert's subject is silenced for an hour, or as long as wanted, or its whole rule."""
    (alert,) = listed(operator)
    path = f"/v1/alerts/{alert['id']}/silence"
    hour, day = clock.now() + timedelta(hours=1), clock.now() + timedelta(days=1)

    answer = operator.post(path)
    assert (
        hour.isoformat()[:15]
        <= answer.json["silenced_until"][:15]
        <= (hour + timedelta(minutes=10)).isoformat()[:15]
    )
    answer = operator.post(path, json={"for_s": 86_400, "reason": "we know", "every_subject": True})

    assert answer.json["silenced_until"] >= day.isoformat()[:19]
    silences = operator.parts.alert_admin.silences()
    assert [(one.rule, one.subject, one.reason) for one in silences] == [
        ("number_requests", alert["subject"], None),
        ("number_requests", None, "we know"),
    ]
    assert {one.silenced_by for one in silences} == {f"client {operator.client}"}


@pytest.mark.parametrize(
    "body",
    [
        {"for_s": 59},
        {"for_s": 7_776_001},
        {"for_s": "3600"},
        {"until": "tomorrow"},
        {"reason": "+447911123456"},
    ],
)
def test_bad_silence(operator: Caller, body: dict[str, Any]) -> None:
    """A time that is none, a field that is none, and a number among the reasons are refused."""
    (alert,) = listed(operator)

    answer = operator.post(f"/v1/alerts/{alert['id']}/silence", json=body)

    assert (answer.status_code, answer.json["code"]) == (400, "invalid_request")
    assert "447911" not in answer.text


@pytest.mark.parametrize("what", ["acknowledge", "silence"])
@pytest.mark.parametrize("alert_id", ["01234567-89ab-7def-8123-456789abcdef", "no-uuid"])
def test_no_such_alert(operator: Caller, what: str, alert_id: str) -> None:
    """An id that is no alert's is a 404."""
    answer = operator.post(f"/v1/alerts/{alert_id}/{what}")

    assert (answer.status_code, answer.json["code"]) == (404, "alert_not_found")


def test_operators_alone(operator: Caller) -> None:
    """Without the scope `admin` nothing is told or taken down."""
    operator.key = operator.new_key("send", "verify")
    calls = [
        ("GET", "/v1/alerts"),
        ("POST", f"/v1/alerts/{NIL}/acknowledge"),
        ("POST", f"/v1/alerts/{NIL}/silence"),
    ]

    answers = [operator.call(method, path) for method, path in calls]

    assert {(one.status_code, one.json["code"]) for one in answers} == {(403, "missing_scope")}
