"""`GET /v1/otp-requests/{id}/history`: for operators, over all clients."""

from __future__ import annotations

from itertools import pairwise
from uuid import uuid4

import pytest

from tests.api.conftest import Caller, wrong


def as_admin(caller: Caller) -> Caller:
    """Return the caller with a key that may do nothing but administer."""
    caller.key = caller.new_key("admin")
    return caller


def test_history(caller: Caller) -> None:
    """All that happened is answered in order; the contract holds every field, and allows no other."""
    path, code = caller.sent(language="de", session_id="login-1")
    caller.verify(path, wrong(code), session_id="login-1")
    caller.verify(path, code, session_id="login-1")

    answer = as_admin(caller).get(f"{path}/history")

    assert answer.status_code == 200
    told = answer.json
    assert (told["id"], told["client"], told["language"]) == (path.rpartition("/")[2], caller.client, "de")
    assert (told["status"], told["reason"], told["checks_used"]) == ("verified", "code_correct", 2)
    assert [event["kind"] for event in told["events"]] == [
        "accepted",
        "attempt_claimed",
        "attempt_finished",
        "status",
        "check_started",
        "check_finished",
        "check_started",
        "check_finished",
        "status",
    ]
    assert told["events"][0]["at"] == told["created_at"]
    assert told["events"][0]["after_ms"] == 0
    assert all(one["after_ms"] <= other["after_ms"] for one, other in pairwise(told["events"]))
    sent = told["events"][2]["details"]
    assert (sent["outcome"], sent["http_status"], sent["code"]) == ("accepted", 200, "MESSAGE_SENT")
    assert told["events"][-1]["details"] == {
        "was": "sent",
        "became": "verified",
        "reason": "code_correct",
    }


def test_report_and_price(caller: Caller) -> None:
    """A report is told with its price as it was, to the last digit."""
    path, _ = caller.sent()
    request_id = path.rpartition("/")[2]
    caller.execute(
        "INSERT INTO receipts (id, message_id, delivery, status, error, price, currency, received_at,"
        " request_id, attempt) VALUES (gen_random_uuid(), :message, 'undelivered', 'REJECTED', 'EC_X',"
        " 0.00770, 'EUR', now(), :id, 1)",
        id=request_id,
        message=str(uuid4()),
    )

    (told,) = [
        event
        for event in as_admin(caller).get(f"{path}/history").json["events"]
        if event["kind"] == "receipt"
    ]

    assert told["details"]["price"] == "0.00770"
    assert told["summary"] == "report on attempt 1: undelivered, REJECTED, error EC_X, 0.00770 EUR"


def test_nothing_secret(caller: Caller) -> None:
    """Neither number, code, session nor pinId is answered."""
    path, code = caller.sent(session_id="login-1")
    caller.verify(path, code, session_id="login-1")
    (pin_id,) = caller.execute("SELECT pin_id FROM otp_requests WHERE id = :id", id=path.rpartition("/")[2])

    text = as_admin(caller).get(f"{path}/history").text

    assert "*" in text
    for secret in (caller.number[1:], caller.number[-6:], f'"{code}"', "login-1", pin_id[0]):
        assert secret not in text


def test_any_clients_request(caller: Caller) -> None:
    """An operator sees every client's requests here, and by no other call."""
    path = caller.ask()
    asker = caller.client
    caller.key = caller.new_key("send", "verify", "admin", client=f"operator-{uuid4().hex}")

    assert caller.get(f"{path}/history").json["client"] == asker
    assert caller.get(path).status_code == 404
    assert caller.call("DELETE", path).status_code == 404


@pytest.mark.parametrize("scopes", [["send"], ["verify"], ["send", "verify"]], ids=",".join)
def test_scope(caller: Caller, scopes: list[str]) -> None:
    """A key without `admin` does not even learn whether there is such a request."""
    path = caller.ask()
    caller.key = caller.new_key(*scopes)

    for tried in (path, f"/v1/otp-requests/{uuid4()}", "/v1/otp-requests/nonsense"):
        answer = caller.get(f"{tried}/history")
        assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
        assert "admin" in answer.json["detail"]


def test_no_key(caller: Caller) -> None:
    """Without a key nothing is told."""
    path = caller.ask()
    caller.key = None

    assert caller.get(f"{path}/history").status_code == 401


@pytest.mark.parametrize("request_id", ["00000000-0000-7000-8000-000000000000", "nonsense", "%00", "1"])
def test_unknown(caller: Caller, request_id: str) -> None:
    """What is no request's id is a 404."""
    answer = as_admin(caller).get(f"/v1/otp-requests/{request_id}/history")

    assert (answer.status_code, answer.json["code"]) == (404, "request_not_found")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_history_is_only_read(caller: Caller, method: str) -> None:
    """Nobody writes history."""
    path = caller.ask()

    assert as_admin(caller).call(method, f"{path}/history").status_code == 405
